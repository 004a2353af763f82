//! A scripted client: it says exactly the bytes that a test wants, and looks at each message that comes back.
//!
//! [`messages`] makes frontend messages, [`Client`] sends and expects, [`Backend`] is a message that came back.

mod backend;
mod client;
pub mod messages;
mod tls;

pub use backend::{Backend, row, rows, sqlstate_of, sqlstates, status, tags};
pub use client::{CancelKey, Client};
pub use tls::TlsOptions;
