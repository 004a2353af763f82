//! Hawser: a PostgreSQL connection pooler and router that applications need not know about.
//!
//! # Layout
//!
//! Arrows go one way: process -> worker -> session -> relay -> server -> wire. `ARCHITECTURE.md` is the map.

pub mod auth;
pub mod balance;
pub mod catalog;
pub mod config;
pub mod control;
pub mod endings;
pub mod ids;
pub mod listener;
pub mod mailbox;
pub mod notify;
pub mod parameters;
pub mod pins;
pub mod pool;
pub mod process;
pub mod relay;
pub mod report;
pub mod route;
pub mod runtime;
pub mod scratch;
pub mod server;
pub mod session;
pub mod shapes;
pub mod statements;
pub mod stopwatch;
pub mod stream;
pub mod topology;
pub mod worker;
