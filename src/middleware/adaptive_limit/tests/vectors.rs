//! What the algorithms answer to given windows: numbers recorded from the libraries they come from.

use std::time::Duration;

use super::super::algorithm::{Aimd, Algorithm, Gradient2, Sample, Vegas};
use super::MS;

const SECOND: Duration = Duration::from_secs(1);

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
fn vegas_takes_larger_steps_and_bears_longer_queues_from_a_hundred_on() {
    // Queues of 2 and 3, 5 and 6, 12 and 13 calls, where a step is 2.
    for (limit, queue, expected) in [
        (100.0, 2.0, 12.0),
        (100.0, 3.0, 2.0),
        (100.0, 5.0, 2.0),
        (100.0, 6.0, 0.0),
        (100.0, 12.0, 0.0),
        (100.0, 13.0, -2.0),
    ] {
        // A little less than so many, which is rounded up.
        let latency = 10e6 / (1.0 - (queue - 0.01) / limit);
        let next = vegas(limit, 10 * MS, Duration::from_nanos(latency as u64), 100);
        assert_eq!(next, limit + expected, "{queue}");
    }
}

#[test]
fn vegas_forgets_after_half_to_all_of_its_windows_and_draws_anew() {
    // When the least latency was forgotten: the windows after which the limit is not lowered.
    let forgets = |seed| {
        fastrand::seed(seed);
        let mut vegas = Vegas::new().probe_after(10);
        let mut forgotten = Vec::new();
        for window in 1..=2_000_u32 {
            vegas.next(20.0, &Sample::new(MS, 0, 1));
            let slow = vegas.clone().next(20.0, &Sample::new(10 * MS, 20, 1)).limit;
            if slow > 20.0 {
                forgotten.push(window);
            }
        }
        forgotten
    };
    let found = forgets(1);
    let gaps: Vec<u32> = found.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| (100..=200).contains(gap)), "{gaps:?}");
    assert!(gaps.iter().any(|gap| *gap < 150) && gaps.iter().any(|gap| *gap > 150), "{gaps:?}");
    assert_ne!(found, forgets(2));
}

#[test]
fn aimd_bears_just_the_greatest_latency() {
    let mut aimd = Aimd::new().max_latency(50 * MS);
    assert_eq!(aimd.next(20.0, &Sample::new(50 * MS, 20, 100)).limit, 21.0);
    assert_eq!(aimd.next(20.0, &Sample::new(50 * MS + Duration::from_nanos(1), 20, 100)).limit, 18.0);
}

/// What Gradient2 takes for usual, in milliseconds, if it is about `expected`.
fn average(gradient2: &Gradient2, expected: u32) -> f64 {
    // Of a limit of 100, three quarters are left at twice as long as it bears, which is one and a half times the average.
    let mut probe = gradient2.clone().smoothing(1.0).long_window(100_000);
    let left = probe.next(100.0, &Sample::new(2 * expected * MS, 100, 1)).limit / 100.0;
    left * f64::from(2 * expected) / 1.5
}

#[test]
fn gradient2_averages_ten_windows_evenly_and_weighs_the_others_by_the_long_window() {
    let mut gradient2 = Gradient2::new().long_window(9);
    for second in 1..=10 {
        gradient2.next(100.0, &Sample::new((1_000 + 100 * second) * MS, 0, 1));
    }
    let even = average(&gradient2, 1_550);
    assert!((even - 1_550.0).abs() < 1.0, "{even}");
    gradient2.next(100.0, &Sample::new(2_050 * MS, 0, 1));
    let next = average(&gradient2, 1_650);
    assert!((next - (1_550.0 + 0.2 * 500.0)).abs() < 1.0, "{next}");
}

#[test]
fn gradient2_forgets_a_slow_time_sooner() {
    // Once the average is more than twice as long, by a twentieth per window.
    for (before, after) in [(4, 3_800), (3, 2_850), (2, 2_000), (1, 1_000)] {
        let mut gradient2 = Gradient2::new().long_window(100_000);
        for _ in 0..10 {
            gradient2.next(100.0, &Sample::new(before * SECOND, 0, 1));
        }
        gradient2.next(100.0, &Sample::new(SECOND, 0, 1));
        let found = average(&gradient2, after);
        assert!((found - f64::from(after)).abs() < 1.0, "{before}: {found}");
    }
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
