//! LISTEN and NOTIFY in transaction mode: one listening connection per cluster and database, for all clients.
//!
//! `subscriptions` is what one session listens on, with PostgreSQL's transaction rules; `inbox` is what waits for
//! its client; `roster` is which worker wants which channel. The `hub` on the control thread keeps the listening
//! connections; each worker has a `desk` that speaks with it, and a session that listens has a `listener`.

mod audience;
mod connection;
mod desk;
mod hub;
mod inbox;
mod keeper;
mod lead;
mod line;
mod listener;
mod news;
mod roster;
pub mod subscriptions;

pub use audience::Audience;
pub use desk::Desk;
pub use hub::start;
pub use listener::{Gate, Listener};
pub use news::{Ask, HubOrder, Item, News, Notification, Question, Station, Token};

#[cfg(test)]
mod tests;
