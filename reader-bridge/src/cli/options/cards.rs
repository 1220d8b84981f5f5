//! Which cards are served, and how their places are opened.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use protocol::key::Key;
use reader_bridge::card::CardSpec;

use crate::cli::{exit::Failure, key_file::key, values};

/// Which cards.
#[derive(Args)]
#[command(next_help_heading = "Cards")]
pub(in crate::cli) struct Cards {
    /// Where the card is: pcsc (first card found), pcsc:"READER NAME", vpcd:PORT (the bridge is the
    /// virtual reader), image:FILE (an emulated card in this process). Repeatable: each card is served
    /// by itself.
    #[arg(long, value_name = "CARD")]
    pub(in crate::cli) card: Vec<CardSpec>,
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
        if self.card.is_empty() {
            return Err(Failure::Arguments(
                "no card is named: give --card CARD, or card in the configuration".into(),
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

    /// The key that images are wrapped under.
    pub(in crate::cli) fn image_key(&self) -> Result<Option<Key>, Failure> {
        self.image_key_file.as_deref().map(key).transpose()
    }
}
