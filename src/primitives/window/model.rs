//! Windows under loom: every interleaving of a few threads.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a test may fail"
)]

use std::time::Duration;

use loom::sync::Arc;

use super::{Calls, Counts, Outcome, Window};
use crate::base::clock::{Now, Timestamp};
use crate::base::sync::both;

const GOOD: Outcome = Outcome::GOOD;
const FAILED: Outcome = Outcome { failed: true, slow: false };
const SLOW: Outcome = Outcome { failed: false, slow: true };
const SECOND: u64 = 1_000_000_000;

fn record(window: &Calls, era: u64, at: u64, outcome: Outcome) -> bool {
    window.record(era, &Now::at(Timestamp(at), 0), outcome).is_some()
}

fn counts(window: &Calls, era: u64, at: u64) -> Counts {
    window.counts(era, Timestamp(at))
}

#[test]
fn two_writers_across_the_end_of_a_count_window_leave_no_trace_behind() {
    loom::model(|| {
        let window = Arc::new(Calls::new(Window::calls(2)));
        let (one, other) = (Arc::clone(&window), Arc::clone(&window));
        both(
            move || {
                assert!(record(&one, 0, 0, FAILED));
            },
            move || {
                assert!(record(&other, 0, 0, GOOD));
                assert!(record(&other, 0, 0, SLOW));
            },
        );
        let held = counts(&window, 0, 0);
        assert_eq!(held.calls, 2);
        assert!(
            held.failures + held.slow >= 1,
            "of three calls one good one at most can have stayed: {held:?}"
        );
        record(&window, 0, 0, GOOD);
        record(&window, 0, 0, GOOD);
        assert_eq!(counts(&window, 0, 0), Counts { calls: 2, ..Counts::default() });
    });
}

#[test]
fn a_writer_of_an_era_that_ends_is_not_seen_by_the_next() {
    loom::model(|| {
        let window = Arc::new(Calls::new(Window::calls(3)));
        let (old, new) = (Arc::clone(&window), Arc::clone(&window));
        both(
            move || {
                record(&old, 0, 0, FAILED);
            },
            move || {
                new.begin(1);
                assert!(record(&new, 1, 0, SLOW));
            },
        );
        assert_eq!(counts(&window, 1, 0), Counts { calls: 1, slow: 1, ..Counts::default() });
    });
}

#[test]
fn what_a_writer_leaves_behind_is_not_seen_by_an_era_with_the_same_bits() {
    const ROUND: u64 = 1 << 16;
    loom::model(|| {
        let window = Arc::new(Calls::new(Window::calls(3)));
        window.begin(5);
        let (old, new) = (Arc::clone(&window), Arc::clone(&window));
        both(
            move || {
                record(&old, 5, 0, FAILED);
            },
            move || new.begin(ROUND + 4),
        );
        window.begin(ROUND + 5);
        assert_eq!(counts(&window, ROUND + 5, 0), Counts::default());
        record(&window, ROUND + 5, 0, GOOD);
        assert_eq!(counts(&window, ROUND + 5, 0), Counts { calls: 1, ..Counts::default() });
    });
}

#[test]
fn two_writers_to_one_bucket_both_count() {
    loom::model(|| {
        let window = Arc::new(Calls::new(Window::time(Duration::from_secs(2)).buckets(2)));
        let (one, other) = (Arc::clone(&window), Arc::clone(&window));
        both(
            move || {
                record(&one, 0, 0, FAILED);
            },
            move || {
                record(&other, 0, 0, FAILED);
            },
        );
        assert_eq!(counts(&window, 0, SECOND).failures, 2);
    });
}

#[test]
fn a_bucket_that_is_reused_forgets_what_it_held() {
    loom::model(|| {
        let window = Arc::new(Calls::new(Window::time(Duration::from_secs(2)).buckets(2)));
        let (late, now) = (Arc::clone(&window), Arc::clone(&window));
        both(
            move || {
                record(&late, 0, 0, FAILED);
            },
            move || {
                record(&now, 0, 2 * SECOND, FAILED);
            },
        );
        assert_eq!(counts(&window, 0, 2 * SECOND).failures, 1);
    });
}

#[test]
fn a_reader_never_sees_more_failures_than_calls() {
    loom::model(|| {
        let window = Arc::new(Calls::new(Window::calls(1)));
        let (writer, reader) = (Arc::clone(&window), Arc::clone(&window));
        both(
            move || {
                record(&writer, 0, 0, FAILED);
                record(&writer, 0, 0, GOOD);
            },
            move || {
                let held = counts(&reader, 0, 0);
                assert!(held.failures <= held.calls, "{held:?}");
            },
        );
    });
}
