//! `trace annotate` and `trace ladder`: what captures hold, and how their exchanges went.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, BufWriter, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand, ValueHint};
use reader_bridge::trace::{
    annotate::{
        annotate,
        keys::{self, CardKeys},
    },
    ladder::{self, svg, text},
};
use zeroize::Zeroizing;

use super::exit::Failure;

/// Read captures: of run --trace, tcpdump, Wireshark.
#[derive(Args)]
pub(super) struct Trace {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Annotate(Annotate),
    Ladder(Ladder),
}

impl Trace {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        match self.what {
            What::Annotate(annotate) => annotate.run(),
            What::Ladder(ladder) => ladder.run(),
        }
    }
}

const ANNOTATE: &str = "\
The key file is CSV with a header line: reference,iccid,key,mode,first_identity as `gts-mock subscriptions import` takes it,
and identity,identity_key (UID_n and K_n) for captures that begin in the middle of a chain. It is its owner's alone.

Example:
  reader-bridge trace annotate server.pcap --key-file fleet.csv -o read.pcapng

Exit codes:
  0  copied; what could not be followed says so in its comment
  1  the capture cannot be read, or the copy not be written
  8  the key file cannot be read or understood";

/// Copy a capture, with what polls and responses hold as comments of their packets.
#[derive(Args)]
#[command(after_help = ANNOTATE)]
struct Annotate {
    /// pcapng or pcap; - is standard input.
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// The cards and their keys, CSV; - is standard input.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    key_file: PathBuf,
    /// The copy, pcapng; made for its owner alone.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: PathBuf,
}

impl Annotate {
    fn run(&self) -> Result<ExitCode, Failure> {
        let cards = cards(&self.key_file)?;
        let from = open(&self.file)?;
        let same = |a: &Path, b: &Path| {
            a.canonicalize()
                .ok()
                .is_some_and(|a| b.canonicalize().is_ok_and(|b| a == b))
        };
        if same(&self.file, &self.output) {
            return Err(Failure::Arguments(format!(
                "--output {} is the capture itself; name another file",
                self.output.display()
            )));
        }
        let out = create(&self.output).map_err(|error| failed(&self.output, &error))?;
        let report = annotate(from, BufWriter::new(out), cards)
            .map_err(|error| failed(&self.file, &error))?;
        let read = report.datagrams;
        let mut text = format!(
            "{} packets: {} polls and {} responses are read, {} datagrams could not be followed\n",
            report.packets, read.polls, read.responses, read.unknown
        );
        if report.without_place > 0 {
            text += &format!(
                "{} comments have no place: simple packets cannot have any\n",
                report.without_place
            );
        }
        if report.cut_off {
            text += "the capture ends in the middle of a packet, which is left out\n";
        }
        io::stdout()
            .write_all(text.as_bytes())
            .map_err(Failure::Output)?;
        Ok(ExitCode::SUCCESS)
    }
}

const LADDER: &str = "\
Example:
  reader-bridge trace ladder trace.pcapng --exchange 3 --svg exchange-3.svg

Exit codes:
  0  drawn
  1  the capture cannot be read, or the picture not be written";

/// Draw the exchanges of a capture: card, terminal, server, and who says what to whom.
#[derive(Args)]
#[command(after_help = LADDER)]
struct Ladder {
    /// pcapng or pcap; - is standard input.
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// Only the exchange with this number, as in the trace's comments.
    #[arg(long, value_name = "N")]
    exchange: Option<u64>,
    /// Draw a picture into this file, instead of text.
    #[arg(long, value_name = "OUT.svg", value_hint = ValueHint::FilePath)]
    svg: Option<PathBuf>,
    /// Draw as wide as this [default: the terminal's width, else 80].
    #[arg(long, value_name = "CHARACTERS")]
    width: Option<usize>,
}

/// Where nobody knows better.
const WIDTH: usize = 80;

impl Ladder {
    fn run(&self) -> Result<ExitCode, Failure> {
        let exchanges = ladder::read(open(&self.file)?, self.exchange)
            .map_err(|error| failed(&self.file, &error))?;
        if let Some(path) = &self.svg {
            create(path)
                .and_then(|mut file| file.write_all(svg::draw(&exchanges).as_bytes()))
                .map_err(|error| failed(path, &error))?;
            return Ok(ExitCode::SUCCESS);
        }
        let terminal = terminal_size::terminal_size_of(io::stdout());
        let width = terminal.map_or(WIDTH, |(width, _)| width.0.into());
        let colours = terminal.is_some() && super::status::colours();
        let mut text = text::draw(&exchanges, self.width.unwrap_or(width), colours);
        if exchanges.is_empty() {
            text = "no exchange of the method is in this capture\n".into();
        }
        io::stdout()
            .write_all(text.as_bytes())
            .map_err(Failure::Output)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn failed(path: &Path, why: &impl ToString) -> Failure {
    Failure::Capture {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

fn open(path: &Path) -> Result<Box<dyn io::Read>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path).map_err(|error| failed(path, &error))?;
    Ok(Box::new(BufReader::new(file)))
}

/// The longest key file: a million cards.
const MAX_KEYS: u64 = 256 * 1024 * 1024;

fn cards(path: &Path) -> Result<Vec<CardKeys>, Failure> {
    let unread = |error| Failure::KeyFile {
        path: path.to_owned(),
        error,
    };
    let mut csv = Zeroizing::new(Vec::new());
    if path == Path::new("-") {
        io::stdin().take(MAX_KEYS).read_to_end(&mut csv)
    } else {
        let file = File::open(path).map_err(unread)?;
        // As large as it will be, so that no copy stays behind when it grows.
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        csv.reserve_exact(usize::try_from(size.min(MAX_KEYS)).unwrap_or(0) + 1);
        file.take(MAX_KEYS).read_to_end(&mut csv)
    }
    .map_err(unread)?;
    keys::read(&csv).map_err(|error| Failure::Keys {
        path: path.to_owned(),
        why: error.to_string(),
    })
}
