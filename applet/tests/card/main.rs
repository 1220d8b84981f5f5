//! The card from outside: commands in, answers out, and power that fails.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "in a test's helpers a failure is a panic that names it"
)]

mod common;
mod vectors;
