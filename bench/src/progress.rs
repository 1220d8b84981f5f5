//! How far a long piece of work is: a bar on a terminal, a line every few seconds elsewhere.
#![allow(
    clippy::print_stderr,
    reason = "this is where programs that run for long tell people how far they are"
)]

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

/// Between two lines where there is no terminal.
const EVERY: Duration = Duration::from_secs(5);

/// A piece of work and how far it is.
pub struct Progress {
    what: String,
    total: u64,
    bar: Option<ProgressBar>,
    told: Instant,
}

impl Progress {
    /// Begins a piece of work of `total` steps; 0 if nobody knows.
    pub fn begin(what: &str, total: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(what, total));
        if bar.is_none() {
            eprintln!("{what}");
        }
        Self {
            what: what.to_owned(),
            total,
            bar,
            told: Instant::now(),
        }
    }

    /// So many steps are done; `detail` says more of it.
    pub fn at(&mut self, done: u64, detail: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(detail.to_owned());
        } else if self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            match self.total {
                0 => eprintln!("{}: {done} {detail}", self.what),
                total => eprintln!("{}: {done} of {total} {detail}", self.what),
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: &str, total: u64) -> ProgressBar {
    let (bar, template) = match total {
        0 => (
            ProgressBar::new_spinner(),
            "{prefix} {spinner} {human_pos} {msg}",
        ),
        total => (
            ProgressBar::new(total),
            "{prefix} {wide_bar} {human_pos}/{human_len} {eta} {msg}",
        ),
    };
    // Both templates are constants of a form that indicatif takes; its own is not worse.
    let style = ProgressStyle::with_template(template);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(what.to_owned());
    bar
}
