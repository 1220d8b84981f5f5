//! Test scripts on every kind of card, as processes: the suite, reports and exit codes, cards that go away.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests: a failure is a panic"
)]

mod cards;
mod faults;
mod relay;
mod reports;
mod screen;
mod suite;
mod terminal;
mod tools;
mod trouble;
