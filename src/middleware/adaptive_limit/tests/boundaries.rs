//! Thresholds at which two rules meet.

use super::*;
use crate::middleware::adaptive_limit::algorithm::{Next, Sample};
use crate::middleware::admission::Full;

#[test]
fn aimd_takes_a_window_for_a_bad_one_only_above_its_thresholds() {
    let mut aimd = Aimd::new().max_latency(10 * MS).max_failure_ratio(0.25);
    let window = |latency, failures| {
        let mut sample = Sample::new(latency, 20, 100);
        sample.failures = failures;
        sample
    };
    let mut next = |latency, failures| aimd.next(20.0, &window(latency, failures));
    assert_eq!(next(10 * MS, 25), Next::limit(21.0));
    for (latency, failures) in [(10 * MS + Duration::from_nanos(1), 25), (10 * MS, 26)] {
        assert_eq!(next(latency, failures), Next::limit(18.0));
    }
}

#[test]
fn room_beside_calls_that_do_not_end_stays_within_a_range_that_was_lowered() {
    #[derive(Clone, Debug, PartialEq)]
    struct Restarts;
    impl Algorithm for Restarts {
        fn next(&mut self, _: f64, _: &Sample) -> Next {
            Next::limit(1.0).reset_window()
        }
    }
    let config = AdaptiveLimitConfig::new().initial_limit(100).algorithm(Restarts);
    let meter = Meter::new(&config, Box::new(Restarts), Timestamp(0));
    let at = |millis: u64| Timestamp(millis * 1_000_000);
    for now in (0..60).map(|_| at(300)).chain([at(1_000)]) {
        meter.ended(&Ended { began: Timestamp(0), now, in_flight: 100, class: Some(Class::Success) });
    }
    meter.reconfigure(&config.initial_limit(1).max_limit(10), None, at(1_000));
    let full = Full { now: at(60_000), in_flight: 40 };
    assert_eq!(meter.finds_no_room(full), Some(10));
}
