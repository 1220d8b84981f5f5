//! The card from outside: commands in, answers out, and power that fails.

mod common;
mod vectors;
