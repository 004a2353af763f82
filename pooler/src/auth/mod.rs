//! Who may log in, and how it is proven. Pure: rules, secrets and exchanges; the sockets are elsewhere.
//!
//! A client's way in: [`throttle`] says whether its address may try, [`hba`] which rule is about it, [`lookup`] keeps
//! what the server said about its secret, [`client_login`] plays the exchange and says what was proven.
//! [`server_login`] logs in to a server with that, or with a secret of our own. Nothing shows a secret in `Debug`,
//! in an error or in a log.

mod bounded;
pub mod channel_binding;
pub mod client_login;
pub mod hba;
pub mod key_cache;
pub mod lookup;
mod messages;
pub mod name_map;
pub mod secret;
pub mod server_login;
pub mod throttle;
mod tokens;
pub mod userlist;
