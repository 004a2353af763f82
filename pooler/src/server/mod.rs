//! Server connections: how they are made, what they are, and when one may serve another client.
//!
//! Nothing in here knows of pools or sessions.

pub mod cancel;
pub mod checkin;
pub mod connection;
pub mod dial;
pub mod exchange;
pub mod identity;
pub mod recover;
