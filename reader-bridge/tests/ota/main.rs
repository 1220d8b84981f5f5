//! The agent in a scripted world: the real applet, a server of the test's own, cuts wherever something is done.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may fail by panic"
)]

mod cuts;
mod jobs;
mod server;
mod strings;
mod world;
