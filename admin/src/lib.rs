//! The operator's surface of Hawser: the console that psql and PgBouncer's tools talk to, metrics, and HTTP.
//!
//! It knows questions and orders, not the pooler. [`door`] is all that an operator can ask or do, on one page;
//! [`tables`] makes rows of the answers, the same for console, API and tests; [`console`] speaks the protocol, [`metrics`] and
//! [`http`] serve machines.

pub mod console;
pub mod door;
pub mod http;
pub mod metrics;
pub mod tables;
