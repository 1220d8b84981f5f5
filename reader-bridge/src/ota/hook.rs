//! The hook program's place in what is to be done: one message after the other.

use std::time::Duration;

use super::{agent::Agent, event::Deed, io::Action};

/// How the hook program ended: in what time, or why it failed and what it wrote to standard error.
pub type HookResult = Result<Duration, (String, String)>;

impl Agent {
    /// Starts the hook program for the oldest message, unless it runs.
    pub(super) fn next_hook(&mut self) {
        if self.hook_runs {
            return;
        }
        if let Some(call) = self.agenda.hooks.first().cloned() {
            self.hook_runs = true;
            self.push(Action::Hook(call));
        }
    }

    pub(super) fn hook_ended(&mut self, result: HookResult) {
        if !std::mem::take(&mut self.hook_runs) || self.agenda.hooks.is_empty() {
            return;
        }
        let message_id = self.agenda.hooks.remove(0).id;
        self.tell(match result {
            Ok(took) => Deed::HookDone {
                message_id,
                took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            },
            Err((why, stderr)) => Deed::HookFailed {
                message_id,
                why,
                stderr,
            },
        });
        self.save();
        self.next_hook();
    }
}
