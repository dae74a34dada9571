//! Clocks that jump, counts that are too large, and algorithms that misbehave.

use std::time::Duration;

use proptest::prelude::*;

use super::super::algorithm::{Aimd, Algorithm, Next, Sample};
use super::super::config::AdaptiveLimitConfig;
use super::super::meter::Meter;
use super::{MS, Metered, all};
use crate::base::clock::{Timestamp, nanos};
use crate::classify::Class;
use crate::middleware::admission::Ended;

const YEAR: u64 = 365 * 86_400 * 1_000_000_000;

fn any_time() -> impl Strategy<Value = u64> {
    prop_oneof![
        10 => 0..10_000_000_000_u64,
        2 => (0..3_000_000_u64).prop_map(|later| YEAR + later),
        1 => Just(0),
        1 => Just(u64::MAX),
        1 => any::<u64>(),
    ]
}

fn any_class() -> impl Strategy<Value = Option<Class>> {
    let classes = [Some(Class::Success), Some(Class::Failure), Some(Class::Ignored), None];
    prop::sample::select(classes.to_vec())
}

fn any_float() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..2_000.0, Just(f64::NAN), Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(-1.0)]
}

fn any_count() -> impl Strategy<Value = u64> {
    prop_oneof![0..200_u64, Just(u64::MAX), Just(0)]
}

fn any_latency() -> impl Strategy<Value = Option<Duration>> {
    let latencies = [None, Some(Duration::ZERO), Some(MS), Some(10 * MS), Some(Duration::MAX)];
    prop::sample::select(latencies.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_measured_the_limit_stays_in_its_range(
        calls in prop::collection::vec((any_time(), any_time(), any::<u32>(), any_class()), 0..400),
    ) {
        for algorithm in all() {
            let config = AdaptiveLimitConfig::new().min_calls(1).window(10 * MS).min_limit(1);
            let meter = Meter::new(&config, algorithm, Timestamp(0));
            for (began, now, in_flight, class) in &calls {
                let ended = Ended {
                    began: Timestamp(*began),
                    now: Timestamp(*now),
                    in_flight: *in_flight,
                    class: *class,
                };
                if let Some(limit) = meter.ended(&ended) {
                    prop_assert!((1..=1_000).contains(&limit), "{limit} by {meter:?}");
                }
            }
        }
    }

    #[test]
    fn whatever_is_sampled_a_limit_is_a_number(
        samples in prop::collection::vec(
            (any_latency(), any::<u32>(), any_count(), any_count(), any_latency()),
            0..100,
        ),
    ) {
        for mut algorithm in all() {
            let mut limit = 20.0;
            for (latency, in_flight, calls, failures, length) in &samples {
                let mut sample = Sample::new(MS, *in_flight, *calls).length(length.unwrap_or_default());
                sample.latency = *latency;
                sample.failures = *failures;
                let next = algorithm.next(limit, &sample).limit;
                prop_assert!(next.is_finite(), "{next} of {limit} for {sample:?} by {algorithm:?}");
                limit = next.clamp(1.0, 1_000_000.0);
            }
        }
    }

    #[test]
    fn whatever_a_users_algorithm_says_the_limit_stays_in_its_range(
        said in prop::collection::vec((any_float(), any::<bool>()), 1..20),
    ) {
        #[derive(Debug)]
        struct Says(Vec<(f64, bool)>);
        impl Algorithm for Says {
            fn next(&mut self, limit: f64, _: &Sample) -> Next {
                match self.0.pop() {
                    Some((limit, true)) => Next::limit(limit).reset_window(),
                    Some((limit, false)) => Next::limit(limit),
                    None => Next::limit(limit),
                }
            }
        }
        let mut metered = Metered::new(20, Says(said));
        metered.succeed(3_000, 20, 10 * MS);
        prop_assert!((1..=1_000).contains(&metered.lowest) && metered.highest <= 1_000);
    }
}

#[test]
fn a_clock_that_jumps_and_comes_back_stops_nothing() {
    for jump in [10_000_000_000, YEAR] {
        let mut metered = Metered::new(20, Aimd::new());
        metered.succeed(100, 20, 10 * MS);
        let now = metered.now;
        metered.now = Timestamp(now.0 + jump);
        metered.succeed(20, 20, 10 * MS);
        let limit = metered.limit;
        metered.now = now;
        metered.succeed(7_000, 20, 10 * MS);
        assert!(metered.limit > limit, "{jump}: {metered:?}");
    }
}

#[test]
fn an_algorithm_that_panics_is_asked_again() {
    #[derive(Debug)]
    struct Panics(u32);
    impl Algorithm for Panics {
        fn next(&mut self, _: f64, _: &Sample) -> Next {
            self.0 += 1;
            assert!(self.0 > 1, "the first time");
            Next::limit(30.0)
        }
    }
    let mut metered = Metered::new(20, Panics(0));
    metered.succeed(30, 20, 10 * MS);
    assert_eq!(metered.limit, 20);
    metered.succeed(30, 20, 10 * MS);
    assert_eq!(metered.limit, 30);
}

#[test]
fn a_meter_takes_four_kilobytes() {
    let size = std::mem::size_of::<Meter>();
    assert!(size < 4_400, "{size}");
    assert_eq!(nanos(Duration::MAX), u64::MAX);
}

#[test]
fn a_clock_that_jumps_back_begins_a_window_anew() {
    #[derive(Debug)]
    struct Counts(std::sync::Arc<std::sync::atomic::AtomicU32>);
    impl Algorithm for Counts {
        fn next(&mut self, limit: f64, _: &Sample) -> Next {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Next::limit(limit)
        }
    }
    let asked = std::sync::Arc::default();
    let mut metered = Metered::new(20, Counts(std::sync::Arc::clone(&asked)));
    let asked = || asked.load(std::sync::atomic::Ordering::Relaxed);
    metered.now = Timestamp(2 * YEAR);
    metered.succeed(100, 20, 10 * MS);
    let before = asked();
    assert!(before > 0);
    metered.now = Timestamp(YEAR);
    for _ in 0..100 {
        metered.ends(10 * MS, 20, Some(Class::Success));
    }
    // The window that has begun in what is the future now is no window.
    assert_eq!(asked(), before);
    metered.succeed(100, 20, 10 * MS);
    assert!(asked() > before);
}
