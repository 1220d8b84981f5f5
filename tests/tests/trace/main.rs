//! Captures as Wireshark's own engine sees them (Debian's package tshark): the dissector in Lua, and what
//! `reader-bridge trace` makes of captures.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "a failure of a test is a panic that names it, and the packets made here are short"
)]

mod annotate;
mod capture;
mod dissector;
mod ladder;
mod tshark;
mod vectors;
mod whole;
