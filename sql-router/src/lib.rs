//! What a SQL text does, told from the text alone. No I/O, and nothing but std.
//!
//! [`scan`] cuts a text into words; [`effects`] tells what each statement leaves behind in its session. Both take
//! hostile text: they end in time linear to its length, hold no more than it, and never panic.

pub mod effects;
pub mod ending;
pub mod scan;
