//! A meter under loom: every interleaving of two calls that end.

use std::time::Duration;

use loom::sync::Arc;

use super::algorithm::{Algorithm, Next, Sample};
use super::config::AdaptiveLimitConfig;
use super::meter::Meter;
use crate::admission::Ended;
use crate::classify::Class;
use crate::clock::Timestamp;
use crate::sync::both;

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
