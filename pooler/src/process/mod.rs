//! The process: logs, signals, reload, drain.
