//! Whose answer is this? A response names nobody, so it is tried on the devices that wait on the port where it
//! arrived: the one that has waited longest first, since a server answers in the order of the polls.

use std::collections::VecDeque;

/// The devices that wait on one port.
#[derive(Debug, Default)]
pub struct Expected {
    waiting: VecDeque<u32>,
    /// Passed over by an answer to a later poll: probably lost.
    late: VecDeque<u32>,
}

impl Expected {
    /// The device has polled.
    pub fn push(&mut self, device: u32) {
        self.waiting.push_back(device);
    }

    /// How many devices wait.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.late.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those that wait.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.late.iter().chain(&self.waiting).copied()
    }

    /// The device of which `accepts` is true; it waits no longer.
    pub fn find(&mut self, mut accepts: impl FnMut(u32) -> bool) -> Option<u32> {
        if let Some(at) = self.waiting.iter().position(|device| accepts(*device)) {
            self.late.extend(self.waiting.drain(..at));
            return self.waiting.pop_front();
        }
        let at = self.late.iter().rposition(|device| accepts(*device))?;
        self.late.remove(at)
    }

    /// The device waits no longer.
    pub fn remove(&mut self, device: u32) {
        let queues = [&mut self.late, &mut self.waiting];
        for queue in queues {
            if let Some(at) = queue.iter().position(|one| *one == device) {
                queue.remove(at);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Expected {
        let mut expected = Expected::default();
        (1..=5).for_each(|device| expected.push(device));
        expected
    }

    #[test]
    fn an_answer_in_order_is_tried_once() {
        let mut expected = filled();
        let mut tried = Vec::new();
        for device in 1..=5 {
            let found = expected.find(|one| {
                tried.push(one);
                one == device
            });
            assert_eq!(found, Some(device));
        }
        assert_eq!(tried, [1, 2, 3, 4, 5]);
        assert!(expected.is_empty());
    }

    #[test]
    fn a_device_that_was_passed_over_is_tried_last_and_still_found() {
        let mut expected = filled();
        assert_eq!(expected.find(|one| one == 3), Some(3));
        assert_eq!(expected.find(|one| one == 4), Some(4));
        assert_eq!(expected.find(|one| one == 1), Some(1));
        assert_eq!(expected.iter().collect::<Vec<_>>(), [2, 5]);
        expected.remove(2);
        assert_eq!(expected.find(|_| true), Some(5));
        assert_eq!(expected.find(|_| true), None);
    }
}
