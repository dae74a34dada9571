//! Waits at every attempt, for every configuration.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a test may fail"
)]

use std::time::Duration;

use proptest::prelude::*;

use super::{Backoff, Delays, Jitter};
use crate::base::clock::nanos;

const BASE: Duration = Duration::from_millis(100);
const CAP: Duration = Duration::from_secs(10);
const ALL: [Jitter; 5] =
    [Jitter::None, Jitter::Full, Jitter::Equal, Jitter::Decorrelated, Jitter::Around(0.2)];

/// Any values of the fields, valid ones and others.
fn any_backoff() -> impl Strategy<Value = Backoff> {
    let duration = prop_oneof![
        any::<(u64, u32)>().prop_map(|(seconds, nanos)| Duration::new(seconds, nanos % 1_000_000_000)),
        any::<u32>().prop_map(|nanos| Duration::from_nanos(nanos.into())),
        any::<u64>().prop_map(Duration::from_nanos),
        Just(Duration::ZERO),
        Just(Duration::MAX),
    ];
    let factor = prop_oneof![1.0..4.0, any::<f64>(), Just(1.0), Just(f64::NAN), Just(f64::MAX)];
    let jitter = prop_oneof![
        Just(Jitter::None),
        Just(Jitter::Full),
        Just(Jitter::Equal),
        Just(Jitter::Decorrelated),
        (0.0..=1.0).prop_map(Jitter::Around),
        any::<f64>().prop_map(Jitter::Around),
        Just(Jitter::Around(f64::NAN)),
    ];
    (duration.clone(), factor, duration, jitter).prop_map(|(base, factor, cap, jitter)| Backoff {
        base,
        factor,
        cap,
        jitter,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_attempt_of_any_configuration_waits_longer_than_the_cap(
        backoff in any_backoff(),
        attempts: u32,
        previous: u64,
        seed: u64,
    ) {
        // The ends of the range are what draws of zero and of just under one lead to.
        let (shortest, longest) = backoff.range(attempts, previous);
        prop_assert!(shortest <= longest && longest <= nanos(backoff.cap), "{shortest} to {longest}");
        let random = fastrand::Rng::with_seed(seed);
        let mut delays = Delays { backoff, attempts, previous, random };
        for wait in delays.by_ref().take(3) {
            prop_assert!(wait <= backoff.cap, "{wait:?}");
        }
        prop_assert_eq!(delays.attempts, attempts.saturating_add(3));
    }

    #[test]
    fn a_wait_without_jitter_is_never_shorter_than_the_one_before(backoff in any_backoff(), attempts: u32) {
        prop_assert!(backoff.nominal(attempts) <= backoff.nominal(attempts.saturating_add(1)));
        prop_assert_eq!(backoff.nominal(0), nanos(backoff.base.min(backoff.cap)));
    }

    #[test]
    fn a_decorrelated_wait_is_never_shorter_than_the_base(backoff in any_backoff(), seed: u64) {
        let backoff = backoff.jitter(Jitter::Decorrelated);
        let least = nanos(backoff.base.min(backoff.cap));
        let mut longest = nanos(backoff.base);
        for wait in backoff.delays_seeded(seed).take(100).map(nanos) {
            longest = longest.saturating_mul(3);
            prop_assert!(wait >= least && wait <= longest, "{wait} of {least} to {longest}");
            longest = wait;
        }
    }

    #[test]
    fn a_valid_configuration_is_used_as_it_is(backoff in any_backoff()) {
        if backoff.validate().is_ok() {
            prop_assert!(backoff.factor >= 1.0 && backoff.factor.is_finite() && backoff.base <= backoff.cap);
            prop_assert_eq!(backoff.nominal(0), nanos(backoff.base));
        }
    }
}

/// Mean and standard deviation, in seconds.
fn distribution(waits: impl Iterator<Item = Duration>) -> (f64, f64) {
    let seconds: Vec<f64> = waits.map(|wait| wait.as_secs_f64()).collect();
    let count = seconds.len() as f64;
    let mean = seconds.iter().sum::<f64>() / count;
    let variance = seconds.iter().map(|wait| (wait - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt())
}

/// A thousand waits, each the one of the twentieth attempt of another caller.
fn twentieth(jitter: Jitter) -> impl Iterator<Item = Duration> {
    let backoff = Backoff::exponential(BASE).cap(CAP).jitter(jitter);
    (0..1_000).map(move |seed| backoff.delays_seeded(seed).nth(19).expect("it never ends"))
}

#[test]
fn at_the_cap_full_jitter_is_uniform() {
    let (mean, deviation) = distribution(twentieth(Jitter::Full));
    assert!((mean - 5.0).abs() < 0.3, "mean {mean}");
    assert!((deviation - 2.887).abs() < 0.15, "deviation {deviation}");
    assert!(twentieth(Jitter::Full).all(|wait| wait <= CAP));
}

#[test]
fn every_jitter_survives_the_cap() {
    let expected =
        [(Jitter::Equal, 7.5, 1.44), (Jitter::Around(0.2), 9.0, 0.577), (Jitter::Around(1.0), 5.0, 2.887)];
    for (jitter, mean, deviation) in expected {
        let seen = distribution(twentieth(jitter));
        assert!((seen.0 - mean).abs() < 0.3 && (seen.1 - deviation).abs() < 0.15, "{jitter:?}: {seen:?}");
    }
    for jitter in ALL.into_iter().filter(|jitter| *jitter != Jitter::None) {
        let at_the_cap = twentieth(jitter).filter(|wait| *wait == CAP).count();
        assert!(at_the_cap <= 2, "{at_the_cap} of 1,000 callers come back together with {jitter:?}");
    }
}

#[test]
fn around_lies_evenly_about_the_wait_below_the_cap() {
    let backoff = Backoff::exponential(BASE).jitter(Jitter::Around(0.2));
    let third = |seed| backoff.delays_seeded(seed).nth(2).expect("it never ends");
    let (mean, _) = distribution((0..1_000).map(third));
    assert!((mean - 0.4).abs() < 0.005, "{mean}");
    let (shortest, longest) = ((0..1_000).map(third).min(), (0..1_000).map(third).max());
    let range = Duration::from_millis(320)..=Duration::from_millis(480);
    assert!(shortest.is_some_and(|wait| range.contains(&wait)), "{shortest:?}");
    assert!(longest.is_some_and(|wait| range.contains(&wait)), "{longest:?}");
}

#[test]
fn a_decorrelated_wait_begins_between_the_base_and_three_times_that() {
    let backoff = Backoff::exponential(BASE).jitter(Jitter::Decorrelated);
    let (mean, deviation) = distribution((0..1_000).filter_map(|seed| backoff.delays_seeded(seed).next()));
    assert!((mean - 0.2).abs() < 0.006 && (deviation - 0.0577).abs() < 0.003, "{mean}, {deviation}");
}

#[test]
fn what_is_out_of_range_counts_as_the_nearest_that_is_not() {
    let backoff = Backoff::exponential(BASE);
    for (given, nearest) in [(5.0, 1.0), (f64::INFINITY, 1.0), (-1.0, 0.0), (f64::NAN, 0.0)] {
        let range = |share| backoff.jitter(Jitter::Around(share)).range(3, 0);
        assert_eq!(range(given), range(nearest), "{given}");
    }
    for (given, nearest) in [(0.5, 1.0), (-2.0, 1.0), (f64::NAN, 1.0), (f64::INFINITY, f64::MAX)] {
        let wait = |factor| backoff.factor(factor).nominal(3);
        assert_eq!(wait(given), wait(nearest), "{given}");
    }
    assert_eq!(backoff.cap(BASE / 2).nominal(0), nanos(BASE / 2));
}

#[test]
fn equal_jitter_waits_at_least_half() {
    assert_eq!(Backoff::exponential(Duration::from_nanos(5)).jitter(Jitter::Equal).range(0, 0), (3, 5));
}

#[test]
fn a_seed_repeats_the_waits() {
    for jitter in ALL {
        let backoff = Backoff::exponential(BASE).jitter(jitter);
        let waits = |seed| backoff.delays_seeded(seed).take(20).collect::<Vec<_>>();
        assert_eq!(waits(7), waits(7));
        assert_eq!(waits(7) == waits(8), jitter == Jitter::None, "{jitter:?}");
    }
}

#[test]
fn the_seed_of_the_thread_repeats_the_waits() {
    let waits = || {
        fastrand::seed(7);
        [Backoff::default().delays(), Backoff::default().delays()]
            .map(|delays| delays.take(5).collect::<Vec<_>>())
    };
    let [first, second] = waits();
    assert_ne!(first, second, "two callers do not wait for the same time");
    assert_eq!([first, second], waits());
}

#[test]
fn zero_never_waits() {
    for jitter in ALL {
        for backoff in [Backoff::constant(Duration::ZERO), Backoff::exponential(Duration::ZERO)] {
            assert!(backoff.jitter(jitter).delays().take(2_000).all(|wait| wait.is_zero()), "{jitter:?}");
        }
    }
}

#[test]
fn constant_stays_and_exponential_doubles() {
    assert!(Backoff::constant(BASE).delays().take(100).all(|wait| wait == BASE));
    let waits: Vec<_> = Backoff::exponential(BASE).jitter(Jitter::None).delays().take(9).collect();
    assert_eq!(waits[..8], [1, 2, 4, 8, 16, 32, 64, 100].map(|times| BASE * times));
    assert_eq!(waits[8], CAP);
}

#[test]
fn what_is_out_of_range_is_named() {
    let refused = |backoff: Backoff| backoff.validate().expect_err("it is refused").to_string();
    for factor in [f64::NAN, f64::INFINITY, 0.5, -1.0] {
        let error = refused(Backoff::default().factor(factor));
        assert_eq!(
            error,
            format!("invalid value for `factor`: got {factor:?}, expected a finite number of at least 1")
        );
    }
    let error = refused(Backoff::default().cap(Duration::from_millis(99)));
    assert_eq!(error, "invalid value for `cap`: got 99ms, expected at least `base`");
    for share in [f64::NAN, -0.1, 1.1] {
        let error = refused(Backoff::default().jitter(Jitter::Around(share)));
        assert_eq!(error, format!("invalid value for `jitter`: got {share:?}, expected a share from 0 to 1"));
    }
}

#[test]
fn what_the_constructors_make_is_valid() {
    for duration in [Duration::ZERO, BASE, Duration::MAX] {
        assert_eq!(Backoff::constant(duration).validate(), Ok(()));
        assert_eq!(Backoff::exponential(duration).validate(), Ok(()));
    }
    assert_eq!(Backoff::default().factor(f64::MAX).validate(), Ok(()));
}
