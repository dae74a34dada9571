//! A meter under loom: every interleaving of two calls that end.

use std::time::Duration;

use loom::sync::Arc;

use super::adaptive::Adaptive;
use super::algorithm::{Algorithm, Next, Sample};
use super::config::AdaptiveLimitConfig;
use super::meter::Meter;
use crate::admission::{Change, Ended, Limit};
use crate::classify::Class;
use crate::clock::Timestamp;
use crate::sync::{AtomicU64, Ordering, both};

const MS: u64 = 1_000_000;

/// The calls of each window.
#[derive(Clone, Debug, Default)]
struct Notes(std::sync::Arc<std::sync::Mutex<Vec<u64>>>);

impl Algorithm for Notes {
    fn next(&mut self, limit: f64, sample: &Sample) -> Next {
        self.0.lock().expect("nobody panics").push(sample.calls);
        Next::limit(limit)
    }
}

fn end(meter: &Meter, now: u64) {
    let (began, now) = (Timestamp(now), Timestamp(now));
    meter.ended(&Ended { began, now, in_flight: 1, class: Some(Class::Success) });
}

/// Two calls end together when a window of one call is over.
fn both_end() -> (Arc<Meter>, Vec<u64>, Notes) {
    let notes = Notes::default();
    let config = AdaptiveLimitConfig::new().window(Duration::from_millis(10)).min_calls(1);
    let meter = Arc::new(Meter::new(&config, Box::new(notes.clone()), Timestamp(0)));
    let (one, other) = (Arc::clone(&meter), Arc::clone(&meter));
    both(move || end(&one, 10 * MS), move || end(&other, 10 * MS));
    let windows = notes.0.lock().expect("nobody panics").clone();
    (meter, windows, notes)
}

#[test]
fn a_window_is_closed_once() {
    loom::model(|| {
        let (_, windows, _) = both_end();
        assert_eq!(windows.len(), 1, "{windows:?}");
    });
}

#[test]
fn each_call_is_in_one_window() {
    loom::model(|| {
        let (meter, _, notes) = both_end();
        end(&meter, 20 * MS);
        let windows = notes.0.lock().expect("nobody panics");
        assert_eq!(windows.iter().sum::<u64>(), 3, "{windows:?}");
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
