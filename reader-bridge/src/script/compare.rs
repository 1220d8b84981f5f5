//! One script on two cards: where what passed differs.

use std::sync::{Arc, Mutex, PoisonError};

use super::{record, tap::Passed};

/// What passed between a script and one card, as a case goes on.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<Passed>>>);

impl Log {
    /// One thing more has passed.
    pub fn push(&self, passed: Passed) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(passed);
    }

    /// Everything since the last time.
    pub fn take(&self) -> Vec<Passed> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The first difference, in lines; what both cards did alike before is told by its number. `None` if there is none.
pub fn difference(a: &[Passed], b: &[Passed]) -> Option<String> {
    let alike = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    if alike == a.len() && alike == b.len() {
        return None;
    }
    let told = |side: &[Passed]| {
        side.get(alike)
            .map_or_else(|| "nothing more\n".to_owned(), record::line)
    };
    Some(format!(
        "after {alike} alike:\n  A  {}  B  {}",
        told(a),
        told(b)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(answer: u8) -> Passed {
        Passed::Command(vec![0x80, 0x40, 0, 0], Ok(vec![answer, 0x90, 0x00]))
    }

    #[test]
    fn the_first_difference_is_told() {
        let (one, two) = ([passed(1), passed(2)], [passed(1), passed(3)]);
        assert_eq!(difference(&one, &one), None);
        let told = difference(&one, &two).unwrap();
        assert_eq!(
            told,
            "after 1 alike:\n  A  80 40 00 00 -> 02 9000\n  B  80 40 00 00 -> 03 9000\n"
        );
        assert!(
            difference(&one, &one[..1])
                .unwrap()
                .contains("B  nothing more")
        );
    }
}
