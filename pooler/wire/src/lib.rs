//! The PostgreSQL wire protocol as data (PostgreSQL manual, chapter "Frontend/Backend Protocol").
//!
//! Nothing in here touches a socket, a clock or a log: bytes and time are arguments. Every parser takes
//! hostile bytes and answers with a value or an error of its own; none panics.

pub mod backend;
pub mod encode;
pub mod frame;
pub mod frontend;
pub mod md5;
pub mod reply_queue;
pub mod scram;
pub mod sqlstate;
pub mod startup;
pub mod tag;
