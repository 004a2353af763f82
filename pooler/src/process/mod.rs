//! The process: arguments, logs, limits, signals, reload, drain, and the commands besides the server.

pub mod arguments;
pub mod commands;
pub mod demo;
pub mod health;
pub mod limits;
pub mod logging;
pub mod manual;
pub mod pid_file;
pub mod route;
pub mod run;
