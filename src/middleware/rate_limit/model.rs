//! A quota in one word under loom: every interleaving of a few threads.

#![allow(clippy::arithmetic_side_effects, clippy::panic, reason = "a test may fail")]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};

use super::state::{Rate, Refusal};
use super::word::Word;
use crate::base::sync::both;

/// So many calls at once, and one more each ten nanoseconds.
fn burst(calls: u64) -> Arc<Word> {
    Arc::new(Word::new(Rate { interval: 10, burst: 10 * calls }))
}

/// What a thread does: takes a turn now, and counts it.
fn call(word: &Arc<Word>, calls: &Arc<AtomicU64>) -> impl FnOnce() + 'static {
    let (word, calls) = (Arc::clone(word), Arc::clone(calls));
    move || {
        if word.take(1, 0, 0).is_ok() {
            calls.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn of_two_that_want_the_last_turn_one_gets_it() {
    loom::model(|| {
        let (word, calls) = (burst(1), Arc::new(AtomicU64::new(0)));
        both(call(&word, &calls), call(&word, &calls));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn two_that_have_room_both_get_a_turn_and_no_third_one_does() {
    loom::model(|| {
        let (word, calls) = (burst(2), Arc::new(AtomicU64::new(0)));
        both(call(&word, &calls), call(&word, &calls));
        assert_eq!(calls.load(Ordering::Relaxed), 2);
        assert_eq!(word.take(1, 0, 0), Err(Refusal::Wait(10)));
    });
}

#[test]
fn what_is_used_while_the_quota_changes_stays_used() {
    loom::model(|| {
        let (word, calls) = (burst(1), Arc::new(AtomicU64::new(0)));
        let changed = Arc::clone(&word);
        both(call(&word, &calls), move || changed.reconfigure(Rate { interval: 20, burst: 20 }, 0));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        assert_eq!(word.take(1, 0, 0), Err(Refusal::Wait(20)));
    });
}

#[test]
fn nobody_sees_half_of_a_new_quota() {
    loom::model(|| {
        let word = burst(1);
        let (asked, changed) = (Arc::clone(&word), Arc::clone(&word));
        both(
            // More than a burst of either, and not more than a burst of the one at the interval of the other.
            move || assert_eq!(asked.take(2, 0, 0), Err(Refusal::Never)),
            move || changed.reconfigure(Rate { interval: 1, burst: 1 }, 0),
        );
    });
}

#[test]
fn a_turn_that_waits_is_not_overtaken_after_a_change() {
    loom::model(|| {
        let word = burst(1);
        assert!(word.take(1, 0, 0).is_ok());
        let wait = Arc::new(AtomicU64::new(0));
        let (waiting, changed, waits) = (Arc::clone(&word), Arc::clone(&word), Arc::clone(&wait));
        both(
            move || waits.store(waiting.take(1, 0, 100).expect("it may wait").wait, Ordering::Relaxed),
            move || changed.reconfigure(Rate { interval: 1, burst: 5 }, 0),
        );
        let last = word.take(1, 0, 100).expect("it may wait").wait;
        assert!(last >= wait.load(Ordering::Relaxed), "{last}");
    });
}

#[test]
fn a_turn_is_given_back_or_followed_by_another() {
    loom::model(|| {
        let word = burst(1);
        assert!(word.take(1, 0, 0).is_ok());
        let second = word.take(1, 0, 100).expect("it may wait");
        let wait = Arc::new(AtomicU64::new(0));
        let (giving, taking, waits) = (Arc::clone(&word), Arc::clone(&word), Arc::clone(&wait));
        both(
            move || giving.give_back(&second),
            move || {
                let third = taking.take(1, 0, 100).expect("it may wait");
                waits.store(third.wait, Ordering::Relaxed);
            },
        );
        let wait = wait.load(Ordering::Relaxed);
        assert!(wait == 10 || wait == 20, "{wait}");
        assert_eq!(word.take(1, 0, 0), Err(Refusal::Wait(wait + 10)));
    });
}
