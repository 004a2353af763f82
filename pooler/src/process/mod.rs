//! The process: logs, signals, reload, drain.

pub mod run;
