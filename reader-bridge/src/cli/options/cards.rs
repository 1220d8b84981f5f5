//! Which cards are served, and how their places are opened.

use std::{path::PathBuf, time::Duration};

use applet::key_file::key;
use clap::Args;
use protocol::key::Key;
use reader_bridge::card::{CardSpec, pcsc::Sharing};

use crate::cli::{exit::Failure, pattern::Pattern, values};

/// Which cards.
#[derive(Args)]
#[command(next_help_heading = "Cards")]
pub(in crate::cli) struct Cards {
    /// Where the card is: pcsc (first card found), pcsc:"READER NAME", vpcd:PORT (the bridge is the
    /// virtual reader), image:FILE (an emulated card in this process). Repeatable: each card is served
    /// by itself.
    #[arg(long, value_name = "CARD")]
    pub(in crate::cli) card: Vec<CardSpec>,
    /// Serve the card in every PC/SC reader, also in those that are attached later. Goes together with --card.
    #[arg(long)]
    pub(in crate::cli) all_readers: bool,
    /// With --all-readers: only readers whose whole name is like this; * stands for anything, ? for one
    /// character. Repeatable: like any of them.
    #[arg(long, value_name = "PATTERN")]
    include_reader: Vec<Pattern>,
    /// With --all-readers: no readers whose whole name is like this, even if included. Repeatable.
    #[arg(long, value_name = "PATTERN")]
    exclude_reader: Vec<Pattern>,
    /// Keep other programs away from cards in PC/SC readers as long as they are there; without, they are shared.
    #[arg(long)]
    exclusive: bool,
    /// How many virtual cards may be connected to one vpcd:PORT at once.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u16).range(1..))]
    max_cards: u16,
    /// How long to wait for a card [default: 10s with --once, for ever without].
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(in crate::cli) wait_card: Option<Duration>,
    /// The key that the image of image:FILE is wrapped under, 32 or 64 hexadecimal digits in a file;
    /// - is standard input.
    #[arg(long, value_name = "FILE")]
    image_key_file: Option<PathBuf>,
    /// How long a virtual card may take for one command.
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "10s")]
    pub(in crate::cli) card_timeout: Duration,
}

impl Cards {
    /// What goes together, without opening anything.
    pub(in crate::cli) fn check(&self) -> Result<(), Failure> {
        if self.card.is_empty() && !self.all_readers {
            return Err(Failure::Arguments(
                "no card is named: give --card CARD or --all-readers, or card in the configuration"
                    .into(),
            ));
        }
        if self.all_readers && self.card.contains(&CardSpec::AnyReader) {
            return Err(Failure::Arguments(
                "--card pcsc is one of the readers that --all-readers serves already: leave one of the two out".into(),
            ));
        }
        // The same place twice would be two terminals for one card.
        let same = |(at, card)| self.card[..at].contains(card);
        if let Some((_, twice)) = self.card.iter().enumerate().find(|card| same(*card)) {
            return Err(Failure::Arguments(format!(
                "--card {twice} is given twice; several cards need a place each, for example two readers by their names"
            )));
        }
        Ok(())
    }

    /// Whether --all-readers serves the reader with this name. One that --card names is served already.
    pub(in crate::cli) fn wants(&self, reader: &str) -> bool {
        let like = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(reader));
        let named = |card: &CardSpec| matches!(card, CardSpec::Reader(name) if name == reader);
        (self.include_reader.is_empty() || like(&self.include_reader))
            && !like(&self.exclude_reader)
            && !self.card.iter().any(named)
    }

    /// Whether other programs reach cards in readers.
    pub(in crate::cli) const fn sharing(&self) -> Sharing {
        if self.exclusive {
            Sharing::Exclusive
        } else {
            Sharing::Shared
        }
    }

    /// How many virtual cards one port takes.
    pub(in crate::cli) fn limit(&self) -> usize {
        self.max_cards.into()
    }

    /// The key that images are wrapped under.
    pub(in crate::cli) fn image_key(&self) -> Result<Option<Key>, Failure> {
        Ok(self.image_key_file.as_deref().map(key).transpose()?)
    }
}
