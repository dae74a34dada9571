//! How the latency without a queue is found.

use std::time::Duration;

use super::super::algorithm::{Algorithm, Gradient, Next, Sample};
use super::{MS, Metered};
use crate::base::clock::Timestamp;
use crate::classify::Class;

const SECOND: Duration = Duration::from_secs(1);

/// A window in which `calls` calls took `latency` each, with `in_flight` of them at any time.
fn window(latency: Duration, in_flight: u32, calls: u32) -> Sample {
    Sample::new(latency, in_flight, u64::from(calls)).length(latency * calls / in_flight)
}

#[track_caller]
fn assert_near(next: f64, expected: f64) {
    assert!((next - expected).abs() < 1e-6, "{next} for {expected}");
}

#[test]
fn a_new_service_in_full_use_is_measured_with_few_in_flight_and_gets_its_limit_back() {
    let mut gradient = Gradient::new();
    let busy = |latency| window(latency, 20, 200);
    assert_eq!(gradient.next(20.0, &busy(10 * MS)), Next::limit(4.0).reset_window());
    assert_eq!(gradient.next(4.0, &window(8 * MS, 4, 200)), Next::limit(20.0));
    // 2,000 per second of 8 ms each are 16 at a time, and as many may wait.
    assert_near(gradient.next(20.0, &busy(10 * MS + MS / 10)).limit, 2.0 * 200.0 / 0.101 * 0.008 + 4.0);
}

#[test]
fn a_limit_that_is_the_constraint_while_no_call_waits_is_raised_at_once() {
    let mut gradient = Gradient::new();
    gradient.next(20.0, &window(10 * MS, 4, 200));
    assert_eq!(gradient.next(20.0, &window(10 * MS, 20, 200)), Next::limit(80.0));
    gradient.next(80.0, &window(10 * MS, 4, 200));
    // Once calls have waited, by less.
    gradient.next(80.0, &window(20 * MS, 80, 200));
    assert_eq!(gradient.next(80.0, &window(10 * MS, 80, 200)), Next::limit(160.0));
}

#[test]
fn bursts_raise_the_limit_of_a_service_with_room_for_more() {
    let mut gradient = Gradient::new();
    // At any time two are in flight, and twenty at a time.
    let bursts = |in_flight| Sample::new(10 * MS, in_flight, 200).length(SECOND);
    let mut limit = 20.0;
    for _ in 0..20 {
        limit = gradient.next(limit, &bursts(limit as u32)).limit;
    }
    assert!(limit > 100.0, "{limit}");
    // No further than they reach.
    assert_eq!(gradient.next(limit, &bursts(100)).limit, limit);
}

#[test]
fn a_first_window_that_is_too_short_for_slow_calls_teaches_nothing() {
    let mut gradient = Gradient::new();
    let short = Sample::new(100 * MS, 10, 30).length(300 * MS);
    assert_eq!(gradient.next(20.0, &short), Next::limit(20.0));
    assert_eq!(gradient.next(20.0, &window(200 * MS, 10, 200)), Next::limit(20.0));
    // 200 ms is usual, so that calls of 201 ms do not wait.
    assert_eq!(gradient.next(15.0, &window(201 * MS, 15, 200)), Next::limit(60.0));
}

#[test]
fn what_is_worse_than_before_has_to_be_found_again_some_time_later() {
    let mut gradient = Gradient::new();
    gradient.next(40.0, &window(10 * MS, 1, 200));
    let slow = window(100 * MS, 40, 200);
    assert_eq!(gradient.next(40.0, &slow).limit, 30.0);
    assert_eq!(gradient.next(30.0, &slow).limit, 22.5);
    assert_eq!(gradient.next(22.5, &slow), Next::limit(3.0).reset_window());
    let found = Sample::new(80 * MS, 3, 60).length(1_600 * MS);
    assert_eq!(gradient.next(3.0, &found), Next::limit(17.25));
    // Until then half as much again is usual.
    let mut limit = 17.25;
    let mut seconds = 0;
    loop {
        let busy = Sample::new(80 * MS, 18, 125).length(SECOND);
        let next = gradient.next(limit, &busy);
        if next == Next::limit(3.0).reset_window() {
            break;
        }
        seconds += 1;
        assert!(seconds < 100, "{gradient:?}");
        assert!(next.limit >= 125.0 * 0.015 * 2.0 + 4.0 && next.limit <= 17.25, "{next:?}");
        limit = next.limit;
    }
    assert_eq!(seconds, 9);
    let before = gradient.next(3.0, &found).limit;
    // 80 ms is usual now, and calls of 90 ms do not wait.
    let next = gradient.next(before, &window(90 * MS, before.ceil() as u32, 200)).limit;
    assert!(next > before, "{next} after {before}");
}

#[test]
fn a_service_that_is_as_busy_with_few_is_measured_with_fewer() {
    let mut gradient = Gradient::new();
    // One worker, so that each call takes as many times 10 ms as there are in flight.
    assert_eq!(gradient.next(20.0, &window(200 * MS, 20, 200)), Next::limit(4.0).reset_window());
    assert_eq!(gradient.next(4.0, &window(40 * MS, 4, 200)), Next::limit(2.0).reset_window());
    assert_eq!(gradient.next(2.0, &window(20 * MS, 2, 200)), Next::limit(1.0).reset_window());
    let next = gradient.next(1.0, &window(10 * MS, 1, 200)).limit;
    assert!((6.0..6.1).contains(&next), "{next}");
}

#[test]
fn a_measurement_waits_for_an_answer() {
    let mut gradient = Gradient::new();
    let failing = Sample::new(MS, 50, 100).failures(100);
    let mut limit = gradient.next(50.0, &failing).limit;
    for _ in 0..50 {
        let next = gradient.next(limit, &failing);
        assert!(next.limit <= limit && next == Next::limit(next.limit).reset_window(), "{next:?}");
        limit = next.limit;
    }
    assert_eq!(limit, 1.0);
}

/// A gradient that has begun to measure with so many in flight, since what it knew was from a busy service.
fn measuring() -> (Gradient, f64) {
    let mut gradient = Gradient::new();
    gradient.next(20.0, &window(10 * MS, 10, 200));
    let mut limit = 20.0_f64;
    for _ in 0..100 {
        let next = gradient.next(limit, &window(20 * MS, limit.ceil() as u32, 200));
        limit = next.limit;
        if next == Next::limit(limit).reset_window() {
            return (gradient, limit);
        }
    }
    panic!("it does not measure: {gradient:?}");
}

#[test]
fn failures_while_measuring_lower_the_limit_to_come_back_to() {
    let (mut gradient, few) = measuring();
    let before = gradient.next(few, &window(10 * MS, few as u32, 200)).limit;
    assert!(before > 15.0, "{before}");
    // If most fail, nothing was measured.
    let (mut gradient, few) = measuring();
    assert_eq!(
        gradient.next(few, &window(10 * MS, few as u32, 200).failures(102)),
        Next::limit(before / 2.0)
    );
    // Where half fails twice, that is usual.
    let (mut gradient, few) = measuring();
    let half = window(10 * MS, few as u32, 200).failures(100);
    assert_eq!(gradient.next(few, &half), Next::limit(few).reset_window());
    assert_eq!(gradient.next(few, &half), Next::limit(before));
    // The limit is lowered where more do.
    let more = |failures| window(10 * MS, 2, 200).failures(failures);
    assert_eq!(gradient.clone().next(before, &more(121)).limit, before * 0.7);
    let usual = gradient.next(before, &more(100)).limit;
    assert_eq!(usual, before);
}

#[test]
fn failures_that_become_fewer_are_measured_until_they_do_not() {
    let (mut gradient, few) = measuring();
    for failures in [100, 70, 50] {
        let sample = window(10 * MS, few as u32, 200).failures(failures);
        assert_eq!(gradient.next(few, &sample), Next::limit(few).reset_window(), "{failures}");
    }
    assert!(gradient.next(few, &window(10 * MS, few as u32, 200).failures(40)).limit > few);
}

#[test]
fn a_window_with_too_many_failures_does_not_teach_that_failures_are_usual() {
    let mut gradient = Gradient::new();
    let quiet = |failures| window(10 * MS, 10, 200).failures(failures);
    gradient.next(40.0, &quiet(0));
    for failures in [60, 40, 40] {
        assert_eq!(gradient.next(40.0, &quiet(failures)), Next::limit(36.0), "{failures} of 200");
    }
    // A tenth more than usual is borne, and what is borne is usual some time later.
    for failures in [20, 24, 28] {
        assert_eq!(gradient.next(40.0, &quiet(failures)), Next::limit(40.0), "{failures} of 200");
    }
    assert_eq!(gradient.next(40.0, &quiet(40)), Next::limit(36.0), "by three tenths of the way");
}

#[test]
fn after_failures_the_limit_rises_step_by_step() {
    let mut gradient = Gradient::new();
    gradient.next(40.0, &window(10 * MS, 10, 200));
    let limit = gradient.next(40.0, &window(10 * MS, 40, 200).failures(30)).limit;
    assert_eq!(limit, 36.0);
    let busy = |in_flight| window(10 * MS, in_flight, 200);
    assert_eq!(gradient.next(36.0, &busy(36)).limit, 37.0);
    // Until the limit is not reached.
    gradient.next(37.0, &busy(20));
    assert_eq!(gradient.next(37.0, &busy(37)).limit, 74.0);
}

#[test]
fn the_usual_latency_is_an_average_of_the_windows_that_do_not_reach_the_limit() {
    let usual = |seen: Sample| {
        let mut gradient = Gradient::new();
        gradient.next(40.0, &window(10 * MS, 10, 200));
        gradient.next(40.0, &seen);
        // 1,000 calls per second that wait.
        let probe = Sample::new(100 * MS, 39, 10_000).length(10 * SECOND);
        let target = gradient.next(20.0, &probe).limit;
        (target - 4.0) / 2.0
    };
    assert_near(usual(window(5 * MS, 10, 200)), 10.0 + (5.0 - 10.0) * 0.3);
    assert_near(usual(window(15 * MS, 10, 200)), 10.0 + (15.0 - 10.0) * 0.3);
    // By half of that after 50 calls, and by no more than twice of what was usual.
    assert_near(usual(window(5 * MS, 10, 50)), 10.0 + (5.0 - 10.0) * 0.15);
    assert_near(usual(window(SECOND, 10, 200)), 10.0 + (20.0 - 10.0) * 0.3);
    // Not by one that reached the limit.
    assert_near(usual(window(5 * MS, 40, 200)), 10.0);
}

/// Rounds of as many calls as the limit admits to `workers` that take `mean`, for that long.
fn overload(metered: &mut Metered, workers: u32, mean: Duration, length: Duration) {
    let end = metered.now.after(length);
    while metered.now < end {
        metered.succeed(1, u32::MAX, mean * metered.limit.max(workers) / workers);
    }
}

/// The seconds in which the limit was below half of what it was a second before.
fn dips(metered: &mut Metered, seconds: u32, mut for_a_second: impl FnMut(&mut Metered)) -> Vec<u32> {
    let mut dips = Vec::new();
    for second in 0..seconds {
        metered.lowest = u32::MAX;
        let before = metered.limit;
        for_a_second(metered);
        if metered.lowest <= before / 2 {
            dips.push(second);
        }
    }
    dips
}

#[test]
fn a_busy_service_is_measured_each_minute_and_not_in_step_with_others() {
    let found = [1, 2].map(|seed| {
        let mut metered = Metered::new(20, Gradient::new());
        overload(&mut metered, 10, 10 * MS, 10 * SECOND);
        fastrand::seed(seed);
        dips(&mut metered, 600, |metered| overload(metered, 10, 10 * MS, SECOND))
    });
    assert!((8..=10).contains(&found[0].len()), "{found:?}");
    assert!(found[0].windows(2).all(|pair| (60..=71).contains(&(pair[1] - pair[0]))), "{found:?}");
    assert_ne!(found[0], found[1]);
}

#[test]
fn a_quiet_service_is_never_held_back_to_be_measured() {
    let mut quiet = Metered::new(20, Gradient::new());
    assert_eq!(dips(&mut quiet, 600, |metered| metered.succeed(100, 8, 10 * MS)), [0; 0]);
    assert_eq!((quiet.limit, quiet.highest), (20, 20));
}

#[test]
fn a_slow_service_is_not_held_back_for_long_nor_often() {
    let mut metered = Metered::new(100, Gradient::new());
    overload(&mut metered, 50, SECOND, 60 * SECOND);
    let usual = metered.limit;
    let mut held_back = 0;
    for _ in 0..3_600 {
        overload(&mut metered, 50, SECOND, SECOND);
        held_back += u32::from(metered.limit < usual / 2);
    }
    assert!((1..3_600 / 20).contains(&held_back), "{held_back} of 3600 rounds at {usual}");
}

/// Takes notes of its windows, and has every other one measured afresh.
#[derive(Debug)]
struct Notes {
    samples: std::sync::Arc<std::sync::Mutex<Vec<Sample>>>,
    limits: Vec<Next>,
}

impl Algorithm for Notes {
    fn next(&mut self, limit: f64, sample: &Sample) -> Next {
        self.samples.lock().unwrap().push(*sample);
        self.limits.pop().unwrap_or(Next::limit(limit))
    }
}

#[test]
fn a_window_that_is_measured_afresh_knows_nothing_of_the_calls_before_it() {
    let samples = std::sync::Arc::default();
    let notes =
        Notes { samples: std::sync::Arc::clone(&samples), limits: vec![Next::limit(30.0).reset_window()] };
    let mut metered = Metered::new(40, notes);
    let long = 100 * MS;
    metered.now = Timestamp(0).after(240 * MS);
    for _ in 0..50 {
        metered.ends(long, 40, Some(Class::Success));
    }
    metered.now = Timestamp(0).after(250 * MS);
    metered.ends(long, 40, Some(Class::Success));
    assert_eq!(metered.limit, 30);
    metered.now = metered.now.after(40 * MS);
    for class in [Some(Class::Success), Some(Class::Failure), None] {
        for in_flight in (31..40).rev() {
            metered.ends(long, in_flight, class);
        }
    }
    // Two rounds would do for an ordinary window.
    metered.succeed(10, 30, 100 * MS);
    let samples = samples.lock().unwrap();
    let Sample { latency, in_flight, calls, failures, .. } = samples[1];
    assert_eq!((in_flight, failures), (30, 0));
    assert!(calls >= 120 && latency < Some(110 * MS), "{:?}", samples[1]);
}

#[test]
fn each_call_is_in_one_window() {
    let samples = std::sync::Arc::default();
    let notes = Notes { samples: std::sync::Arc::clone(&samples), limits: Vec::new() };
    let mut metered = Metered::new(40, notes);
    for round in 0..1_000 {
        let class = [Some(Class::Success), Some(Class::Failure), Some(Class::Ignored)][round % 3];
        metered.rounds(1, 40, 7 * MS, class);
    }
    metered.now = metered.now.after(SECOND);
    metered.succeed(2, 40, 7 * MS);
    let samples = samples.lock().unwrap();
    let calls: u64 = samples.iter().map(|sample| sample.calls).sum();
    let failures: u64 = samples.iter().map(|sample| sample.failures).sum();
    assert_eq!(failures, 333 * 40);
    assert!((26_680..=26_760).contains(&calls), "{calls}");
    assert!(samples.iter().all(|sample| sample.in_flight == 40 && sample.length >= 250 * MS));
    let is_right = |sample: &Sample| {
        sample.latency.is_some_and(|latency| latency > 6 * MS && latency < 8 * MS)
            && sample.fastest <= sample.latency
    };
    assert!(samples.iter().all(is_right), "{samples:?}");
}

/// The lengths of the windows over rounds of calls, in seconds.
fn lengths(calls: &[(u32, u32, Duration)]) -> Vec<u64> {
    let samples = std::sync::Arc::default();
    let notes = Notes { samples: std::sync::Arc::clone(&samples), limits: Vec::new() };
    let mut metered = Metered::new(40, notes);
    for (rounds, in_flight, took) in calls {
        metered.succeed(*rounds, *in_flight, *took);
    }
    let samples = samples.lock().unwrap();
    samples.iter().map(|sample| sample.length.as_secs()).collect()
}

#[test]
fn a_window_is_twice_as_long_as_calls_take_and_holds_fewer_of_them_only_when_it_is_late() {
    assert_eq!(lengths(&[(8, 40, SECOND)]), [2; 4]);
    // Fifty calls would take 100 s. Sixteen have to do.
    assert_eq!(lengths(&[(64, 1, 2 * SECOND)]), [32; 4]);
    // However few there are, not before one and a half times as long as they take.
    assert_eq!(lengths(&[(9, 20, 4 * SECOND)]), [8; 4]);
}

#[test]
fn a_first_window_is_not_over_before_the_calls_in_it() {
    // Those that end within the first second take half of that, and the others 10 s.
    let mut metered = Metered::new(40, Gradient::new());
    metered.succeed(1, 40, SECOND / 2);
    metered.now = metered.now.after(SECOND / 2);
    metered.ends(SECOND / 2, 40, Some(Class::Success));
    assert_eq!(metered.limit, 40);
}
