//! The bound of a call, compared with a model that tries every moment, and configurations of every
//! kind.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::panic,
    reason = "a test may fail"
)]

use std::time::Duration;

use proptest::prelude::*;

use super::state::{Bound, bind};
use super::{Covers, Limit, MinRemaining, Scope, TimeoutConfig};
use crate::base::clock::nanos;
use crate::error::Reason;

const ZERO: Duration = Duration::ZERO;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Finds the bound of a call that never ends by trying one millisecond after the other.
fn ended_by(own: Option<u64>, used: u64, left: Option<u64>, needed: u64) -> Result<Option<Reason>, Reason> {
    let is_over = |limit: Option<u64>, passed: u64| limit.is_some_and(|limit| passed >= limit);
    if left.is_some_and(|left| left < needed) || is_over(left, 0) {
        return Err(Reason::DeadlineExceeded);
    }
    if is_over(own, used) {
        return Err(Reason::TotalTimeout);
    }
    if own.is_none() && left.is_none() {
        return Ok(None);
    }
    let mut passed = 0;
    loop {
        if is_over(own, used + passed) {
            return Ok(Some(Reason::TotalTimeout));
        }
        if is_over(left, passed) {
            return Ok(Some(Reason::DeadlineExceeded));
        }
        passed += 1;
    }
}

fn any_nanos() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(1), Just(1_000_000_000), Just(u64::MAX - 1), Just(u64::MAX), any::<u64>()]
}

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(ZERO),
        Just(Duration::from_nanos(1)),
        Just(SECOND),
        Just(Duration::MAX - Duration::from_nanos(1)),
        Just(Duration::MAX),
        any::<u64>().prop_map(Duration::from_nanos),
        (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| Duration::new(seconds, nanos)),
    ]
}

proptest! {
    #[test]
    fn a_call_ends_as_it_does_when_every_moment_is_tried(
        own in prop::option::of(0..30_u64),
        used in 0..30_u64,
        left in prop::option::of(0..30_u64),
        needed in 0..30_u64,
    ) {
        let bound = bind(Scope::Total, own, used, left, needed);
        let reason = bound.map(|bound| bound.map(|bound| bound.reason)).map_err(|bound| bound.reason);
        prop_assert_eq!(reason, ended_by(own, used, left, needed));
    }

    #[test]
    fn whatever_is_given_a_bound_is_within_all_that_was_given(
        own in prop::option::of(any_nanos()),
        used in any_nanos(),
        left in prop::option::of(any_nanos()),
        needed in any_nanos(),
    ) {
        match bind(Scope::Attempt, own, used, left, needed) {
            Ok(None) => prop_assert!(own.is_none() && left.is_none()),
            Ok(Some(Bound { reason, limit, within })) => {
                prop_assert!(within > 0 && within <= limit);
                prop_assert!(own.is_none_or(|own| within <= own.saturating_sub(used)));
                prop_assert!(left.is_none_or(|left| within <= left && left >= needed));
                let given = if reason == Reason::AttemptTimeout { own } else { left };
                prop_assert_eq!(given, Some(limit));
            }
            Err(Bound { reason: Reason::DeadlineExceeded, limit, .. }) => {
                prop_assert!(left == Some(limit) && (limit < needed || limit == 0));
            }
            Err(Bound { reason, limit, .. }) => {
                prop_assert_eq!(reason, Reason::AttemptTimeout);
                prop_assert!(own == Some(limit) && limit <= used);
            }
        }
    }

    #[test]
    fn a_measured_limit_is_the_product_between_its_ends(
        quantile in any_duration(),
        factor in 1.0..=100.0_f64,
        ends in (any_duration(), any_duration()),
    ) {
        let (min, max) = (ends.0.min(ends.1), ends.0.max(ends.1));
        let limit = Limit::Adaptive { quantile: 0.99, factor, min, max };
        prop_assert_eq!(limit.given(None), Some(max));
        let given = limit.given(Some(quantile)).unwrap();
        prop_assert!(given >= min && given <= max);
        if given > min && given < max {
            let exact = (nanos(quantile) as f64 * factor).min(u64::MAX as f64);
            prop_assert!((nanos(given) as f64 - exact).abs() <= exact * 1e-9 + 1.0);
        }
    }
}

#[test]
fn the_layers_own_limit_is_named_if_two_end_together() {
    let bound = bind(Scope::Attempt, Some(1_000), 0, Some(1_000), 0).unwrap().unwrap();
    assert_eq!(bound.reason, Reason::AttemptTimeout);
    let bound = bind(Scope::Attempt, Some(1_000), 0, Some(1_000 - 1), 0).unwrap().unwrap();
    assert_eq!(bound.reason, Reason::DeadlineExceeded);
}

#[test]
fn exactly_the_needed_time_is_enough() {
    assert!(bind(Scope::Total, None, 0, Some(1_000), 1_000).is_ok());
    assert!(bind(Scope::Total, None, 0, Some(1_000 - 1), 1_000).is_err());
    assert!(bind(Scope::Total, None, 0, Some(0), 0).is_err());
    // `needed` applies to the deadline only: the layer's own limit is never too short.
    assert!(bind(Scope::Total, Some(1), 0, None, 1_000).is_ok());
}

#[test]
fn a_fixed_limit_is_the_configured_one() {
    assert_eq!(Limit::Deadline.given(Some(SECOND)), None);
    assert_eq!(Limit::Fixed(Duration::MAX).given(Some(SECOND)), Some(Duration::MAX));
}

fn adaptive(quantile: f64, factor: f64, min: Duration, max: Duration) -> TimeoutConfig {
    TimeoutConfig::new().limit(Limit::Adaptive { quantile, factor, min, max })
}

#[test]
fn each_invalid_setting_is_named() {
    let config = TimeoutConfig::new;
    let mut table = vec![
        ("limit", config().limit(Limit::Fixed(ZERO))),
        ("limit.min", adaptive(0.99, 2.0, ZERO, SECOND)),
        ("limit.max", adaptive(0.99, 2.0, SECOND, SECOND - MS)),
        ("limit.max", adaptive(0.99, 2.0, Duration::MAX, ZERO)),
        ("idle", config().idle(ZERO)),
        ("covers", adaptive(0.99, 2.0, MS, SECOND).covers(Covers::Body)),
    ];
    for outside in [0.0, -0.0, 1.0, -0.5, 99.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        table.push(("limit.quantile", adaptive(outside, 2.0, MS, SECOND)));
        table.push(("min_remaining", config().min_remaining(MinRemaining::Measured(outside))));
    }
    for outside in [0.0, 0.999, 100.001, -2.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        table.push(("limit.factor", adaptive(0.99, outside, MS, SECOND)));
    }
    for (field, config) in table {
        let error = config.validate().expect_err(field);
        assert_eq!(error.field(), field, "{error}");
    }
}

#[test]
fn every_setting_at_the_end_of_its_range_is_valid() {
    let config = TimeoutConfig::new;
    let smallest = Duration::from_nanos(1);
    for config in [
        config(),
        config().limit(Limit::Deadline),
        config().limit(Limit::Fixed(smallest)),
        config().limit(Limit::Fixed(Duration::MAX)),
        config().idle(smallest),
        config().idle(Duration::MAX),
        config().min_remaining(MinRemaining::Fixed(Duration::MAX)),
        config().min_remaining(MinRemaining::Measured(f64::MIN_POSITIVE)),
        config().min_remaining(MinRemaining::Measured(1.0 - f64::EPSILON)),
        adaptive(f64::MIN_POSITIVE, 1.0, smallest, smallest),
        adaptive(1.0 - f64::EPSILON, 100.0, Duration::MAX, Duration::MAX),
    ] {
        assert_eq!(config.validate(), Ok(()), "{config:?}");
    }
}
