//! Which host a batch goes to: the verdicts of its texts, what the session asks for, and how fresh the standbys are.
//!
//! [`decide`] chooses, [`wishes`] is what session and settings ask for, [`balance`] knows how busy the standbys are.
//! The [`Router`] of a worker holds what these need: the verdicts of texts, and what databases know of their functions.

pub mod balance;
pub mod decide;
mod knowledge;
mod router;
pub mod verdicts;
pub mod wishes;

pub use knowledge::Known;
pub use router::{Attempt, Common, Counts, Router, Scope};
