//! What adaptive limits of other libraries get wrong.

use std::time::Duration;

use super::super::algorithm::{Algorithm, Gradient};
use super::super::config::AdaptiveLimitConfig;
use super::{MS, Metered, all};
use crate::classify::Class;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_limit_that_is_not_used_does_not_grow() {
    for algorithm in all() {
        let mut metered = Metered::boxed(20, algorithm);
        metered.succeed(2_000, 1, 10 * MS);
        assert_eq!((metered.lowest, metered.highest), (20, 20), "{metered:?}");
        // Not in hours with a call a minute either.
        for _ in 0..1_000 {
            metered.now = metered.now.after(60 * SECOND);
            metered.succeed(1, 1, 10 * MS);
        }
        assert_eq!((metered.lowest, metered.highest), (20, 20), "{metered:?}");
    }
}

#[test]
fn a_burst_of_failures_shrinks_the_limit_once() {
    for (algorithm, expected) in all().into_iter().zip([57, 57, 63, 57]) {
        let mut metered = Metered::boxed(64, algorithm);
        metered.succeed(100, 3, 10 * MS);
        metered.rounds(1, 20, MS, Some(Class::Failure));
        metered.succeed(1_000, 3, 10 * MS);
        assert_eq!((metered.lowest, metered.limit), (expected, expected), "{metered:?}");
    }
}

/// The limit after `calls` calls to a backend that does not answer, each given up after `patience`.
fn hung(metered: &mut Metered, calls: u32, patience: Duration) -> u32 {
    metered.rounds(calls.div_ceil(64), 64, patience, None);
    metered.limit
}

#[test]
fn calls_given_up_on_a_backend_that_hangs_shrink_the_limit() {
    for algorithm in all() {
        let name = format!("{algorithm:?}");
        let mut metered = Metered::boxed(64, algorithm);
        metered.succeed(100, 5, 10 * MS);
        assert!(hung(&mut metered, 128, SECOND) < 64, "{name}");
    }
}

#[test]
fn a_backend_that_hangs_is_seen_by_those_who_never_got_an_answer_and_by_those_who_do_not_wait_long() {
    for algorithm in all() {
        let name = format!("{algorithm:?}");
        assert!(hung(&mut Metered::boxed(64, algorithm), 640, 100 * MS) < 64, "{name}");
    }
    for algorithm in all() {
        let name = format!("{algorithm:?}");
        let mut metered = Metered::boxed(64, algorithm);
        metered.succeed(100, 5, 100 * MS);
        assert!(hung(&mut metered, 1_280, 110 * MS) < 64, "{name}");
    }
}

#[test]
fn a_backend_that_hung_gets_its_calls_back_soon() {
    let mut metered = Metered::new(64, Gradient::new());
    metered.succeed(100, 20, 10 * MS);
    metered.rounds(60, 64, SECOND, None);
    assert_eq!(metered.limit, 3, "{metered:?}");
    let seconds = 5;
    metered.succeed(seconds * 100, 20, 10 * MS);
    assert!(metered.limit >= 20, "{metered:?}");
}

#[test]
fn callers_who_take_the_faster_of_two_answers_do_not_shrink_the_limit() {
    for algorithm in all() {
        let mut metered = Metered::boxed(20, algorithm);
        for _ in 0..1_000 {
            metered.succeed(1, 2, 10 * MS);
            metered.rounds(1, 2, 10 * MS, None);
        }
        assert_eq!(metered.lowest, 20, "{metered:?}");
    }
}

#[test]
fn a_lucky_sample_does_not_starve_the_service() {
    for algorithm in all() {
        let mut metered = Metered::boxed(20, algorithm);
        metered.succeed(1, 1, MS / 10);
        metered.succeed(1_000, 20, 10 * MS);
        assert!(metered.lowest >= 4 && metered.limit >= 20, "{metered:?}");
    }
}

#[test]
fn a_lucky_second_is_forgotten_in_another_one() {
    let mut metered = Metered::new(20, Gradient::new());
    metered.succeed(100, 20, 10 * MS);
    metered.succeed(10_000, 1, MS / 10);
    metered.succeed(200, 20, 10 * MS);
    assert!(metered.limit >= 20, "{metered:?}");
}

#[test]
fn a_service_that_became_slower_for_good_is_not_starved() {
    let mut metered = Metered::new(40, Gradient::new());
    metered.succeed(500, 40, 10 * MS);
    metered.succeed(500, 40, 20 * MS);
    assert!(metered.limit >= 40, "{metered:?}");
    // However slow it became.
    metered.succeed(200, 40, SECOND);
    assert!(metered.limit >= 40, "{metered:?}");
}

#[test]
fn a_service_that_always_fails_some_calls_is_not_starved() {
    let mut metered = Metered::new(40, Gradient::new());
    for _ in 0..10_000 {
        for class in [Class::Failure, Class::Success, Class::Success] {
            metered.rounds(1, 40, 10 * MS, Some(class));
        }
    }
    assert!(metered.limit >= 20, "{metered:?}");
}

#[test]
fn a_limit_of_zero_is_refused() {
    let refused = |config: AdaptiveLimitConfig| config.validate().unwrap_err().field().to_owned();
    let config = AdaptiveLimitConfig::new();
    assert_eq!(config.validate(), Ok(()));
    assert_eq!(refused(config.clone().min_limit(0)), "min_limit");
    assert_eq!(refused(config.clone().min_limit(0).max_limit(0).initial_limit(0)), "min_limit");
    assert_eq!(refused(config.clone().min_limit(3).max_limit(2)), "max_limit");
    assert_eq!(refused(config.clone().max_limit(u32::MAX)), "max_limit");
    assert_eq!(refused(config.clone().min_limit(3).initial_limit(2)), "initial_limit");
    assert_eq!(refused(config.clone().initial_limit(1_001)), "initial_limit");
    assert_eq!(refused(config.clone().window(Duration::ZERO)), "window");
    assert_eq!(refused(config.clone().window(Duration::MAX)), "window");
    assert_eq!(refused(config.clone().min_calls(0)), "min_calls");
    assert_eq!(config.min_limit(1).max_limit(1).initial_limit(1).validate(), Ok(()));
}

#[test]
fn what_is_no_number_is_refused() {
    let hostile = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, f64::MAX];
    for value in hostile {
        let given: [Box<dyn Algorithm>; 9] = [
            Box::new(Gradient::new().tolerance(value)),
            Box::new(Gradient::new().jitter(value)),
            Box::new(Gradient::new().max_failure_ratio(value)),
            Box::new(super::Aimd::new().max_failure_ratio(value)),
            Box::new(super::Vegas::new().max_failure_ratio(value)),
            Box::new(super::Gradient2::new().tolerance(value)),
            Box::new(super::Gradient2::new().queue(value)),
            Box::new(super::Gradient2::new().smoothing(value)),
            Box::new(super::Gradient2::new().max_failure_ratio(value)),
        ];
        for algorithm in given {
            assert!(algorithm.validate().is_err(), "{algorithm:?}");
        }
    }
    for algorithm in all() {
        assert_eq!(algorithm.validate(), Ok(()));
    }
    assert!(Gradient::new().measure_every(Duration::ZERO).validate().is_err());
    assert!(super::Aimd::new().max_latency(Duration::ZERO).validate().is_err());
    assert!(super::Vegas::new().probe_after(0).validate().is_err());
    assert!(super::Gradient2::new().long_window(0).validate().is_err());
}
