//! Load and measurement. The programs are `fleet`, which lets many devices poll any GTS, and `duel`, which measures
//! `gts-mock` against a bare echo.
//!
//! [`device`] is one device; [`wire`] carries its datagrams, [`expected`] tells whose an answer is. [`drive`] lets a
//! fleet poll, [`report`] tells what came of it. [`duel`] measures.

pub mod device;
pub mod drive;
pub mod duel;
pub mod expected;
pub mod progress;
pub mod report;
pub mod wire;
