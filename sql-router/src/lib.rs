//! What a SQL text does, told from the text alone. No I/O, and nothing but std.
//!
//! [`scan`] cuts a text into words; [`effects`] tells what each statement leaves behind in its session.
//! [`classify`](classify::classify) tells which statements a standby can run; [`cache`] remembers it.
//! [`fingerprint`] gives texts of one shape one name; [`template`] finds what is known of a text that differs from one
//! that was seen before in its numbers and strings only.
//! All take hostile text: they end in time linear to its length, hold no more than it, and never panic.
//!
//! There is no parser. sqlparser 0.63 failed on 278 of 5,031 queries of PostgreSQL's regression tests that PostgreSQL
//! runs, and took 4.6 us for a statement of pgbench for which the tokens take 0.8 us. Its tree would also err the wrong
//! way: a node that nobody thought of is a write taken for a read, while a token that nobody thought of is a read taken
//! for a write. `pooler/design/classification.md` has the whole story.

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
pub mod reach;
pub mod scan;
pub mod statement;
pub mod syntax;
pub mod template;
pub mod token;
mod transaction;
