//! A quantile under shuttle: schedules of several threads, tried at random.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Bucket, Latencies, SHORTEST_SLICE};
use crate::base::clock::Timestamp;
use crate::base::sync::{all, explore};

const FAST: Duration = Duration::from_micros(4);
const SLOW: Duration = Duration::from_micros(7);

type Thread = Box<dyn FnOnce() + Send>;

/// One of each is there, in slice zero.
fn latencies() -> Arc<Latencies> {
    let latencies = Latencies::new(0.5, Duration::from_nanos(3 * SHORTEST_SLICE), 2);
    latencies.record(FAST, Timestamp(0));
    latencies.record(SLOW, Timestamp(0));
    Arc::new(latencies)
}

fn recorder(latencies: &Arc<Latencies>, latency: Duration, slice: u64) -> Thread {
    let latencies = Arc::clone(latencies);
    Box::new(move || {
        for _ in 0..2 {
            latencies.record(latency, Timestamp(slice * SHORTEST_SLICE));
        }
    })
}

fn count(latencies: &Latencies, latency: Duration, slice: u64) -> u64 {
    latencies.counts(slice)[Bucket::of(latency).0 as usize]
}

#[test]
fn all_who_begin_a_slice_count() {
    explore(|| {
        let latencies = latencies();
        let threads = [FAST, SLOW, FAST, SLOW, FAST].map(|latency| recorder(&latencies, latency, 3));
        all(threads);
        assert_eq!((count(&latencies, FAST, 3), count(&latencies, SLOW, 3)), (6, 4));
    });
}

#[test]
fn those_who_are_late_lose_nothing_of_the_others() {
    explore(|| {
        let latencies = latencies();
        all([0, 0, 3, 3, 3].map(|slice| recorder(&latencies, FAST, slice)));
        let counted = count(&latencies, FAST, 3);
        assert!((6..=10).contains(&counted), "{counted}, where those of slice 0 may have been misplaced");
    });
}

#[test]
fn of_all_who_ask_one_finds_the_quantile() {
    explore(|| {
        let (latencies, claims) = (latencies(), Arc::new(AtomicUsize::new(0)));
        let asks = || {
            let (latencies, claims) = (Arc::clone(&latencies), Arc::clone(&claims));
            Box::new(move || {
                claims.fetch_add(usize::from(latencies.claim(0).is_ok()), Ordering::Relaxed);
            }) as Thread
        };
        all([asks(), asks(), asks(), asks(), asks()]);
        assert_eq!(claims.load(Ordering::Relaxed), 1);
    });
}
