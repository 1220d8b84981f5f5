//! What is done about messages: OTA sessions, and a program that is told.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use reader_bridge::{
    ota::{
        Allowed, Options, Policy,
        http::{Http, Roots},
        parse_url,
    },
    terminal::{Acting, Hook},
};
use url::Url;

use crate::cli::{exit::Failure, values};

/// Acting on messages.
#[derive(Args)]
#[command(next_help_heading = "Messages")]
pub(in crate::cli) struct Messages {
    /// The OTA server: where sessions go that a message names no URL for. Its host may be named by messages, too. Without
    /// --ota-url and --ota-allow, messages that ask for a session are only told of.
    #[arg(long, value_name = "URL", value_parser = url)]
    ota_url: Option<Url>,
    /// Another host that messages may name: ota.example, ota.example:8443, *.ota.example. Repeatable.
    #[arg(long, value_name = "HOST[:PORT]")]
    ota_allow: Vec<Allowed>,
    /// The CA that OTA servers' certificates must come from, and no other: a PEM file.
    #[arg(long, value_name = "FILE")]
    ota_ca: Option<PathBuf>,
    /// Take certificates from any CA that the operating system trusts, instead of --ota-ca.
    #[arg(long)]
    ota_system_roots: bool,
    /// Let sessions go without TLS to other machines than this one. Whoever listens sees the ICCID, and may change commands.
    #[arg(long)]
    ota_plain_http: bool,
    /// How long one request may take, its whole answer included.
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "60s")]
    ota_timeout: Duration,
    /// Give a session up after so many attempts in a row that got no further.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1000))]
    ota_attempts: u32,
    /// The delay after an attempt that failed; it doubles with each, up to an hour.
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "15s")]
    ota_retry: Duration,
    /// Start this program for each message, with the message as JSON on its standard input.
    #[arg(long, value_name = "PROGRAM")]
    on_message: Option<PathBuf>,
    /// Kill the program of --on-message if it takes longer.
    #[arg(long, value_name = "TIME", value_parser = values::duration, default_value = "30s")]
    hook_timeout: Duration,
}

impl Messages {
    /// What goes together, without opening anything.
    pub(in crate::cli) fn check(&self) -> Result<(), Failure> {
        let policy = self.policy();
        if let Some(url) = policy.default.clone() {
            let checked = policy.check(url);
            checked.map_err(|why| Failure::Arguments(format!("--ota-url: {why}")))?;
        }
        if self.ota_ca.is_some() && self.ota_system_roots {
            return Err(Failure::Arguments(
                "--ota-ca and --ota-system-roots: servers are vouched for either by the one or by the others".into(),
            ));
        }
        let needs_ca =
            !matches!(&self.ota_url, Some(url) if url.scheme() == "http") && policy.is_on();
        if needs_ca && self.roots() == Roots::Nobody {
            return Err(Failure::Arguments(
                "nobody vouches for OTA servers: give --ota-ca FILE, or --ota-system-roots to trust what the system trusts"
                    .into(),
            ));
        }
        Ok(())
    }

    /// Where sessions may go.
    pub(in crate::cli) fn policy(&self) -> Policy {
        Policy {
            default: self.ota_url.clone(),
            allowed: self.ota_allow.clone(),
            plain: self.ota_plain_http,
        }
    }

    fn roots(&self) -> Roots {
        match &self.ota_ca {
            Some(file) => Roots::Pinned(file.clone()),
            None if self.ota_system_roots => Roots::System,
            None => Roots::Nobody,
        }
    }

    /// What messages are acted on with.
    pub(in crate::cli) fn acting(&self) -> Result<Acting, Failure> {
        let policy = self.policy();
        let http = policy
            .is_on()
            .then(|| Http::new(&self.roots(), self.ota_timeout))
            .transpose()?
            .map(Arc::new);
        let hook = self.on_message.as_deref().map(|program| {
            executable(program).map(|()| Hook::new(program.to_owned(), self.hook_timeout))
        });
        Ok(Acting {
            options: Options {
                policy,
                attempts: self.ota_attempts,
                retry: self.ota_retry,
                hook: hook.is_some(),
            },
            http,
            hook: hook.transpose()?,
        })
    }
}

fn url(text: &str) -> Result<Url, String> {
    parse_url(text).map_err(|error| error.to_string())
}

/// Found out at the start rather than with the first message.
fn executable(program: &Path) -> Result<(), Failure> {
    let wrong =
        |why: String| Failure::Arguments(format!("--on-message {}: {why}", program.display()));
    let missing = |error: io::Error| {
        wrong(format!(
            "{error}; a path is wanted, since PATH is not searched"
        ))
    };
    let metadata = fs::metadata(program).map_err(missing)?;
    if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
        Ok(())
    } else {
        Err(wrong("is no program: no file, or not executable".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_program_without_its_path_is_told_to_need_one() {
        let told = executable(Path::new("no-such-program"))
            .unwrap_err()
            .to_string();
        assert!(
            told.contains("no-such-program") && told.contains("PATH"),
            "{told}"
        );
        assert!(executable(Path::new("/bin/sh")).is_ok());
    }
}
