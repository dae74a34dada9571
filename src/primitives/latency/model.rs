//! A quantile under loom: every interleaving of a few threads.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a test may fail"
)]

use std::time::Duration;

use loom::sync::Arc;

use super::{Bucket, Latencies, SHORTEST_SLICE};
use crate::base::clock::Timestamp;
use crate::base::sync::both;

const FAST: Duration = Duration::from_micros(4);
const SLOW: Duration = Duration::from_micros(7);

/// The median of two or more samples; `FAST` and `SLOW` are of one octave, which is there, and counted once each
/// in slice zero.
fn latencies() -> Arc<Latencies> {
    let latencies = Latencies::new(0.5, Duration::from_nanos(3 * SHORTEST_SLICE), 2);
    record(&latencies, FAST, 0);
    record(&latencies, SLOW, 0);
    Arc::new(latencies)
}

fn slice(number: u64) -> Timestamp {
    Timestamp(number * SHORTEST_SLICE)
}

fn record(latencies: &Latencies, latency: Duration, number: u64) {
    latencies.record(latency, slice(number));
}

fn count(latencies: &Latencies, latency: Duration, number: u64) -> u64 {
    latencies.counts(number)[Bucket::of(latency).0 as usize]
}

#[test]
fn two_who_begin_a_slice_both_count() {
    loom::model(|| {
        let latencies = latencies();
        let (one, other) = (Arc::clone(&latencies), Arc::clone(&latencies));
        both(move || record(&one, FAST, 3), move || record(&other, FAST, 3));
        assert_eq!(count(&latencies, FAST, 3), 2);
        assert_eq!(count(&latencies, SLOW, 3), 0);
    });
}

#[test]
fn a_late_record_brings_back_nothing_of_its_slice() {
    loom::model(|| {
        let latencies = latencies();
        record(&latencies, FAST, 0);
        let (late, now) = (Arc::clone(&latencies), Arc::clone(&latencies));
        both(
            move || record(&late, FAST, 0),
            move || {
                record(&now, FAST, 3);
                record(&now, FAST, 3);
            },
        );
        let counted = count(&latencies, FAST, 3);
        assert!((2..=3).contains(&counted), "{counted}, where one of slice 0 may have been misplaced");
    });
}

#[test]
fn the_quantile_of_a_period_is_found_once() {
    loom::model(|| {
        let latencies = latencies();
        let claims = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        let claim = || {
            let (latencies, claims) = (Arc::clone(&latencies), Arc::clone(&claims));
            move || {
                if latencies.claim(0).is_ok() {
                    claims.fetch_add(1, loom::sync::atomic::Ordering::Relaxed);
                }
            }
        };
        both(claim(), claim());
        assert_eq!(claims.load(loom::sync::atomic::Ordering::Relaxed), 1);
    });
}

#[test]
fn who_asks_while_slices_change_is_told_of_nothing_that_was_not_there() {
    loom::model(|| {
        let latencies = latencies();
        let (recording, asking) = (Arc::clone(&latencies), Arc::clone(&latencies));
        both(
            move || {
                record(&recording, SLOW, 3);
                record(&recording, SLOW, 3);
            },
            move || {
                // Slice 0 is in the window of slice 2, until slice 3 begins: nothing is known then.
                let told = asking.quantile(slice(2));
                let fast = Bucket::of(FAST).highest();
                assert!(told.is_none_or(|told| told == fast), "{told:?}");
            },
        );
        assert_eq!(latencies.quantile(slice(3)), Some(Bucket::of(SLOW).highest()));
    });
}
