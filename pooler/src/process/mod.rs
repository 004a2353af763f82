//! The process: logs, signals, reload, drain.

pub mod demo;
pub mod run;
