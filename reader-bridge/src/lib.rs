//! The terminal of the triggering method: what a card sits in.
//!
//! It carries datagrams between a card and its server, keeps time, and acts on what the server asks.
//! The path of one exchange:
//!
//! ```text
//! card ── [`card`] port ── [`secapp`] client ─┐
//!                                             ├─ [`session`] decides ── [`report`] tells
//! server ── [`terminal`] UDP ─────────────────┘
//! ```
//!
//! [`session`] is a state machine without I/O: bytes and a time in; commands, datagrams, deadlines
//! and events out. [`terminal`] runs it with sockets, files and clocks.
#![deny(unsafe_code)]

pub mod card;
pub mod fault;
pub mod metrics;
pub mod ota;
pub mod personalise;
pub mod report;
pub mod scp03;
pub mod script;
pub mod secapp;
pub mod session;
pub mod terminal;
pub mod trace;
