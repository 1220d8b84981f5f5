//! The log: diagnostics on standard error, for whoever looks for the cause of something.
//!
//! Owns its forms and its filter. Events are something else: what the program is for, on standard output. The log
//! says nothing that they say, unless its filter asks for the target `event`.

use std::{
    fmt,
    fs::File,
    io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
};

use clap::ValueEnum;
use tracing::Level;
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format},
    registry::LookupSpan,
};

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// What is logged when nobody says.
const DEFAULT: &str = "info";

/// Whether `text` is a filter.
pub(super) fn filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|error| {
            format!("{error}; write a level (off, error, warn, info, debug, trace), or TARGET=LEVEL and commas between them")
        })
}

/// From now on, what happens in this process is logged. Does nothing the second time.
pub(super) fn start(filter: Option<&str>, format: Format) {
    let filter = match filter {
        // It was checked as an argument.
        Some(filter) => EnvFilter::new(filter),
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT)),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false);
    // Fails if there is one already.
    let _ = match format {
        Format::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
        Format::Text if is_journal() => lines.event_format(Journal).try_init(),
        Format::Text => lines.try_init(),
    }
    .map_err(drop_error);
}

fn drop_error(_: Box<dyn std::error::Error + Send + Sync>) {}

/// Whether standard error goes to systemd's journal (systemd.exec(5), `$JOURNAL_STREAM`).
fn is_journal() -> bool {
    let named = std::env::var("JOURNAL_STREAM").ok();
    let here = || {
        let copy = io::stderr().as_fd().try_clone_to_owned().ok()?;
        let file = File::from(copy).metadata().ok()?;
        Some(format!("{}:{}", file.dev(), file.ino()))
    };
    named.is_some() && named == here()
}

/// Lines for the journal: it has the time already, and takes the priority from the line's beginning
/// (sd-daemon(3)).
struct Journal;

impl<S, N> FormatEvent<S, N> for Journal
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: format::Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        format::Format::default()
            .without_time()
            .with_level(false)
            .with_ansi(false)
            .format_event(context, writer, event)
    }
}

/// syslog(3).
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}
