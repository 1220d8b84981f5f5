//! `relay`, `diff`, `import`: record what a client does with a card, compare two cards, take over other programs' logs.

mod diff;
mod import;
mod relay;

pub(super) use diff::Diff;
pub(super) use import::Import;
pub(super) use relay::Relay;
