//! The harness keeps its own promises: private readers, processes that end, a link that loses what it is told to.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "helpers of tests: a failure is a panic"
)]

mod pcscd;
mod plain_card;
mod private_pcscd;
mod process;
mod relay;
