//! `trace annotate`: what the datagrams of a capture hold, as comments of its packets.
//!
//! Owns copying: every block goes out as it came in, and packets whose datagrams can be followed have one comment
//! more. Runs in the memory of one block and of what is known of the chains.

mod follow;
pub mod keys;

use std::io::{self, Read, Write};

use super::capture::{Capture, CaptureError, link};
pub use follow::Counts;
use follow::Follower;
use keys::CardKeys;

/// What every comment begins with.
pub(super) const PREFIX: &str = "gts: ";

/// What became of a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Packets in all.
    pub packets: u64,
    /// Of the method.
    pub datagrams: Counts,
    /// Packets that could not have a comment: pcapng's simple packets.
    pub without_place: u64,
    /// The capture ends in the middle of a packet, which is left out.
    pub cut_off: bool,
}

/// Copies the capture in `from` to `to`, with comments.
pub fn annotate(
    from: impl Read,
    mut to: impl Write,
    cards: Vec<CardKeys>,
) -> Result<Report, AnnotateError> {
    let mut capture = Capture::new(from);
    let mut follower = Follower::new(cards);
    let mut report = Report::default();
    while let Some(mut block) = capture.next_block()? {
        let comment = capture.packet(&block).and_then(|packet| {
            report.packets += 1;
            let datagram = link::datagram(packet.link, packet.data)?;
            let told = follower.take(datagram.from, datagram.to, datagram.payload)?;
            let comment = format!("{PREFIX}{told}");
            // Of an earlier run.
            (!packet.comments.contains(&comment)).then_some(comment)
        });
        if comment.is_some_and(|comment| !block.add_comment(&comment)) {
            report.without_place += 1;
        }
        block.write(&mut to).map_err(AnnotateError::Output)?;
    }
    to.flush().map_err(AnnotateError::Output)?;
    Ok(Report {
        datagrams: follower.counts,
        cut_off: capture.is_cut_off(),
        ..report
    })
}

/// Why a capture could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum AnnotateError {
    /// It cannot be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The copy cannot be written.
    #[error("the copy cannot be written: {0}")]
    Output(io::Error),
}
