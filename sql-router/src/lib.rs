//! What a SQL text does, told from the text alone. No I/O, and nothing but std.
//!
//! [`scan`] cuts a text into words; [`effects`] tells what each statement leaves behind in its session.
//! [`classify`](classify::classify) tells which statements a standby can run; [`cache`] remembers it.
//! [`fingerprint`] gives texts of one shape one name.
//! All take hostile text: they end in time linear to its length, hold no more than it, and never panic.

pub mod cache;
pub mod calls;
pub mod classify;
pub mod clean;
pub mod effects;
pub mod ending;
pub mod fingerprint;
pub mod functions;
pub mod hints;
pub mod keywords;
pub mod knowledge;
mod query;
pub mod scan;
pub mod statement;
pub mod token;
mod transaction;
