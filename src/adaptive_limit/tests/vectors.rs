//! What the algorithms answer to given windows: numbers recorded from the libraries they come from.

use std::time::Duration;

use super::super::algorithm::{Aimd, Algorithm, Gradient2, Sample, Vegas, by_gradient};
use super::MS;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_gradient_is_envoys() {
    for (limit, usual, latency, expected) in [
        (3, 10.0, 10.0, 5),
        (10, 10.0, 10.0, 16),
        (10, 10.0, 12.5, 13),
        (10, 10.0, 25.0, 7),
        (100, 10.0, 20.0, 70),
        (100, 10.0, 5.0, 214),
        (900, 10.0, 6.0, 1_000),
        (3, 10.0, 100.0, 3),
    ] {
        let next = by_gradient(f64::from(limit), usual * 1.25, latency);
        assert_eq!(next.clamp(3.0, 1_000.0) as u32, expected, "{limit} {usual} {latency}");
    }
}

/// The limit of an algorithm that knows `least` after a window with `latency`.
fn vegas(limit: f64, least: Duration, latency: Duration, in_flight: u32) -> f64 {
    let mut vegas = Vegas::new().probe_after(100_000);
    vegas.next(limit, &Sample::new(least, 0, 1));
    vegas.next(limit, &Sample::new(latency, in_flight, 1)).limit
}

#[test]
fn vegas_is_netflixs() {
    for (limit, latency, in_flight, expected) in [
        (20, 10, 20, 26),
        (20, 10, 9, 20),
        (20, 11, 20, 21),
        (20, 12, 20, 20),
        (20, 14, 20, 20),
        (20, 15, 20, 19),
        (200, 10, 200, 212),
        (200, 11, 200, 198),
        (10, 10, 10, 16),
        (10, 50, 10, 9),
        (10, 14, 10, 10),
        (10_000, 10, 10_000, 10_024),
    ] {
        let next = vegas(f64::from(limit), 10 * MS, latency * MS, in_flight);
        assert_eq!(next, f64::from(expected), "{limit} {latency} {in_flight}");
    }
    assert_eq!(Vegas::new().next(20.0, &Sample::new(10 * MS, 20, 1).failures(1)).limit, 19.0);
}

#[test]
fn vegas_forgets_its_least_latency() {
    let mut vegas = Vegas::new();
    vegas.next(20.0, &Sample::new(MS / 10, 20, 1));
    let next: Vec<f64> = (0..600).map(|_| vegas.next(20.0, &Sample::new(10 * MS, 20, 1)).limit).collect();
    assert!(next[..250].iter().all(|next| *next < 20.0));
    assert!(next[599] > 20.0);
}

#[test]
fn aimd_is_netflixs() {
    let mut aimd = Aimd::new();
    assert_eq!(aimd.next(20.0, &Sample::new(MS, 10, 100)).limit, 21.0);
    assert_eq!(aimd.next(20.0, &Sample::new(MS, 9, 100)).limit, 20.0);
    assert_eq!(aimd.next(30.0, &Sample::new(MS, 30, 100).failures(100)).limit, 27.0);
    assert_eq!(aimd.next(30.0, &Sample::new(6 * SECOND, 30, 100)).limit, 27.0);
}

#[test]
fn gradient2_is_netflixs_but_for_the_queue_where_the_latency_is_high() {
    // Netflix adds a fifth of the queue to each: 20.8, 90.8 and 96.8.
    for (limit, latency, expected) in [(20.0, 10.0, 20.8), (100.0, 30.0, 90.0), (100.0, 18.75, 96.0)] {
        let mut gradient2 = Gradient2::new().long_window(100_000);
        for _ in 0..10 {
            gradient2.next(limit, &Sample::new(10 * MS, 0, 1));
        }
        let latency = Duration::from_micros((latency * 1_000.0) as u64);
        let next = gradient2.next(limit, &Sample::new(latency, limit as u32, 1)).limit;
        assert!((next - expected).abs() < 0.01, "{limit} {latency:?}: {next}");
    }
}

#[test]
fn a_tenth_of_failures_is_borne_and_more_is_not() {
    for mut algorithm in super::all() {
        // In a quiet window, so that none is raised.
        let sample = Sample::new(10 * MS, 5, 100);
        algorithm.next(50.0, &sample);
        assert_eq!(algorithm.next(50.0, &sample.failures(10)).limit, 50.0, "{algorithm:?}");
        let next = algorithm.next(50.0, &sample.failures(25)).limit;
        assert!((44.9..=49.0).contains(&next), "{algorithm:?}: {next}");
    }
}
