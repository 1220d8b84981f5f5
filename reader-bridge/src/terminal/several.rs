//! Several terminals in one process, a thread for each: no card's trouble is another's.

use std::{panic::resume_unwind, thread};

use super::{Terminal, TerminalError};
use crate::{report::Reporter, session::Event};

/// Runs them until all have ended, and tells why each did. The results are in the terminals' order.
///
/// `why` says what ended those that were stopped from outside.
pub fn run_all(
    terminals: Vec<Terminal<'_>>,
    reporter: &dyn Reporter,
    why: impl Fn() -> String + Sync,
) -> Vec<Result<(), TerminalError>> {
    let run = |mut terminal: Terminal<'_>| {
        let ended = terminal.run();
        let why = ended.as_ref().map_or_else(ToString::to_string, |()| why());
        let told = reporter.tell(terminal.label(), &Event::Stopped { why });
        ended.and(told.map_err(TerminalError::Output))
    };
    thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = terminals
            .into_iter()
            .map(|terminal| scope.spawn(move || run(terminal)))
            .collect();
        threads
            .into_iter()
            // A panic is a defect: it is not hidden, once the other cards have ended.
            .map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    })
}
