//! Our programs with a second implementation of everything around them: `tests/independent`, in Python, written from
//! docs/ alone.
//!
//! Owns the promise that the documents suffice to write a card, a terminal or a server that works with ours. `parts`
//! starts the processes; every other module pairs one of ours with the others.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests: a failure is a panic"
)]

mod parts;

mod our_card;
mod our_server;
mod our_terminal;
