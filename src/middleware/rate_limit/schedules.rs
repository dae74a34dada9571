//! A quota in one word under shuttle: schedules of several threads, tried at random.

#![allow(clippy::arithmetic_side_effects, clippy::panic, reason = "a test may fail")]

use std::sync::{Arc, Mutex};

use super::state::{Rate, Refusal};
use super::word::Word;
use crate::base::sync::{all, explore};

type Thread = Box<dyn FnOnce() + Send>;

/// So many calls at once, and one more each `interval`.
const fn rate(calls: u64, interval: u64) -> Rate {
    Rate { interval, burst: calls * interval }
}

/// How long those who were let in have to wait, in no order.
#[derive(Clone, Default)]
struct Waits(Arc<Mutex<Vec<u64>>>);

impl Waits {
    /// A thread that takes a turn if it need not wait for longer than `most`.
    fn caller(&self, word: &Arc<Word>, most: u64) -> Thread {
        let (waits, word) = (self.clone(), Arc::clone(word));
        Box::new(move || {
            if let Ok(turn) = word.take(1, 0, most) {
                waits.0.lock().expect("nobody panics").push(turn.wait);
            }
        })
    }

    fn sorted(&self) -> Vec<u64> {
        let mut waits = self.0.lock().expect("nobody panics").clone();
        waits.sort_unstable();
        waits
    }
}

#[test]
fn everybody_has_a_turn_of_its_own() {
    explore(|| {
        let (word, waits) = (Arc::new(Word::new(rate(2, 10))), Waits::default());
        all((0..6).map(|_| waits.caller(&word, 20)));
        assert_eq!(waits.sorted(), [0, 0, 10, 20]);
        assert_eq!(word.take(1, 0, 0).err(), Some(Refusal::Wait(30)));
    });
}

#[test]
fn turns_that_are_given_back_are_not_had_twice() {
    explore(|| {
        let (word, waits) = (Arc::new(Word::new(rate(1, 10))), Waits::default());
        let fickle = || {
            let word = Arc::clone(&word);
            Box::new(move || {
                let turn = word.take(1, 0, 100).expect("it may wait");
                word.give_back(&turn);
            }) as Thread
        };
        let callers = (0..3).map(|_| waits.caller(&word, 100));
        all(callers.chain([fickle(), fickle()]));
        let kept = waits.sorted();
        assert!(kept.windows(2).all(|pair| matches!(pair, [a, b] if b - a >= 10)), "{kept:?}");
        let last = kept.last().copied().expect("all may wait");
        assert!(matches!(word.take(1, 0, 0), Err(Refusal::Wait(wait)) if wait > last && wait <= 50));
    });
}

#[test]
fn what_is_used_while_the_quota_changes_and_changes_back_stays_used() {
    explore(|| {
        let (word, waits) = (Arc::new(Word::new(rate(2, 10))), Waits::default());
        let change = |interval| {
            let word = Arc::clone(&word);
            Box::new(move || word.reconfigure(rate(2, interval), 0)) as Thread
        };
        let callers = (0..3).map(|_| waits.caller(&word, 0));
        all(callers.chain([change(20), change(10)]));
        assert_eq!(waits.sorted(), [0, 0]);
    });
}
