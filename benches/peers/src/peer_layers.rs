//! What tower and the competitors have in place of the layers around a circuit breaker, alone and stacked.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use layered::Execute;
use seatbelt::fallback::Fallback;
use seatbelt::hedging::Hedging;
use seatbelt::retry::Retry;
use seatbelt::timeout::Timeout;
use seatbelt::typestates::Set;
use seatbelt::{RecoveryInfo, ResilienceContext};
use tick::Clock;
use tower::hedge::{self, Hedge};
use tower::retry;
use tower::retry::budget::{Budget, TpsBudget};
use tower::{BoxError, Layer, Service, ServiceBuilder, service_fn};
use tower_resilience_circuitbreaker::SlidingWindowType;
use tower_resilience_fallback::FallbackLayer as TrFallback;
use tower_resilience_hedge::HedgeLayer as TrHedge;
use tower_resilience_retry::{RetryBudgetBuilder, RetryLayer as TrRetry};
use tower_resilience_timelimiter::TimeLimiterLayer as TrTimeout;

use crate::measure::{Contestant, Tower, block_on};
use crate::peers::{Layered, seatbelt, tower_resilience};
use crate::row::*;
use crate::service::{Failed, echo, fail, pending_once};

const SECOND: Duration = Duration::from_secs(1);

pub fn rows() -> Vec<Row> {
    [of_tower(), of_tower_resilience(), of_seatbelt(), of_seatbelt_in_tower()].into_iter().flatten().collect()
}

fn row<C: Contestant>(name: &'static str, contestant: C) -> Row {
    Row::new(name, Expect::Success, contestant)
}

// ----------------------------------------------------------------------------------------------------- tower

fn of_tower() -> Vec<Row> {
    let timeout = |limit| ServiceBuilder::new().timeout(limit);
    let retry = || ServiceBuilder::new().retry(Within::default());
    let stack = timeout(10 * SECOND).retry(Within::default()).timeout(SECOND);
    vec![
        row("tower, retry with `TpsBudget`", Tower(retry().service_fn(echo::<Failed>))).against(OURS_RETRY),
        row("tower, timeout", Tower(timeout(SECOND).service_fn(echo::<Failed>))).against(OURS_TIMEOUT),
        row("tower, timeout, armed", Tower(timeout(SECOND).service_fn(pending_once::<Failed>)))
            .against(OURS_ARMED),
        row("tower, hedge (one per thread)", Tower(hedged(service_fn(echo::<Failed>)))).against(OURS_HEDGE),
        row("tower, hedge, armed (one per thread)", Tower(hedged(service_fn(pending_once::<Failed>))))
            .against(OURS_HEDGE_ARMED),
        row("tower, timeout + retry + timeout", Tower(stack.service_fn(echo::<Failed>)))
            .against(OURS_SMALL_STACK),
    ]
}

/// Repeats what fails, within tower's budget.
#[derive(Clone, Default)]
struct Within(Arc<TpsBudget>);

impl<E> retry::Policy<u64, u64, E> for Within {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u64, result: &mut Result<u64, E>) -> Option<Ready<()>> {
        if result.is_ok() {
            self.0.deposit();
            return None;
        }
        self.0.withdraw().then(|| ready(()))
    }

    fn clone_request(&mut self, req: &u64) -> Option<u64> {
        Some(*req)
    }
}

/// Hedges whatever is late.
#[derive(Clone)]
struct Always;

impl hedge::Policy<u64> for Always {
    fn clone_request(&self, req: &u64) -> Option<u64> {
        Some(*req)
    }

    fn can_retry(&self, _: &u64) -> bool {
        true
    }
}

/// With the quantile, the samples and the window that are stanchion's defaults.
fn hedged<S>(service: S) -> Hedged<S>
where
    S: Service<u64> + Clone,
    S::Error: Into<BoxError>,
{
    Hedged(Hedge::new(service.clone(), Always, 100, 0.95, 15 * SECOND), service)
}

/// A hedge and the service inside. It cannot be cloned, so each thread has one of its own.
struct Hedged<S>(Hedge<S, Always>, S);

impl<S> Clone for Hedged<S>
where
    S: Service<u64> + Clone,
    S::Error: Into<BoxError>,
{
    fn clone(&self) -> Self {
        hedged(self.1.clone())
    }
}

impl<S> Service<u64> for Hedged<S>
where
    S: Service<u64> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = <Hedge<S, Always> as Service<u64>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, req: u64) -> Self::Future {
        self.0.call(req)
    }
}

// ------------------------------------------------------------------------------------------ tower-resilience

fn of_tower_resilience() -> Vec<Row> {
    let timeout = |limit| TrTimeout::builder().timeout_duration(limit).build();
    let hedge = || TrHedge::new(SECOND);
    let fallback = || TrFallback::<u64, u64, Failed>::value(0);
    let stack = ServiceBuilder::new()
        .layer(timeout(10 * SECOND))
        .layer(tr_retry())
        .layer(tower_resilience(SlidingWindowType::CountBased))
        .layer(timeout(SECOND));
    vec![
        row("tower-resilience, retry with budget", Tower(tr_retry().layer(service_fn(echo::<Failed>))))
            .against(OURS_RETRY),
        row("tower-resilience, timeout", Tower(timeout(SECOND).layer(service_fn(echo::<Failed>))))
            .against(OURS_TIMEOUT),
        row(
            "tower-resilience, timeout, armed",
            Tower(timeout(SECOND).layer(service_fn(pending_once::<Failed>))),
        )
        .against(OURS_ARMED),
        row("tower-resilience, hedge, fixed", Tower(hedge().layer(service_fn(echo::<Failed>))))
            .against(OURS_FIXED_HEDGE),
        row(
            "tower-resilience, hedge, fixed, armed",
            Tower(hedge().layer(service_fn(pending_once::<Failed>))),
        )
        .against(OURS_FIXED_HEDGE_ARMED),
        row("tower-resilience, fallback, not used", Tower(fallback().layer(service_fn(echo::<Failed>))))
            .against(OURS_FALLBACK),
        row("tower-resilience, fallback, used", Tower(fallback().layer(service_fn(fail::<Failed>))))
            .against(OURS_FELL_BACK),
        row("tower-resilience, timeout + retry + breaker + timeout", Tower(stack.service_fn(echo::<Failed>)))
            .against(OURS_STACK),
    ]
}

fn tr_retry<E: Send + Sync + 'static>() -> TrRetry<u64, u64, E> {
    let budget = RetryBudgetBuilder::new().token_bucket().tokens_per_second(1.0).max_tokens(10);
    TrRetry::builder()
        .max_attempts(3)
        .exponential_backoff(Duration::from_millis(100))
        .budget(budget.build().expect("a valid budget"))
        .build()
}

// -------------------------------------------------------------------------------------------------- seatbelt

type Answer = Result<u64, Failed>;

/// Its timers are driven by a runtime that is gone: none of them is ever due here, and so that is none of their cost.
fn context() -> ResilienceContext<u64, Answer> {
    ResilienceContext::new(block_on(async { Clock::new_tokio() }))
}

fn recovery(answer: &Answer) -> RecoveryInfo {
    if answer.is_ok() { RecoveryInfo::never() } else { RecoveryInfo::retry() }
}

type Limit = seatbelt::timeout::TimeoutLayer<u64, Answer, Set, Set>;
type Again = seatbelt::retry::RetryLayer<u64, Answer, Set, Set>;
type Twice = seatbelt::hedging::HedgingLayer<u64, Answer, Set, Set>;
type Instead = seatbelt::fallback::FallbackLayer<u64, Answer, Set, Set>;

fn sb_timeout(limit: Duration) -> Limit {
    Timeout::layer("timeout", &context()).timeout(limit).timeout_error(|_| Failed)
}

fn sb_retry() -> Again {
    Retry::layer("retry", &context()).clone_input().recovery_with(|answer: &Answer, _| recovery(answer))
}

fn sb_hedge() -> Twice {
    let layer = Hedging::layer("hedge", &context()).clone_input();
    layer.recovery_with(|answer: &Answer, _| recovery(answer)).hedging_delay(SECOND)
}

fn sb_fallback() -> Instead {
    let layer = Fallback::layer("fallback", &context());
    layer.should_fallback(|answer: &Answer| answer.is_err()).fallback_output(Ok(0))
}

fn of_seatbelt() -> Vec<Row> {
    let (echo, fail, pending) = (
        || Execute::new(echo::<Failed>),
        || Execute::new(fail::<Failed>),
        || Execute::new(pending_once::<Failed>),
    );
    let stack =
        sb_timeout(10 * SECOND).layer(sb_retry().layer(seatbelt().layer(sb_timeout(SECOND).layer(echo()))));
    vec![
        row("seatbelt, retry (no budget), own API", Layered(sb_retry().layer(echo()))).against(OURS_RETRY),
        row("seatbelt, timeout, own API", Layered(sb_timeout(SECOND).layer(echo()))).against(OURS_TIMEOUT),
        row("seatbelt, timeout, armed, own API", Layered(sb_timeout(SECOND).layer(pending())))
            .against(OURS_ARMED),
        row("seatbelt, hedge, fixed, own API", Layered(sb_hedge().layer(echo()))).against(OURS_FIXED_HEDGE),
        row("seatbelt, hedge, fixed, armed, own API", Layered(sb_hedge().layer(pending())))
            .against(OURS_FIXED_HEDGE_ARMED),
        row("seatbelt, fallback, not used, own API", Layered(sb_fallback().layer(echo())))
            .against(OURS_FALLBACK),
        row("seatbelt, fallback, used, own API", Layered(sb_fallback().layer(fail())))
            .against(OURS_FELL_BACK),
        row("seatbelt, timeout + retry + breaker + timeout, own API", Layered(stack))
            .against(OURS_TIME_STACK),
    ]
}

fn of_seatbelt_in_tower() -> Vec<Row> {
    let stack = ServiceBuilder::new()
        .layer(sb_timeout(10 * SECOND))
        .layer(sb_retry())
        .layer(seatbelt())
        .layer(sb_timeout(SECOND));
    vec![
        row("seatbelt, retry (no budget), tower", Tower(sb_retry().layer(service_fn(echo::<Failed>))))
            .against(OURS_RETRY),
        row("seatbelt, timeout, tower", Tower(sb_timeout(SECOND).layer(service_fn(echo::<Failed>))))
            .against(OURS_TIMEOUT),
        row(
            "seatbelt, timeout, armed, tower",
            Tower(sb_timeout(SECOND).layer(service_fn(pending_once::<Failed>))),
        )
        .against(OURS_ARMED),
        row("seatbelt, hedge, fixed, tower", Tower(sb_hedge().layer(service_fn(echo::<Failed>))))
            .against(OURS_FIXED_HEDGE),
        row("seatbelt, fallback, not used, tower", Tower(sb_fallback().layer(service_fn(echo::<Failed>))))
            .against(OURS_FALLBACK),
        row("seatbelt, fallback, used, tower", Tower(sb_fallback().layer(service_fn(fail::<Failed>))))
            .against(OURS_FELL_BACK),
        row("seatbelt, timeout + retry + breaker + timeout, tower", Tower(stack.service_fn(echo::<Failed>)))
            .against(OURS_TIME_STACK),
    ]
}
