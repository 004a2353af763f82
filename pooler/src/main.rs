//! Arguments -> settings -> run.

fn main() {}
