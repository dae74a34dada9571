//! Any setting whatever: a layer refuses it and says which, or works with it, also when the clock jumps by years.

#![allow(clippy::disallowed_methods, reason = "time is paused")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

use std::future::pending;
use std::time::Duration;

use proptest::prelude::*;
use stanchion::adaptive_limit::Aimd;
use stanchion::admission::MinRemaining;
use stanchion::hedge::HedgeDelay;
use stanchion::rate_limit::Quota;
use stanchion::timeout::{Limit, Scope};
use stanchion::{
    AdaptiveLimitConfig, AdaptiveLimitLayer, Backoff, Budget, BudgetConfig, BulkheadConfig, BulkheadLayer,
    CircuitBreakerConfig, CircuitBreakerLayer, FallbackLayer, HedgeConfig, HedgeLayer, InvalidConfig,
    PartitionConfig, PriorityShares, QueueDiscipline, RateLimitConfig, RateLimitLayer, RetryConfig,
    RetryLayer, StaleConfig, ThrottleConfig, ThrottleLayer, TimeoutConfig, TimeoutLayer, Window,
};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

const YEAR: Duration = Duration::from_secs(86_400 * 365);

fn times() -> impl Strategy<Value = Duration> {
    prop::sample::select(vec![
        Duration::ZERO,
        Duration::from_nanos(1),
        Duration::from_nanos(999),
        Duration::from_millis(1),
        Duration::from_millis(250),
        Duration::from_secs(1),
        Duration::from_secs(60),
        YEAR,
        40 * YEAR,
        Duration::from_millis(u64::MAX),
        Duration::MAX,
    ])
}

/// Mostly such as are allowed somewhere: of many numbers one that is not is enough to be refused.
fn numbers() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => prop::sample::select(vec![0.1, 0.5, 0.9, 0.99, 1.0]),
        1 => prop::sample::select(vec![f64::MIN_POSITIVE, 5e-324, 1.000_1, 2.0, 100.0, 1e308]),
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, -0.0, 0.0]),
    ]
}

fn counts() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => prop::sample::select(vec![1, 2, 3, 20, 1_000]),
        1 => prop::sample::select(vec![0, 1_048_577, i32::MAX as u32, u32::MAX]),
    ]
}

fn sizes() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![0, 1, 3, 1_048_577, u32::MAX as usize, usize::MAX])
}

/// What happens between calls, and how the service ends them.
#[derive(Clone, Copy, Debug)]
enum Step {
    Answers,
    Fails,
    /// Until the caller gives up.
    Hangs,
    Sleeps(Duration),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Answers),
        4 => Just(Step::Fails),
        1 => Just(Step::Hangs),
        2 => prop::sample::select(vec![
            Duration::from_nanos(1),
            Duration::from_millis(7),
            Duration::from_secs(3),
            YEAR,
            7 * YEAR,
        ])
        .prop_map(Step::Sleeps),
    ];
    prop::collection::vec(step, 1..12)
}

/// Takes the steps through a layer, if there is one. Whatever it makes of them, it ends.
fn take<L, S>(made: Result<L, InvalidConfig>, steps: &[Step])
where
    L: Layer<Backend, Service = S>,
    S: Service<Step, Response = (), Error = BoxError>,
{
    let layer = match made {
        Ok(layer) => layer,
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(error.field()) && !error.allowed().is_empty(), "{text}");
            return;
        }
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut service = layer.layer(backend());
        for step in steps {
            if let Step::Sleeps(time) = step {
                tokio::time::advance(*time).await;
            } else {
                // Some settings let it wait for ever.
                let call = async { service.ready().await?.call(*step).await };
                let _ = tokio::time::timeout(3 * YEAR, call).await;
            }
        }
    });
}

type Backend = tower::util::BoxCloneSyncService<Step, (), BoxError>;

fn backend() -> Backend {
    async fn end(step: Step) -> Result<(), BoxError> {
        match step {
            Step::Answers | Step::Sleeps(_) => Ok(()),
            Step::Fails => Err("broken".into()),
            Step::Hangs => pending().await,
        }
    }
    tower::util::BoxCloneSyncService::new(service_fn(end))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_circuit_breaker_takes_any_setting(
        (window, by_calls, size) in (times(), any::<bool>(), counts()),
        (min_calls, failures) in (counts(), prop::option::of(counts())),
        (failure_ratio, slow_ratio, factor, jitter) in (numbers(), numbers(), numbers(), numbers()),
        (slow_after, open_for, max_open_for) in (prop::option::of(times()), times(), times()),
        (probes, probe_timeout, ramp) in (counts(), prop::option::of(times()), times()),
        steps in steps(),
    ) {
        let mut config = CircuitBreakerConfig::new()
            .window(if by_calls { Window::calls(size) } else { Window::time(window) })
            .min_calls(min_calls)
            .failure_ratio(failure_ratio)
            .slow_ratio(slow_ratio)
            .open_for(open_for)
            .max_open_for(max_open_for)
            .open_factor(factor)
            .open_jitter(jitter)
            .probes(probes)
            .ramp(ramp);
        if let Some(failures) = failures { config = config.consecutive_failures(failures); }
        if let Some(slow_after) = slow_after { config = config.slow_after(slow_after); }
        if let Some(timeout) = probe_timeout { config = config.probe_timeout(timeout); }
        // What a window of that many calls takes is more than a test may.
        prop_assume!(!by_calls || size <= 1_048_577);
        take(CircuitBreakerLayer::try_new(config), &steps);
    }

    #[test]
    fn a_timeout_takes_any_setting(
        (kind, limit, quantile, factor, min, max) in (0..3, times(), numbers(), numbers(), times(), times()),
        (is_attempt, idle, includes_readiness) in (any::<bool>(), prop::option::of(times()), any::<bool>()),
        min_remaining in prop_oneof![times().prop_map(MinRemaining::Fixed), numbers().prop_map(MinRemaining::Measured)],
        steps in steps(),
    ) {
        let limit = match kind {
            0 => Limit::Fixed(limit),
            1 => Limit::Deadline,
            _ => Limit::Adaptive { quantile, factor, min, max },
        };
        let mut config = TimeoutConfig::new().limit(limit).min_remaining(min_remaining);
        config = config.includes_readiness(includes_readiness);
        if is_attempt { config = config.scope(Scope::Attempt); }
        if let Some(idle) = idle { config = config.idle(idle); }
        take(TimeoutLayer::try_new(config), &steps);
    }

    #[test]
    fn a_retry_takes_any_setting(
        (attempts, base, cap) in (counts(), times(), times()),
        (max_server_wait, ready_within, min_remaining) in (times(), times(), times()),
        (ratio, per_second, budget_cap) in (numbers(), numbers(), numbers()),
        steps in steps(),
    ) {
        // As many attempts at no wait as there may be would be made.
        prop_assume!(attempts <= 1_000);
        let config = RetryConfig::new()
            .max_attempts(attempts)
            .backoff(Backoff::exponential(base).cap(cap))
            .max_server_wait(max_server_wait)
            .ready_within(ready_within)
            .min_remaining(min_remaining);
        let budget = Budget::try_new(BudgetConfig::new().ratio(ratio).per_second(per_second).cap(budget_cap));
        let made = budget.and_then(|budget| Ok(RetryLayer::try_new(config)?.budget(budget)));
        take(made, &steps);
    }

    #[test]
    fn a_hedge_takes_any_setting(
        (is_fixed, delay, quantile, min, max) in (any::<bool>(), times(), numbers(), times(), times()),
        (window, samples, hedges) in (times(), counts(), counts()),
        (min_remaining, ready_within) in (times(), times()),
        steps in steps(),
    ) {
        let delay = if is_fixed { HedgeDelay::Fixed(delay) } else { HedgeDelay::Quantile { quantile, min, max } };
        let config = HedgeConfig::new()
            .delay(delay)
            .window(window)
            .min_samples(samples)
            .max_hedges(hedges)
            .min_remaining(min_remaining)
            .ready_within(ready_within);
        take(HedgeLayer::try_new(config), &steps);
    }

    #[test]
    fn a_fallback_takes_any_setting((age, keys) in (times(), counts()), steps in steps()) {
        let config = StaleConfig::new().max_age(age).max_keys(keys);
        take(FallbackLayer::try_stale(config, |_: &Step| Some(0_u8)), &steps);
    }

    #[test]
    fn a_throttle_takes_any_setting(
        (window, headroom, max_ratio, requests) in (times(), numbers(), numbers(), counts()),
        steps in steps(),
    ) {
        let config =
            ThrottleConfig::new().window(window).headroom(headroom).max_ratio(max_ratio).min_requests(requests);
        take(ThrottleLayer::try_new(config), &steps);
    }

    #[test]
    fn a_rate_limit_takes_any_setting(
        (count, period, burst) in (counts(), times(), counts()),
        (max_wait, max_keys, is_keyed) in (times(), counts(), any::<bool>()),
        steps in steps(),
    ) {
        let quota = Quota::per(count, period).burst(burst);
        let config = RateLimitConfig::new(quota).max_wait(max_wait).max_keys(max_keys);
        if is_keyed {
            take(RateLimitLayer::try_keyed(config, |_: &Step| Some(0_u8)).map(RateLimitLayer::waits), &steps);
        } else {
            take(RateLimitLayer::try_new(config).map(RateLimitLayer::waits), &steps);
        }
    }

    #[test]
    fn a_bulkhead_takes_any_setting(
        (limit, queued, wait) in (counts(), sizes(), times()),
        (kind, target, interval) in (0..3, times(), times()),
        (normal, sheddable, share, lends) in (numbers(), numbers(), numbers(), numbers()),
        min_remaining in prop_oneof![times().prop_map(MinRemaining::Fixed), numbers().prop_map(MinRemaining::Measured)],
        steps in steps(),
    ) {
        let discipline = match kind {
            0 => QueueDiscipline::OldestFirst,
            1 => QueueDiscipline::AdaptiveLifo { target, interval },
            _ => QueueDiscipline::ControlledDelay { target, interval },
        };
        let config = BulkheadConfig::new()
            .max_in_flight(limit)
            .max_queued(queued)
            .max_wait(wait)
            .discipline(discipline)
            .headroom(PriorityShares::NONE.default(normal).sheddable(sheddable))
            .partitions([PartitionConfig::new("part", share).lends(lends)])
            .min_remaining(min_remaining);
        take(BulkheadLayer::try_new(config.clone()), &steps);
        take(BulkheadLayer::try_backpressure(config.clone()), &steps);
        take(BulkheadLayer::try_waiting(config), &steps);
    }

    #[test]
    fn an_adaptive_limit_takes_any_setting(
        (first, min, max) in (counts(), counts(), counts()),
        (window, calls, by_aimd) in (times(), counts(), any::<bool>()),
        steps in steps(),
    ) {
        let config =
            AdaptiveLimitConfig::new().initial_limit(first).min_limit(min).max_limit(max).window(window).min_calls(calls);
        if by_aimd {
            take(AdaptiveLimitLayer::try_new(config.algorithm(Aimd::new())), &steps);
        } else {
            take(AdaptiveLimitLayer::try_new(config), &steps);
        }
    }
}
