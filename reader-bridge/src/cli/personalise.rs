//! `personalise`: makes a card a subscription's, in a secure channel.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use applet::key_file;
use clap::{Args, ValueEnum, ValueHint};
use nix::sys::eventfd::EventFd;
use protocol::key::Key;
use reader_bridge::{
    card::{self, CardError, CardPort, CardSpec, Wait},
    personalise::{CardManager, Done, KeySource, Level, Profile, Subscription, personalise},
    scp03::StaticKeys,
    secapp::SecAppError,
};
use zeroize::Zeroizing;

use super::{exit::Failure, values};

const HELP: &str = "\
Example:
  reader-bridge personalise --card 'pcsc:Virtual PCD 00 00' --profile card.toml --card-key-file isd.hex

The profile:
  iccid = \"8988374172470184089\"
  key_file = \"k.hex\"            # K; the path is relative to the profile
  # key = \"2B7E...\"             # or K itself; then the profile must have mode 0600
  mode = 3                      # default
  first_identity = \"iccid\"      # default; or \"concealed\", or \"uid:\" and 20 hexadecimal digits

Exit codes:
  0   done: the card shows the new identity
  1   the system refused: standard output, randomness
  2   the command line is not understood
  3   no card: no reader, no card in time, an image that is damaged or in use; or it was lost on the way
  4   the card has no SecApp
  6   the card refused a command, or does not show what it took
  8   the profile or a key file cannot be read or understood
  10  the card has no such card manager's keys, or others";

/// Personalise a card: write a subscription to it in a secure channel (SCP03). What was on it before is gone.
#[derive(Args)]
#[command(after_help = HELP)]
pub(super) struct Personalise {
    /// Where the card is: pcsc, pcsc:"READER NAME", vpcd:PORT or image:FILE.
    #[arg(long, value_name = "CARD")]
    card: CardSpec,
    /// The subscription, a TOML file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    profile: PathBuf,
    /// File with the card manager's key, 32 or 64 hexadecimal digits, or three of them: ENC, MAC, DEK; - is standard
    /// input [default: the test key 40 41 … 4F, for tests only].
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    card_key_file: Option<PathBuf>,
    /// Version of these keys, two hexadecimal digits; 00 is the card's choice.
    #[arg(long, value_name = "HEX", default_value = "00", value_parser = key_version)]
    key_version: u8,
    /// What the session protects: 03 commands (signed and encrypted), 13 answers signed too, 33 and encrypted.
    #[arg(long, value_enum, default_value = "33")]
    security_level: SecurityLevel,
    /// How long to wait for a card.
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "10s")]
    wait_card: Duration,
    /// How long a virtual card may take for one command.
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "10s")]
    card_timeout: Duration,
    /// The key that the image of image:FILE is wrapped under, 32 or 64 hexadecimal digits in a file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    image_key_file: Option<PathBuf>,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum SecurityLevel {
    #[value(name = "03")]
    Commands,
    #[value(name = "13")]
    AnswersSigned,
    #[value(name = "33")]
    Everything,
}

impl From<SecurityLevel> for Level {
    fn from(level: SecurityLevel) -> Self {
        match level {
            SecurityLevel::Commands => Self::Commands,
            SecurityLevel::AnswersSigned => Self::AnswersSigned,
            SecurityLevel::Everything => Self::Everything,
        }
    }
}

/// The key that blank test cards have everywhere (GlobalPlatform's usual one).
const TEST_KEY: [u8; 16] = [
    0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x4B, 0x4C, 0x4D, 0x4E, 0x4F,
];

/// A profile is a few lines.
const LONGEST_PROFILE: usize = 16 * 1024;

fn key_version(text: &str) -> Result<u8, String> {
    match u8::from_str_radix(text, 16) {
        Ok(version) if text.len() == 2 => Ok(version),
        _ => Err("a key version is two hexadecimal digits, such as 30 or FF".into()),
    }
}

impl Personalise {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let with = subscription(&self.profile)?;
        let manager = self.manager()?;
        let mut port = self.open()?;
        let done = self.on_card(port.as_mut(), &manager, &with);
        port.release(false);
        let line = self.told(&done?, &with);
        io::stdout()
            .write_all(line.as_bytes())
            .map_err(Failure::Output)?;
        Ok(ExitCode::SUCCESS)
    }

    fn manager(&self) -> Result<CardManager, Failure> {
        let keys = match &self.card_key_file {
            Some(file) => {
                let [enc, mac, dek] = key_file::one_or_three(file)?;
                StaticKeys { enc, mac, dek }
            }
            None => same(&Key::filled(protocol::key::KeyLength::Aes128, |out| {
                out.copy_from_slice(&TEST_KEY);
            })),
        };
        Ok(CardManager {
            keys,
            version: self.key_version,
            level: self.security_level.into(),
        })
    }

    fn open(&self) -> Result<Box<dyn CardPort>, Failure> {
        let image_key = self.image_key_file.as_deref().map(key_file::wrap_key);
        let options = card::Options {
            image_key: image_key.transpose()?,
            command_timeout: self.card_timeout,
        };
        Ok(card::open(&self.card, options)?)
    }

    fn on_card(
        &self,
        port: &mut dyn CardPort,
        manager: &CardManager,
        with: &Subscription,
    ) -> Result<Done, Failure> {
        let never = EventFd::new()
            .map_err(|error| Failure::System("an event cannot be made", error.into()))?;
        let wait = Wait::new(never.as_fd(), Some(self.wait_card));
        port.connect(&wait).map_err(on_the_way)?;
        let mut held = port.hold().map_err(on_the_way)?;
        Ok(personalise(held.as_mut(), manager, with)?)
    }

    fn told(&self, done: &Done, with: &Subscription) -> String {
        let (card, iccid, mode) = (&self.card, with.iccid, with.mode.byte());
        let (uid_1, version) = (with.uid_1(), done.key_version);
        if self.json {
            let told = serde_json::json!({
                "card": card.to_string(),
                "iccid": iccid.to_string(),
                "mode": mode,
                "first_identity": uid_1.to_string(),
                "key_version": format!("{version:02X}"),
                "replaced": done.replaced,
            });
            return format!("{told}\n");
        }
        let replaced = if done.replaced {
            "; what was on it before is gone"
        } else {
            ""
        };
        let mut text =
            format!("{card}: card {iccid}, mode {mode}, first identity {uid_1}{replaced}\n");
        if self.card_key_file.is_none() {
            text += "it was opened with the test key, which everybody knows: for tests only\n";
        }
        text
    }
}

fn on_the_way(error: CardError) -> Failure {
    Failure::Personalise(SecAppError::Port(error).into())
}

fn same(key: &Key) -> StaticKeys {
    StaticKeys {
        enc: key.clone(),
        mac: key.clone(),
        dek: key.clone(),
    }
}

/// The subscription that a profile describes.
fn subscription(path: &Path) -> Result<Subscription, Failure> {
    let io = |error| Failure::ProfileFile {
        path: path.to_owned(),
        error,
    };
    let file = File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.mode();
    let text = text(&file).map_err(io)?;
    let profile = Profile::parse(&text).map_err(|error| Failure::Profile {
        path: path.to_owned(),
        error,
    })?;
    let key = match profile.key {
        KeySource::Here(_) if mode & 0o077 != 0 => {
            return Err(io(io::Error::other(format!(
                "it holds a key and others may read it (mode {:04o}): chmod 600 it, or name a key_file",
                mode & 0o7777
            ))));
        }
        KeySource::Here(key) => key,
        // An absolute path stays what it is.
        KeySource::File(file) => key_file::key(&path.with_file_name("").join(file))?,
    };
    Ok(Subscription {
        iccid: profile.iccid,
        key,
        mode: profile.mode,
        first: profile.first,
    })
}

fn text(file: &File) -> io::Result<Zeroizing<String>> {
    // As large as it will ever be, so that no copy stays behind when it grows.
    let mut text = Zeroizing::new(String::with_capacity(2 * LONGEST_PROFILE));
    file.take(LONGEST_PROFILE as u64 + 1)
        .read_to_string(&mut text)?;
    if text.len() > LONGEST_PROFILE {
        return Err(io::Error::other("longer than a profile can be (16 KiB)"));
    }
    Ok(text)
}
