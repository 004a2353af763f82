//! Who may log in, and how it is proven. Pure: rules, secrets and exchanges; the sockets are elsewhere.

pub mod hba;
pub mod name_map;
pub mod secret;
mod tokens;
pub mod userlist;
