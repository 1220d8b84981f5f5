//! Test scripts on every kind of card, as processes: the suite, reports and exit codes, cards that go away.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests: a failure is a panic"
)]

mod cards;
mod reports;
mod suite;
mod tools;
mod trouble;
