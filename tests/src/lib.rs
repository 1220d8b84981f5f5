//! What the end-to-end tests stand on: real processes, private readers, a lossy link.
//!
//! Owns starting and ending them without leaving anything behind. Refuses to know the wire format: a
//! test says what the bytes mean. A failure here is a panic that names what was waited for and shows
//! the log of the process concerned.
#![allow(
    clippy::panic,
    clippy::expect_used,
    reason = "support code of tests: a failure is a panic that names it"
)]

pub mod binaries;
pub mod card_client;
pub mod pcscd;
pub mod ports;
pub mod process;
pub mod relay;
pub mod suite;
