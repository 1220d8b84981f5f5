//! `secapp rack`: puts a folder of cards into readers, each on a connection of its own.

use std::{
    fs,
    io::{self, Write as _},
    num::NonZeroU16,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use applet::{
    Card,
    key_file::wrap_key,
    vpcd::{self, Socket, Stop},
};
use clap::{Args, ValueHint};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{
    error::Error,
    reader::{Transmission, line, stop_on_signal},
};

/// Put the cards of a folder into readers and keep them there until SIGINT or SIGTERM.
///
/// The folder's files *.img are taken in the order of their names. No card is inserted unless all of them can be.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Rack {
    /// The folder with the card images.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    folder: PathBuf,
    /// The reader's first slot; the others have the ports that follow.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:35963", value_parser = Socket::parse)]
    vpcd: Socket,
    /// How many slots there are; cards beyond them stay out.
    #[arg(long, value_name = "N", default_value = "2")]
    slots: NonZeroU16,
    /// All cards go to the same port, without limit: a bridge that is its own reader.
    #[arg(long, conflicts_with = "slots")]
    one_port: bool,
    /// The transmission protocol that the cards speak.
    #[arg(long, value_enum, default_value = "t1")]
    protocol: Transmission,
    /// The key file that the images are wrapped under.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    wrap_key_file: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  secapp rack cards/                                       into pcscd's two virtual slots
  secapp rack cards/ --vpcd 127.0.0.1:36000 --slots 16     into the sixteen of another driver
  secapp rack cards/ --vpcd 127.0.0.1:4000 --one-port      into a bridge, as many as there are";

/// Stack of a card's thread, in bytes: key generation is what needs most of it.
const STACK: usize = 512 * 1024;

/// A card and where it goes.
struct Placed {
    name: String,
    card: Card,
    reader: Socket,
}

impl Rack {
    pub(super) fn run(&self) -> Result<(), Error> {
        allow_many_files();
        let images = images(&self.folder)?;
        let placed = self.place(&images)?;
        let left_out = images.len() - placed.len();
        say(&format!(
            "{} cards, {left_out} left out for want of slots",
            placed.len()
        ));
        let stop = stop_on_signal()?;
        let inserted = placed
            .into_iter()
            .map(|placed| placed.insert(Arc::clone(&stop)));
        let inserted = inserted.collect::<io::Result<Vec<_>>>();
        if inserted.is_err() {
            stop.stop();
        }
        for card in inserted? {
            // A card whose thread panicked has said so on standard error.
            let _ = card.join();
        }
        say("taken out");
        Ok(())
    }

    fn place(&self, images: &[PathBuf]) -> Result<Vec<Placed>, Error> {
        let count = if self.one_port {
            images.len()
        } else {
            usize::from(self.slots.get())
        };
        let slots = (0..=u16::MAX).map_while(|slot| {
            if self.one_port {
                Some(self.vpcd.clone())
            } else {
                self.vpcd.slot(slot)
            }
        });
        let images = images.iter().take(count);
        images
            .zip(slots)
            .map(|(image, reader)| self.card(image, reader))
            .collect()
    }

    fn card(&self, image: &Path, reader: Socket) -> Result<Placed, Error> {
        let wrap = self.wrap_key_file.as_deref().map(wrap_key).transpose()?;
        let card = applet::open_image(image, wrap, self.protocol.into())?;
        let name = image
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok(Placed { name, card, reader })
    }
}

impl Placed {
    fn insert(mut self, stop: Arc<Stop>) -> io::Result<thread::JoinHandle<()>> {
        thread::Builder::new().stack_size(STACK).spawn(move || {
            vpcd::insert(&mut self.card, &self.reader, None, &stop, |event| {
                say(&format!("{}: {}", self.name, line(&self.reader, &event)));
            });
        })
    }
}

/// One line on standard output; a closed one is no reason to take cards out.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// The folder's card images, by name.
fn images(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |error| Error::File {
        path: folder.to_owned(),
        error,
    };
    let entries = fs::read_dir(folder).map_err(failed)?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut images = paths.collect::<io::Result<Vec<_>>>().map_err(failed)?;
    images.retain(|path| path.extension().is_some_and(|extension| extension == "img"));
    images.sort();
    if images.is_empty() {
        return Err(failed(io::Error::new(
            io::ErrorKind::NotFound,
            "no card image (*.img) in this folder",
        )));
    }
    Ok(images)
}

/// Each card takes a file and a socket; many systems allow 1,024 of both together unless asked. What is not allowed is
/// told when a file cannot be opened.
fn allow_many_files() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
