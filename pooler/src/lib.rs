//! Hawser: a PostgreSQL connection pooler and router that applications need not know about.
//!
//! # Layout
//!
//! Arrows go one way: process -> worker -> session -> relay -> server -> wire. `ARCHITECTURE.md` is the map.

pub mod auth;
pub mod config;
pub mod process;
pub mod scratch;
