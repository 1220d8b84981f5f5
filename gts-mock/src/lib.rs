//! The Global Triggering Server: by name a mock, by quality a server.
//!
//! It answers polls over UDP ([`engine`] decides, [`server`] carries), keeps subscriptions and their
//! messages ([`store`]), and listens to operators on a local socket ([`admin`]). Begin with
//! [`Server::builder`].

pub mod admin;
pub mod cli;
pub mod engine;
pub mod import;
pub mod server;
pub mod store;

pub use server::{Builder, Server, ServerError};
