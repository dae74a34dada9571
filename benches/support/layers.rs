//! The cases of the layers around a circuit breaker, alone and stacked; those of tower's that do the same are in
//! [`tower_layers`](super::tower_layers).

#![allow(
    clippy::redundant_closure,
    reason = "each service is a type of its own, and none is shared by the compiler"
)]

use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

use stanchion::hedge::HedgeDelay;
use stanchion::protocol::{BodyTimer, RequestContext, WrapBody};
use stanchion::rate_limit::Quota;
use stanchion::{
    AdaptiveLimitConfig, AdaptiveLimitLayer, Budget, BudgetConfig, BulkheadConfig, BulkheadLayer,
    CallAttributes, CircuitBreakerConfig, CircuitBreakerLayer, Deadline, FallbackLayer, HedgeConfig,
    HedgeLayer, Partition, PartitionConfig, RateLimitLayer, RetryConfig, RetryLayer, ThrottleConfig,
    ThrottleLayer, TimeoutLayer,
};
use tower::{Layer, Service, ServiceBuilder, service_fn};

use super::cases::{Listening, REFUSING, TIMING, by_count, by_slowness};
use super::tower_layers::{
    ARMED, HEDGE, HEDGE_ARMED, LIMIT, LIMIT_REFUSED, RATE, RETRY, RETRY_SPENT, STACK, TIMEOUT,
};
use super::{Case, Error, Expect, Failed, Tower, echo, mostly_fail};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn all() -> Vec<Case> {
    let mut cases = retries();
    cases.extend(timeouts());
    cases.extend(hedges());
    cases.extend(fallbacks());
    cases.extend(bulkheads());
    cases.extend(adaptive_limits());
    cases.extend(rate_limits());
    cases.extend(throttles());
    cases.extend(stacks());
    cases
}

fn retries() -> Vec<Case> {
    let once = RetryLayer::new(RetryConfig::new().max_attempts(1));
    vec![
        succeeding("retry", retry().layer(service_fn(echo))).above(RETRY),
        succeeding("retry, 1 attempt", once.layer(service_fn(echo))).above(RETRY),
        Case::new(
            "retry, failed, budget spent",
            Expect::Failure,
            Tower(retry().budget(spent()).layer(service_fn(mostly_fail))),
        )
        .above(RETRY_SPENT),
    ]
}

fn timeouts() -> Vec<Case> {
    let observed = total().observer(Listening { wants_calls: false });
    let far = total().protocol(Due(Deadline::after(3_600 * SECOND)));
    let past = total().protocol(Due(Deadline::after(Duration::ZERO)));
    vec![
        succeeding("timeout", total().layer(service_fn(echo))).above(TIMEOUT),
        succeeding("timeout, observer", observed.layer(service_fn(echo))).above(TIMEOUT),
        succeeding("timeout, deadline in the request", far.layer(service_fn(echo))).above(TIMEOUT),
        Case::new("timeout, deadline has passed", Expect::Refusal, Tower(past.layer(service_fn(echo)))),
        succeeding("timeout, armed", attempt().layer(service_fn(pending_once))).above(ARMED),
    ]
}

fn hedges() -> Vec<Case> {
    vec![
        succeeding("hedge, fixed", fixed_hedge().layer(service_fn(echo))),
        succeeding("hedge, quantile", hedge().layer(service_fn(echo))).above(HEDGE),
        succeeding("hedge, fixed, armed", fixed_hedge().layer(service_fn(pending_once))),
        succeeding("hedge, quantile, armed", hedge().layer(service_fn(pending_once))).above(HEDGE_ARMED),
    ]
}

fn fallbacks() -> Vec<Case> {
    let open = CircuitBreakerLayer::new(by_count());
    open.handle().trip();
    vec![
        succeeding("fallback, not used", FallbackLayer::value(0).layer(service_fn(echo))),
        succeeding("fallback, used", FallbackLayer::value(0).layer(service_fn(fail))),
        succeeding(
            "fallback, used, open",
            FallbackLayer::value(0).layer(open.layer(service_fn(|request| echo(request)))),
        ),
    ]
}

fn bulkheads() -> Vec<Case> {
    let config = BulkheadConfig::new();
    let waiting = BulkheadLayer::waiting(config.clone().max_queued(64));
    let full = BulkheadLayer::new(config.clone().max_in_flight(1));
    let kept = [PartitionConfig::new("batch", 0.5).lends(0.0)];
    let parted = BulkheadLayer::new(config.clone().partitions(kept)).attributes(|_: &u64| {
        const BATCH: Partition = Partition::named("batch");
        CallAttributes::new().partition(BATCH)
    });
    // For good.
    std::mem::forget(full.handle().try_acquire());
    vec![
        succeeding("bulkhead", BulkheadLayer::new(config.clone()).layer(service_fn(echo))).above(LIMIT),
        succeeding("bulkhead, waiting", waiting.layer(service_fn(echo))).above(LIMIT),
        succeeding("bulkhead, partition", parted.layer(service_fn(echo))).above(LIMIT),
        succeeding("bulkhead, backpressure", BulkheadLayer::backpressure(config).layer(service_fn(echo)))
            .above(LIMIT),
        Case::new("bulkhead, rejected", Expect::Refusal, Tower(full.layer(service_fn(echo))))
            .above(LIMIT_REFUSED),
    ]
}

fn adaptive_limits() -> Vec<Case> {
    let config = AdaptiveLimitConfig::new();
    let waiting = AdaptiveLimitLayer::waiting(config.clone().max_queued(64));
    let reached = AdaptiveLimitLayer::new(config.clone().min_limit(1).initial_limit(1));
    // For good.
    std::mem::forget(reached.handle().try_acquire());
    let failing = AdaptiveLimitLayer::new(config.clone()).layer(service_fn(mostly_fail));
    vec![
        succeeding("adaptive limit", AdaptiveLimitLayer::new(config).layer(service_fn(echo))).above(TIMING),
        succeeding("adaptive limit, waiting", waiting.layer(service_fn(echo))).above(TIMING),
        Case::new("adaptive limit, failed", Expect::Failure, Tower(failing)).above(TIMING),
        Case::new("adaptive limit, rejected", Expect::Refusal, Tower(reached.layer(service_fn(echo))))
            .above(LIMIT_REFUSED),
    ]
}

fn rate_limits() -> Vec<Case> {
    let plenty = || Quota::per_second(1_000_000_000);
    let hourly = || Quota::per(1, 3_600 * SECOND).burst(1);
    let by_key = |quota| RateLimitLayer::keyed(quota, |request: &u64| Some(request & 1));
    let waits = RateLimitLayer::new(plenty()).waits();
    let (spent, keys_spent) = (RateLimitLayer::new(hourly()), by_key(hourly()));
    let _ = spent.handle().try_take(1);
    for key in 0..2_u64 {
        let _ = keys_spent.handle().try_take_for(&key, 1);
    }
    vec![
        succeeding("rate limit", RateLimitLayer::new(plenty()).layer(service_fn(echo))).above(RATE),
        succeeding("rate limit by key", by_key(plenty()).layer(service_fn(echo))),
        succeeding("rate limit that waits, at once", waits.layer(service_fn(echo))).above(RATE),
        Case::new("rate limit, rejected", Expect::Refusal, Tower(spent.layer(service_fn(echo))))
            .above(REFUSING),
        Case::new("rate limit by key, rejected", Expect::Refusal, Tower(keys_spent.layer(service_fn(echo)))),
    ]
}

/// The one of which nearly all calls are refused is around a service that fails always.
fn throttles() -> Vec<Case> {
    let throttle = || ThrottleLayer::new(ThrottleConfig::new().max_ratio(1.0));
    vec![
        succeeding("throttle", throttle().layer(service_fn(echo))).above(TIMING),
        Case::new(
            "throttle, nearly all rejected",
            Expect::Refusal,
            Tower(throttle().layer(service_fn(fail))),
        ),
    ]
}

fn stacks() -> Vec<Case> {
    let of_three = ServiceBuilder::new().layer(total()).layer(retry()).layer(attempt());
    let of_four = |breaker: CircuitBreakerConfig| {
        ServiceBuilder::new()
            .layer(total())
            .layer(retry())
            .layer(CircuitBreakerLayer::new(breaker))
            .layer(attempt())
            .service_fn(echo)
    };
    let of_five = ServiceBuilder::new()
        .layer(total())
        .layer(retry())
        .layer(CircuitBreakerLayer::new(by_count()))
        .layer(BulkheadLayer::new(BulkheadConfig::new()))
        .layer(attempt());
    // Retries and hedges out of one purse.
    let budget = Budget::default();
    let of_six = ServiceBuilder::new()
        .layer(total())
        .layer(FallbackLayer::value(0))
        .layer(retry().budget(budget.clone()))
        .layer(hedge().budget(budget))
        .layer(CircuitBreakerLayer::new(by_count()))
        .layer(attempt());
    vec![
        succeeding("timeout, retry, timeout", of_three.service_fn(echo)).above(STACK),
        succeeding("timeout, retry, breaker, timeout", of_four(by_count())).above(STACK),
        succeeding("timeout, retry, breaker of slow calls, timeout", of_four(by_slowness(true))).above(STACK),
        succeeding("timeout, retry, breaker, bulkhead, timeout", of_five.service_fn(|request| echo(request)))
            .above(STACK),
        succeeding(
            "timeout, fallback, retry, hedge, breaker, timeout",
            of_six.service_fn(|request| echo(request)),
        )
        .above(STACK),
    ]
}

pub(crate) fn succeeding<S>(name: &'static str, service: S) -> Case
where
    S: Service<u64> + Clone + Send + 'static,
{
    Case::new(name, Expect::Success, Tower(service))
}

pub(crate) fn total() -> TimeoutLayer {
    TimeoutLayer::after(10 * SECOND)
}

pub(crate) fn attempt() -> TimeoutLayer {
    TimeoutLayer::per_attempt(SECOND)
}

pub(crate) fn retry() -> RetryLayer {
    RetryLayer::new(RetryConfig::new())
}

/// After the quantile that the calls have.
pub(crate) fn hedge() -> HedgeLayer {
    HedgeLayer::new(HedgeConfig::new())
}

pub(crate) fn fixed_hedge() -> HedgeLayer {
    HedgeLayer::new(HedgeConfig::new().delay(HedgeDelay::Fixed(SECOND)))
}

/// A budget that has nothing, and gets nothing.
fn spent() -> Budget {
    let budget = Budget::new(BudgetConfig::new().ratio(0.0).per_second(0.0));
    while budget.withdraw() {}
    budget
}

/// Not ready when it is first asked, so that a timer has to be armed.
pub(crate) fn pending_once(request: u64) -> impl Future<Output = Result<u64, Error>> {
    let mut is_asked = false;
    poll_fn(move |cx| {
        if std::mem::replace(&mut is_asked, true) {
            return Poll::Ready(Ok(request));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

async fn fail(_: u64) -> Result<u64, Error> {
    Err(Error::Inner(Failed))
}

/// The protocol of requests that are all due at the same moment.
#[derive(Clone)]
struct Due(Deadline);

impl RequestContext<u64> for Due {
    fn deadline(&self, _: &u64) -> Option<Deadline> {
        Some(self.0)
    }
}

impl<Res> WrapBody<Res> for Due {
    type Wrapped = Res;

    fn wrap_body(&self, answer: Res, _: Option<BodyTimer>) -> Res {
        answer
    }
}
