//! What becomes of each datagram, without I/O: datagrams in, datagrams out, in the order in which they go on.
//!
//! Owns loss, repetition, order and spoilt bits. Refuses to know sockets and what datagrams mean.

use super::{NetFaults, Tell};

/// One direction. `T` says where a datagram goes, for the one that waits for the next.
pub struct Way<T> {
    faults: NetFaults,
    random: fastrand::Rng,
    name: &'static str,
    /// A datagram that goes on after the next one.
    held: Option<(T, Vec<u8>)>,
    tell: Tell,
}

impl<T: Clone> Way<T> {
    /// The same fates for the same seed and the same datagrams. `name` is what they are called when one is struck.
    pub fn new(faults: NetFaults, seed: u64, name: &'static str, tell: Tell) -> Self {
        Self {
            faults,
            random: fastrand::Rng::with_seed(seed),
            name,
            held: None,
            tell,
        }
    }

    /// What goes on, now that this datagram has come.
    pub fn pass(&mut self, to: T, mut datagram: Vec<u8>) -> Vec<(T, Vec<u8>)> {
        let faults = self.faults;
        // All four each time: what befalls later datagrams does not depend on what befell this one.
        let [loss, dup, reorder, corrupt] =
            [faults.loss, faults.dup, faults.reorder, faults.corrupt]
                .map(|chance| chance.strikes(&mut self.random));
        let bit = self.random.usize(..);
        if loss {
            self.told("is lost", &datagram);
            return Vec::new();
        }
        if corrupt && !datagram.is_empty() {
            let bit = bit % (datagram.len() * 8);
            datagram[bit / 8] ^= 1 << (bit % 8);
            self.told(&format!("has bit {bit} wrong"), &datagram);
        }
        if reorder && self.held.is_none() {
            self.told("waits for the next one", &datagram);
            self.held = Some((to, datagram));
            return Vec::new();
        }
        let mut passed = vec![(to, datagram)];
        if dup {
            self.told("comes twice", &passed[0].1);
            passed.push(passed[0].clone());
        }
        passed.extend(self.held.take());
        passed
    }

    /// Nothing comes any more of what these datagrams were about: one that waits is lost.
    pub fn close(&mut self) {
        if let Some((_, datagram)) = self.held.take() {
            self.told("waited for the next one, and is lost", &datagram);
        }
    }

    fn told(&mut self, what: &str, datagram: &[u8]) {
        (self.tell)(format!("{} of {} bytes {what}", self.name, datagram.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Faults;

    fn way(spec: &str, seed: u64) -> Way<()> {
        let faults = spec.parse::<Faults>().unwrap();
        Way::new(faults.up, seed, "a poll", Box::new(|_| ()))
    }

    fn run(spec: &str, seed: u64, count: u8) -> Vec<Vec<Vec<u8>>> {
        let mut way = way(spec, seed);
        let each = |n| {
            way.pass((), vec![n; 20])
                .into_iter()
                .map(|(_, d)| d)
                .collect()
        };
        (0..count).map(each).collect()
    }

    #[test]
    fn the_same_seed_gives_each_datagram_the_same_fate() {
        let spec = "net:loss=20%,dup=20%,reorder=20%,corrupt=20%";
        assert_eq!(run(spec, 7, 200), run(spec, 7, 200));
        assert_ne!(run(spec, 7, 200), run(spec, 8, 200));
    }

    #[test]
    fn what_befalls_one_datagram_does_not_change_the_fate_of_the_next() {
        let lost = |spec: &str| -> Vec<usize> {
            let fates = run(spec, 7, 200).into_iter().enumerate();
            fates
                .filter(|(_, out)| out.is_empty())
                .map(|(n, _)| n)
                .collect()
        };
        assert_eq!(
            lost("net:loss=20%"),
            lost("net:loss=20%,dup=50%,corrupt=50%")
        );
    }

    #[test]
    fn without_faults_everything_passes_and_with_certain_loss_nothing() {
        let out = run("net:loss=0%", 1, 50);
        assert!(out.iter().zip(0..).all(|(out, n)| *out == [vec![n; 20]]));
        assert!(run("net:loss=100%", 1, 50).iter().all(Vec::is_empty));
    }

    #[test]
    fn a_datagram_comes_twice_after_the_next_or_with_one_bit_wrong() {
        assert_eq!(run("net:dup=100%", 1, 1), [[vec![0; 20], vec![0; 20]]]);
        let reordered = run("net:reorder=100%", 1, 4);
        let expected = [
            vec![],
            vec![vec![1; 20], vec![0; 20]],
            vec![],
            vec![vec![3; 20], vec![2; 20]],
        ];
        assert_eq!(reordered, expected);
        for (n, out) in (0..).zip(run("net:corrupt=100%", 1, 50)) {
            let wrong: u32 = out[0].iter().map(|byte| (byte ^ n).count_ones()).sum();
            assert_eq!(wrong, 1);
        }
    }

    #[test]
    fn every_fault_is_told() {
        use std::sync::{Arc, Mutex};
        let told = Arc::new(Mutex::new(Vec::new()));
        let teller = Arc::clone(&told);
        let faults = "net:reorder=100%".parse::<Faults>().unwrap();
        let tell = Box::new(move |what| teller.lock().unwrap().push(what));
        let mut way = Way::new(faults.down, 1, "an answer", tell);
        way.pass((), vec![0; 37]);
        way.close();
        assert_eq!(
            *told.lock().unwrap(),
            [
                "an answer of 37 bytes waits for the next one",
                "an answer of 37 bytes waited for the next one, and is lost"
            ]
        );
    }
}
