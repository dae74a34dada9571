//! How the latency without a queue is found.

use std::time::Duration;

use super::super::algorithm::{Algorithm, Gradient, Next, Sample};
use super::{MS, Metered};
use crate::classify::Class;
use crate::clock::Timestamp;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_service_in_full_use_is_measured_at_less_than_half_of_its_limit_and_gets_it_back() {
    let mut gradient = Gradient::new();
    let busy = |latency| Sample::new(latency, 20, 200);
    assert_eq!(gradient.next(20.0, &busy(10 * MS)), Next::limit(8.0).afresh());
    assert_eq!(gradient.next(8.0, &Sample::new(8 * MS, 8, 200)), Next::limit(20.0));
    // A quarter more than 8 ms is 10 ms.
    let next = gradient.next(20.0, &busy(10 * MS)).limit;
    assert!((next - (20.0 + 20_f64.sqrt())).abs() < 1e-9, "{next}");
}

#[test]
fn what_is_worse_than_before_has_to_be_found_twice() {
    let mut gradient = Gradient::new();
    gradient.next(40.0, &Sample::new(10 * MS, 1, 200));
    let slow = Sample::new(100 * MS, 40, 200);
    assert!(gradient.next(40.0, &slow).limit > 20.0);
    assert_eq!(gradient.next(24.0, &slow).limit.floor(), 6.0);
    let before = 12.0 + 12_f64.sqrt();
    // Still busy with what was given up before.
    assert_eq!(gradient.next(6.0, &Sample::new(80 * MS, 6, 200)), Next::limit(before / 2.5).afresh());
    assert_eq!(gradient.next(6.0, &Sample::new(40 * MS, 6, 200)), Next::limit(before / 2.5).afresh());
    assert_eq!(gradient.next(6.0, &Sample::new(40 * MS, 6, 200)), Next::limit(before));
    // The average of the last two is usual now.
    let next = gradient.next(before, &Sample::new(50 * MS, before as u32, 200)).limit;
    assert!((next - before - before.sqrt()).abs() < 1e-6, "{next}");
}

#[test]
fn a_busy_window_that_is_faster_by_chance_is_not_believed() {
    for (calls, believed) in [(50, false), (1_000, true)] {
        let mut gradient = Gradient::new();
        gradient.next(40.0, &Sample::new(10 * MS, 1, 200));
        gradient.next(40.0, &Sample::new(7 * MS, 40, calls));
        let next = gradient.next(40.0, &Sample::new(10 * MS, 40, 1_000)).limit;
        let usual = if believed { 7.0 } else { 10.0 };
        let expected: f64 = 40.0 * 1.25 * usual / 10.0;
        assert!((next - expected - expected.sqrt()).abs() < 1e-6, "{next} after {calls}");
    }
}

#[test]
fn a_measurement_waits_for_an_answer() {
    let mut gradient = Gradient::new();
    let failing = Sample::new(MS, 50, 100).failures(100);
    gradient.next(50.0, &Sample::new(MS, 1, 100));
    let mut limit = gradient.next(50.0, &failing).limit;
    assert_eq!(limit, 50.0 * 0.9 / 2.5);
    for _ in 0..50 {
        let next = gradient.next(limit, &failing);
        assert!(next.limit <= limit && next == Next::limit(next.limit).afresh(), "{next:?}");
        limit = next.limit;
    }
    assert!(limit <= 3.0);
}

/// The seconds in which the limit was below half of what it was a second before.
fn dips(metered: &mut Metered, seconds: u32, in_flight: u32) -> Vec<u32> {
    let mut dips = Vec::new();
    for second in 0..seconds {
        metered.lowest = u32::MAX;
        let before = metered.limit;
        metered.succeed(100, in_flight, 10 * MS);
        if metered.lowest <= before / 2 {
            dips.push(second);
        }
    }
    dips
}

#[test]
fn a_busy_service_is_measured_each_minute_and_not_in_step_with_others() {
    let mut busy = Metered::new(20, Gradient::new());
    busy.succeed(100, 30, 10 * MS);
    let mut other = Metered::new(20, Gradient::new());
    other.succeed(100, 30, 10 * MS);
    fastrand::seed(1);
    let found = dips(&mut busy, 600, 30);
    fastrand::seed(2);
    let others = dips(&mut other, 600, 30);
    assert!((8..=10).contains(&found.len()), "{found:?}");
    assert!(found.windows(2).all(|pair| (60..=71).contains(&(pair[1] - pair[0]))), "{found:?}");
    assert_ne!(found, others);
}

#[test]
fn a_quiet_service_is_never_held_back_to_be_measured() {
    let mut quiet = Metered::new(20, Gradient::new());
    assert_eq!(dips(&mut quiet, 600, 8), [0; 0]);
    assert_eq!((quiet.limit, quiet.highest), (20, 20));
}

#[test]
fn a_slow_service_is_not_held_back_for_long_nor_often() {
    let mut metered = Metered::new(100, Gradient::new());
    metered.succeed(20, 90, SECOND);
    let mut held_back = 0;
    for _ in 0..3_600 {
        metered.succeed(1, 90, SECOND);
        held_back += u32::from(metered.limit < 80);
    }
    assert!((1..3_600 / 20).contains(&held_back), "{held_back} of 3600 s");
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
    let notes = Notes { samples: std::sync::Arc::clone(&samples), limits: vec![Next::limit(30.0).afresh()] };
    let mut metered = Metered::new(40, notes);
    let long = 200 * MS;
    metered.now = Timestamp(0).after(240 * MS);
    for _ in 0..50 {
        metered.ends(long, 40, Some(Class::Success));
    }
    metered.now = Timestamp(0).after(250 * MS);
    metered.ends(long, 40, Some(Class::Success));
    assert_eq!(metered.limit, 30);
    metered.now = metered.now.after(150 * MS);
    for class in [Some(Class::Success), Some(Class::Failure), None] {
        for in_flight in (31..40).rev() {
            metered.ends(long, in_flight, class);
        }
    }
    // Three rounds would do for an ordinary window.
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

#[test]
fn a_window_is_twice_as_long_as_calls_take_and_holds_fewer_of_them_only_when_it_is_late() {
    let samples = std::sync::Arc::default();
    let notes = Notes { samples: std::sync::Arc::clone(&samples), limits: Vec::new() };
    let mut metered = Metered::new(40, notes);
    metered.succeed(100, 40, SECOND);
    // Fifty calls would take 100 s; after ten times the length of 4 s, ten of them have to do.
    metered.succeed(100, 1, 2 * SECOND);
    let samples = samples.lock().unwrap();
    let lengths: Vec<u64> = samples.iter().map(|sample| sample.length.as_secs()).collect();
    assert!(lengths[1..49].iter().all(|length| (2..=3).contains(length)), "{lengths:?}");
    assert_eq!(lengths[51..], [40, 40, 40, 40], "{lengths:?}");
}
