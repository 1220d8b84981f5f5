//! SCP03, the secure channel between an off-card entity and the card (GlobalPlatform Card Technology, Secure Channel
//! Protocol '03', Card Specification v2.3 Amendment D v1.2).
//!
//! Owns keys, sessions and the protection of commands and answers. Refuses to know what is protected. Options: i = 60
//! (random challenge), 70 (pseudo-random challenge), each with 1 added for S16 (challenges, cryptograms and MACs of 16
//! bytes instead of 8). Keys are AES-128 or AES-256.

mod crypto;
mod keys;
mod session;

pub use keys::{Keys, Options};
pub use session::{Level, Session};

pub(crate) use keys::{KeySet, check_value};
pub(crate) use session::pseudo_random_challenge;
