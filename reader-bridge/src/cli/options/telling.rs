//! What is told, and in which form.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use reader_bridge::{report::Form, trace::Trace};

use crate::cli::exit::Failure;

/// What is told.
#[derive(Args)]
#[command(next_help_heading = "Output")]
pub(in crate::cli) struct Telling {
    /// One JSON object a line, for programs.
    #[arg(long)]
    json: bool,
    /// Write everything that passes into a file for Wireshark.
    #[arg(long, value_name = "FILE.pcapng")]
    trace: Option<PathBuf>,
}

impl Telling {
    /// The form of events.
    pub(in crate::cli) const fn form(&self) -> Form {
        if self.json { Form::Json } else { Form::Text }
    }

    /// Makes the trace file, if there is to be one.
    pub(in crate::cli) fn trace(&self) -> Result<Option<Arc<Trace>>, Failure> {
        self.trace.as_deref().map(trace).transpose()
    }
}

fn trace(path: &Path) -> Result<Arc<Trace>, Failure> {
    let trace = Trace::create(path).map_err(|error| Failure::Trace {
        path: path.to_owned(),
        error,
    })?;
    Ok(Arc::new(trace))
}
