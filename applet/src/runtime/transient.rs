//! Memory that forgets: cleared by a reset, or already when its applet is deselected (Java Card RE Specification 3.1, 5.1).

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::Env;

/// What clears a transient object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClearOn {
    /// A reset or loss of power.
    Reset,
    /// The same, or that the applet is selected on no channel any more.
    Deselect,
}

/// The transient objects of one applet.
#[derive(Default)]
pub(super) struct Transient(BTreeMap<(ClearOn, u16), Zeroizing<Vec<u8>>>);

impl Transient {
    pub(super) fn deselect(&mut self) {
        self.0.retain(|(clear, _), _| *clear != ClearOn::Deselect);
    }

    pub(super) fn reset(&mut self) {
        self.0.clear();
    }
}

impl Env<'_> {
    /// The value of a transient object; `None` since it was last cleared.
    pub fn transient(&self, clear: ClearOn, id: u16) -> Option<&[u8]> {
        self.transient
            .0
            .get(&(clear, id))
            .map(|value| value.as_slice())
    }

    /// Writes a transient object. No transaction takes it back.
    pub fn put_transient(&mut self, clear: ClearOn, id: u16, value: &[u8]) {
        let value = Zeroizing::new(value.to_vec());
        self.transient.0.insert((clear, id), value);
    }
}
