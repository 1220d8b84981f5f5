//! The card from outside: commands in, answers out, and power that fails.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "in a test's helpers a failure is a panic that names it; the sweeps print what they counted"
)]

mod commands;
mod common;
mod damage;
mod devices;
mod exchange;
mod files;
mod host;
mod manager;
mod matrix;
mod power;
mod reader;
mod store;
mod transactions;
mod vectors;
