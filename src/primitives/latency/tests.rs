//! A quantile against sorted lists, idle gaps and hostile clocks included.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may fail"
)]

use std::time::Duration;

use proptest::prelude::*;

use super::{Latencies, PERIODS, SLICES};
use crate::base::clock::{Timestamp, nanos};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
const YEAR: u64 = 365 * 86_400 * SECOND;
const WINDOW: Duration = Duration::from_secs(30);
const LOWEST: u64 = 1 << 10;
const HIGHEST: u64 = (1 << 40) - 1;

/// The least latency that `quantile` of the list do not exceed.
fn of_list(list: &[u64], quantile: f64) -> u64 {
    let mut sorted = list.to_vec();
    sorted.sort_unstable();
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted[rank.max(1) - 1]
}

#[track_caller]
fn assert_close(found: Option<Duration>, exact: u64) {
    let found = nanos(found.expect("enough samples"));
    let exact = exact.clamp(LOWEST, HIGHEST);
    assert!(found >= exact && found < exact + exact.div_ceil(32), "{found} for {exact}");
}

fn latencies(quantile: f64) -> Latencies {
    Latencies::new(quantile, WINDOW, 1)
}

fn record(latencies: &Latencies, nanos: u64, at: u64) {
    latencies.record(Duration::from_nanos(nanos), Timestamp(at));
}

/// Fills a window around `at` with the same latency.
fn fill(latencies: &Latencies, nanos: u64, at: u64) {
    for _ in 0..1_000 {
        record(latencies, nanos, at);
    }
}

fn quantile(latencies: &Latencies, at: u64) -> Option<Duration> {
    latencies.quantile(Timestamp(at))
}

fn any_quantile() -> impl Strategy<Value = f64> {
    prop_oneof![Just(1e-9), Just(0.5), Just(0.9), Just(0.95), Just(0.99), Just(1.0 - 1e-9), 0.001..0.999]
}

fn any_latency() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (0..45_u32, 0..1_000_u64).prop_map(|(bits, part)| (1 << bits) + ((part << bits) / 1_000)),
        1 => (9..42_u32, 0..3_u64).prop_map(|(bits, part)| (1 << bits) + part - 1),
        1 => Just(0),
        1 => Just(u64::MAX),
    ]
}

fn any_gap(slice: u64) -> impl Strategy<Value = u64> {
    prop_oneof![
        20 => Just(0),
        20 => 0..slice / 20,
        3 => Just(slice / 3),
        2 => Just(slice),
        1 => Just(slice * SLICES - 1),
        1 => Just(slice * SLICES),
        1 => Just(slice * SLICES * 10),
        1 => Just(YEAR),
    ]
}

proptest! {
    #[test]
    fn it_is_close_to_the_quantile_of_the_sorted_list(
        probability in any_quantile(),
        window in prop_oneof![Just(30 * MS), Just(30 * SECOND), Just(YEAR), (30 * MS)..(100 * SECOND)],
        min_samples in 0..20_u32,
        start in 0..YEAR,
        calls in prop_oneof![Just(30 * MS), Just(SECOND), Just(30 * SECOND)].prop_flat_map(|window| {
            prop::collection::vec((any_gap(window / SLICES), any_latency(), any::<bool>()), 0..300)
        }),
    ) {
        let latencies = Latencies::new(probability, Duration::from_nanos(window), min_samples);
        let slice = window.div_ceil(SLICES);
        let period = (slice * SLICES).div_ceil(PERIODS);
        let mut now = start;
        let mut list: Vec<(u64, u64)> = Vec::new();
        let mut last_asked = None;
        let mut expected = None;
        for (gap, latency, ask) in calls {
            now += gap;
            record(&latencies, latency, now);
            list.push((now / slice, latency));
            if ask {
                if last_asked != Some(now / period) {
                    last_asked = Some(now / period);
                    let held = list.iter().filter(|(of, _)| of + SLICES > now / slice);
                    let held: Vec<u64> = held.map(|(_, latency)| *latency).collect();
                    expected = (held.len() >= min_samples as usize).then(|| of_list(&held, probability));
                }
                match expected {
                    Some(exact) => assert_close(quantile(&latencies, now), exact),
                    None => prop_assert_eq!(quantile(&latencies, now), None),
                }
            }
        }
    }

    #[test]
    fn no_clock_breaks_it(
        window in prop_oneof![Just(1), Just(30 * SECOND), Just(u64::MAX), any::<u64>()],
        readings in prop::collection::vec(
            prop_oneof![Just(0), Just(u64::MAX), 0..100 * SECOND, any::<u64>()], 0..60),
    ) {
        let latencies = Latencies::new(0.5, Duration::from_nanos(window), 1);
        let scale = Duration::from_nanos(LOWEST)..=Duration::from_nanos(HIGHEST);
        for (latency, reading) in readings.into_iter().enumerate() {
            record(&latencies, (latency as u64) << 20, reading);
            prop_assert!(quantile(&latencies, reading).is_none_or(|found| scale.contains(&found)));
        }
    }
}

#[test]
fn what_services_look_like_is_told_within_the_error() {
    let mut random = fastrand::Rng::with_seed(3);
    let mut exponential = || -(1.0 - random.f64()).ln();
    let bimodal: Vec<f64> = (0..20_000)
        .map(|call| 5e6 + 5e6 * exponential() + if call % 50 == 0 { 200e6 } else { 0.0 })
        .collect();
    // Box and Muller: two uniform numbers make a normal one.
    let lognormal: Vec<f64> = (0..20_000)
        .map(|_| {
            let radius = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
            20e6 * (radius * (std::f64::consts::TAU * random.f64()).cos()).exp()
        })
        .collect();
    for list in [bimodal, lognormal] {
        let list: Vec<u64> = list.into_iter().map(|latency| latency as u64).collect();
        for probability in [1e-12, 0.01, 0.5, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0 - 1e-12] {
            let latencies = latencies(probability);
            for (call, latency) in (0..).zip(&list) {
                record(&latencies, *latency, call * MS);
            }
            assert_close(quantile(&latencies, 20 * SECOND), of_list(&list, probability));
        }
    }
}

#[test]
fn too_few_samples_tell_nothing() {
    let latencies = Latencies::new(0.5, WINDOW, 10);
    for call in 0..9 {
        record(&latencies, MS, call);
    }
    assert_eq!(quantile(&latencies, 0), None);
    record(&latencies, MS, 10);
    assert_close(quantile(&latencies, 3 * SECOND), MS);
    assert_eq!(quantile(&self::latencies(0.5), 0), None);
}

#[test]
fn what_is_older_than_the_window_does_not_count() {
    for (age, counts) in [
        (0, true),
        (10 * SECOND, true),
        (30 * SECOND - 1, true),
        (30 * SECOND, false),
        (300 * SECOND, false),
        (YEAR, false),
        (500 * YEAR, false),
    ] {
        let latencies = latencies(0.5);
        record(&latencies, MS, 0);
        assert_eq!(quantile(&latencies, age).is_some(), counts, "{age} ns");
    }
    let latencies = latencies(0.5);
    record(&latencies, MS, 10 * SECOND - 1);
    assert!(quantile(&latencies, 30 * SECOND - 1).is_some(), "20 s old");
    assert!(quantile(&latencies, 30 * SECOND).is_none(), "two thirds of the window are sure, not more");
}

#[test]
fn a_used_bucket_starts_over() {
    let latencies = latencies(0.5);
    fill(&latencies, MS, 0);
    record(&latencies, MS, 30 * SECOND);
    assert_eq!(latencies.counts(3).iter().sum::<u64>(), 1);
    record(&latencies, MS, YEAR);
    assert_eq!(latencies.counts(YEAR / (10 * SECOND)).iter().sum::<u64>(), 1);
}

#[test]
fn it_follows_a_slowdown_within_a_window_and_comes_back() {
    let latencies = latencies(0.95);
    let mut known = Vec::new();
    for tick in 0..12_000_u64 {
        let now = tick * 10 * MS;
        let second = now / SECOND;
        let slow = (40..80).contains(&second);
        record(&latencies, (5 + tick % 5) * MS * if slow { 10 } else { 1 }, now);
        known.push(quantile(&latencies, now));
    }
    let at = |second: usize| nanos(known[second * 100].expect("known")) / MS;
    assert_eq!(at(39), 9);
    assert!(at(45) >= 50, "5 % of the window are slow after 1.5 s, and at most 3 s later it is known");
    assert!((90..93).contains(&at(70)), "a window later nothing else is known");
    assert_eq!(at(110), 9);
}

#[test]
fn it_is_found_once_per_tenth_of_the_window() {
    let latencies = latencies(0.5);
    fill(&latencies, MS, 0);
    assert_close(quantile(&latencies, 0), MS);
    for _ in 0..10 {
        fill(&latencies, 100 * MS, 1);
    }
    assert_close(quantile(&latencies, 3 * SECOND - 1), MS);
    assert_close(quantile(&latencies, 3 * SECOND), 100 * MS);
    for _ in 0..20 {
        fill(&latencies, MS, 1);
    }
    assert_close(quantile(&latencies, 3 * SECOND - 1), 100 * MS);
    assert_close(quantile(&latencies, 3 * SECOND), 100 * MS);
    assert_close(quantile(&latencies, 6 * SECOND), MS);
}

#[test]
fn a_record_that_is_a_window_late_is_dropped() {
    let latencies = latencies(0.5);
    fill(&latencies, MS, 30 * SECOND);
    record(&latencies, MS, 10 * SECOND - 1);
    assert_eq!(latencies.counts(3).iter().sum::<u64>(), 1_000);
    assert_eq!(latencies.counts(0).iter().sum::<u64>(), 0);
}

#[test]
fn the_shortest_window_is_30_ms() {
    for window in [1, 29 * MS, 30 * MS] {
        let latencies = Latencies::new(0.5, Duration::from_nanos(window), 1);
        record(&latencies, MS, 0);
        assert!(quantile(&latencies, 30 * MS - 1).is_some());
        assert!(quantile(&latencies, 30 * MS).is_none());
    }
}

#[test]
fn the_extremes_count_as_the_ends_of_the_scale() {
    for (latency, told) in [
        (Duration::ZERO, LOWEST),
        (Duration::from_nanos(1), LOWEST),
        (Duration::from_secs(3_600), HIGHEST),
        (Duration::MAX, HIGHEST),
    ] {
        let latencies = latencies(0.99);
        latencies.record(latency, Timestamp(0));
        assert_close(quantile(&latencies, 0), told);
    }
}

#[test]
fn a_clock_that_jumped_ahead_and_back_is_followed() {
    for ahead in [40 * SECOND, 90 * SECOND, YEAR, 500 * YEAR, u64::MAX] {
        let latencies = latencies(0.5);
        fill(&latencies, 100 * MS, ahead);
        quantile(&latencies, ahead);
        fill(&latencies, MS, SECOND);
        assert_close(quantile(&latencies, SECOND), MS);
    }
}

#[test]
fn a_word_that_is_full_stays_so() {
    let latencies = latencies(0.5);
    record(&latencies, MS, 0);
    let octave = latencies.octaves.iter().find_map(std::sync::OnceLock::get).expect("one is there");
    let word = octave
        .iter()
        .flatten()
        .find(|word| word.load(super::Ordering::Relaxed) == 1)
        .expect("a count of one");
    for _ in 0..3 {
        word.store((1 << 28) - 1, super::Ordering::Relaxed);
        record(&latencies, MS, 0);
        assert_eq!(word.load(super::Ordering::Relaxed), (1 << 28) - 1);
    }
}

#[test]
fn threads_lose_nothing() {
    const THREADS: u64 = 4;
    const CALLS: u64 = 20_000;
    let latencies = latencies(0.5);
    for slice in 0..10 {
        let barrier = std::sync::Barrier::new(THREADS as usize);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (latencies, barrier) = (&latencies, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    for call in 0..CALLS / 10 {
                        record(latencies, ((call + thread) % 40) * MS, slice * 10 * SECOND + call);
                        quantile(latencies, slice * 10 * SECOND + call * MS);
                    }
                });
            }
        });
        let held = latencies.counts(slice).iter().sum::<u64>();
        assert_eq!(held, THREADS * CALLS / 10 * (slice + 1).min(SLICES));
    }
}

#[test]
fn it_takes_the_memory_it_says() {
    assert_eq!(size_of::<Latencies>(), 520);
    assert_eq!(size_of::<super::Octave>(), 768);
    let latencies = latencies(0.5);
    for latency in 3 * MS..300 * MS {
        if latency % 10_000 == 0 {
            record(&latencies, latency, 0);
        }
    }
    assert_eq!(latencies.octaves.iter().filter(|octave| octave.get().is_some()).count(), 8);
}
