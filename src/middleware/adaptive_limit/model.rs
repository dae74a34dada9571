//! A meter under loom: every interleaving of two calls that end.

use std::time::Duration;

use loom::sync::Arc;

use super::adaptive::Adaptive;
use super::algorithm::{Algorithm, Next, Sample};
use super::config::AdaptiveLimitConfig;
use super::meter::Meter;
use crate::base::clock::Timestamp;
use crate::base::sync::{AtomicU64, Ordering, both};
use crate::classify::Class;
use crate::middleware::admission::{Change, Ended, Limit};

const MS: u64 = 1_000_000;

/// The calls of each window; after each, whether to measure afresh.
#[derive(Clone, Debug, Default)]
struct Notes {
    windows: std::sync::Arc<std::sync::Mutex<Vec<u64>>>,
    is_afresh: bool,
}

impl Notes {
    fn windows(&self) -> Vec<u64> {
        self.windows.lock().expect("no model panics with the lock").clone()
    }
}

impl Algorithm for Notes {
    fn next(&mut self, limit: f64, sample: &Sample) -> Next {
        self.windows.lock().expect("no model panics with the lock").push(sample.calls);
        let next = Next::limit(limit);
        if self.is_afresh { next.reset_window() } else { next }
    }
}

fn end(meter: &Meter, now: u64) {
    let (began, now) = (Timestamp(now), Timestamp(now));
    meter.ended(&Ended { began, now, in_flight: 1, class: Some(Class::Success) });
}

/// Two calls end at these milliseconds, and with either of them the first window, of one call.
fn both_end(notes: &Notes, one_at: u64, other_at: u64) -> Arc<Meter> {
    let config = AdaptiveLimitConfig::new().window(Duration::from_millis(10)).min_calls(1).initial_limit(1);
    let meter = Arc::new(Meter::new(&config, Box::new(notes.clone()), Timestamp(0)));
    let (one, other) = (Arc::clone(&meter), Arc::clone(&meter));
    both(move || end(&one, one_at * MS), move || end(&other, other_at * MS));
    meter
}

#[test]
fn a_window_is_closed_once() {
    loom::model(|| {
        let notes = Notes::default();
        both_end(&notes, 10, 10);
        assert_eq!(notes.windows().len(), 1, "{notes:?}");
    });
}

#[test]
fn each_call_is_in_one_window() {
    loom::model(|| {
        let notes = Notes::default();
        let meter = both_end(&notes, 10, 10);
        end(&meter, 20 * MS);
        assert_eq!(notes.windows().iter().sum::<u64>(), 3, "{notes:?}");
    });
}

#[test]
fn a_call_that_ended_before_its_window_was_closed_ends_no_measurement() {
    loom::model(|| {
        let notes = Notes { is_afresh: true, ..Notes::default() };
        let meter = both_end(&notes, 10, 11);
        // A measurement takes four calls.
        end(&meter, 21 * MS);
        assert_eq!(notes.windows().len(), 1, "{notes:?}");
    });
}

/// Finds a limit of ninety.
#[derive(Clone, Debug, PartialEq)]
struct Ninety;

impl Algorithm for Ninety {
    fn next(&mut self, _: f64, _: &Sample) -> Next {
        Next::limit(90.0)
    }
}

#[test]
fn a_limit_that_is_found_while_the_range_shrinks_is_not_set_beyond_it() {
    loom::model(|| {
        let config =
            AdaptiveLimitConfig::new().algorithm(Ninety).window(Duration::from_millis(10)).min_calls(1);
        let before = config.initial_limit(10).max_limit(100);
        let limit = Arc::new(Adaptive::new(&before));
        let set = Arc::new(AtomicU64::new(10));
        let (finding, their_set) = (Arc::clone(&limit), Arc::clone(&set));
        let (shrinking, our_set) = (Arc::clone(&limit), Arc::clone(&set));
        both(
            move || {
                let (began, now) = (Timestamp(10 * MS), Timestamp(10 * MS));
                let call = Ended { began, now, in_flight: 9, class: Some(Class::Success) };
                finding.ended(&call, |limit| their_set.store(limit.into(), Ordering::Relaxed));
            },
            move || {
                let after = before.clone().max_limit(20);
                let change = Change { before: &before, after: &after, now: Timestamp(10 * MS) };
                shrinking.reconfigure(&change, |limit| our_set.store(limit.into(), Ordering::Relaxed));
            },
        );
        // Ten, if the window was opened anew before it was over.
        let set = set.load(Ordering::Relaxed);
        assert!(set == 20 || set == 10, "{set} is set");
    });
}
