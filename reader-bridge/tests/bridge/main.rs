//! The terminal at two distances.
//!
//! The poll session in a scripted world: the real applet behind the real client, a small server made
//! of `protocol`, a clock that jumps from event to event, and a network and a card that fail on cue.
//! The session is the one that the binary runs; hours pass in milliseconds, and the same seed gives
//! the same run. And the binary itself, over UDP and the virtual reader's TCP.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failure of a test is a panic that names it"
)]

mod card;
mod config;
mod server;
mod world;

mod failures;
mod faults;
mod loss;
mod routes;
mod schedules;

mod exit_codes;
mod logs;
mod metrics;
mod occasions;
mod pcsc;
mod personalise;
mod process;
mod run;
mod status;
mod trace;
