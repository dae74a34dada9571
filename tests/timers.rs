//! Timers of all layers: in a task that has used up its budget, in which nothing of tokio's is ready, and after a long time.

#![allow(clippy::disallowed_methods, reason = "a test moves the clock, and its calls are tasks")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/fault.rs"]
mod fault;

use std::future::{Future, pending, poll_fn, ready};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::fault::Fault;
use stanchion::hedge::HedgeDelay;
use stanchion::rate_limit::Quota;
use stanchion::{
    Backoff, BulkheadConfig, BulkheadLayer, CircuitBreakerConfig, CircuitBreakerLayer, Error, FallbackLayer,
    HedgeConfig, HedgeLayer, Jitter, RateLimitConfig, RateLimitLayer, Readiness, RetryConfig, RetryLayer,
    TimeoutConfig, TimeoutLayer,
};
use tokio::time::{Instant, advance};
use tower::{Layer, Service, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);
const YEARS: Duration = Duration::from_secs(31 * 365 * 86_400);

type Failure = Error<Fault>;

/// Uses up the budget that tokio gives a task for one poll.
fn spend(cx: &mut Context<'_>) {
    while pin!(tokio::task::consume_budget()).poll(cx).is_ready() {}
}

/// Polls `future` in a task whose budget something else has used up, each time.
async fn beside_a_spender<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        spend(cx);
        future.as_mut().poll(cx)
    })
    .await
}

/// What `future` comes to within three seconds, in such a task.
async fn within_three_seconds<F>(what: &str, future: F) -> F::Output
where
    F: Future<Output: Send> + Send + 'static,
{
    let task = tokio::spawn(beside_a_spender(future));
    for _ in 0..12 {
        tokio::task::yield_now().await;
        advance(SECOND / 4).await;
    }
    assert!(task.is_finished(), "the timer was not heard: {what}");
    task.await.unwrap()
}

/// Is never ready, or pending for ever when it is called.
#[derive(Clone, Debug)]
struct Hangs {
    is_ready: bool,
}

impl Service<()> for Hangs {
    type Response = ();
    type Error = Failure;
    type Future = std::future::Pending<Result<(), Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if self.is_ready { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&mut self, (): ()) -> Self::Future {
        assert!(self.is_ready, "called before it was ready");
        pending()
    }
}

const NEVER_READY: Hangs = Hangs { is_ready: false };
const HANGS: Hangs = Hangs { is_ready: true };

async fn answer((): ()) -> Result<(), Failure> {
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_hedge_is_sent_beside_a_service_that_uses_up_the_budget_of_the_task() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let service = service_fn(move |(): ()| {
        let is_original = counted.fetch_add(1, Ordering::Relaxed) == 0;
        poll_fn(move |cx| {
            if is_original {
                spend(cx);
                return Poll::Pending;
            }
            Poll::Ready(Ok::<_, Failure>(()))
        })
    });
    let hedge = HedgeLayer::new(HedgeConfig::new().delay(HedgeDelay::Fixed(SECOND / 10)));
    let call = within_three_seconds("hedge", hedge.layer(service).oneshot(()));
    assert_eq!(call.await, Ok(()));
    assert_eq!(calls.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_fallback_that_is_not_ready_is_given_up_in_a_task_without_budget() {
    let layer = FallbackLayer::service(NEVER_READY).keep(|(): &()| ()).ready_within(SECOND);
    let failing = service_fn(|(): ()| ready(Err::<(), _>(Failure::Inner(Fault("down")))));
    let call = within_three_seconds("fallback", layer.layer(failing).oneshot(()));
    assert_eq!(call.await, Err(Failure::Inner(Fault("down"))));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_its_turn_is_made_in_a_task_without_budget() {
    let layer = RateLimitLayer::new(Quota::per_second(1)).waits();
    layer.handle().try_take(1).unwrap();
    let call = within_three_seconds("rate limit", layer.layer(service_fn(answer)).oneshot(()));
    assert_eq!(call.await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_opens_for_its_time_is_waited_for_in_a_task_without_budget() {
    let config = CircuitBreakerConfig::new().open_for(SECOND).open_jitter(0.0);
    let layer = CircuitBreakerLayer::new(config).readiness(Readiness::Pending);
    layer.handle().trip();
    let call = within_three_seconds("circuit breaker", layer.layer(service_fn(answer)).oneshot(()));
    assert_eq!(call.await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn retries_wait_in_a_task_without_budget() {
    let backoff = Backoff::constant(SECOND / 2).jitter(Jitter::None);
    let layer = RetryLayer::new(RetryConfig::new().backoff(backoff).ready_within(SECOND));
    let handle = layer.handle();
    let run = async move {
        let mut attempts = 0;
        handle
            .run_opaque(|| {
                attempts += 1;
                ready(if attempts < 3 { Err(()) } else { Ok(attempts) })
            })
            .await
    };
    assert_eq!(within_three_seconds("run", run).await, Ok(3));
    let failing = service_fn(|(): ()| ready(Err::<(), _>(Failure::Inner(Fault("down")))));
    let call = within_three_seconds("retry", layer.layer(failing).oneshot(()));
    assert_eq!(call.await, Err(Failure::Inner(Fault("down"))));
}

#[tokio::test(start_paused = true)]
async fn limits_end_calls_and_waits_in_a_task_without_budget() {
    let call = within_three_seconds("timeout", TimeoutLayer::after(SECOND).layer(HANGS).oneshot(()));
    assert!(call.await.is_err());
    let readiness =
        TimeoutConfig::new().limit(stanchion::timeout::Limit::Fixed(SECOND)).includes_readiness(true);
    let call = TimeoutLayer::new(readiness).layer(NEVER_READY).oneshot(());
    assert!(within_three_seconds("readiness", call).await.is_err());
    let config = BulkheadConfig::new().max_in_flight(1).max_queued(1).max_wait(SECOND);
    let layer = BulkheadLayer::waiting(config);
    let mut service = layer.layer(HANGS);
    let under_way = service.ready().await.unwrap().call(());
    assert!(within_three_seconds("bulkhead", service.oneshot(())).await.is_err());
    drop(under_way);
}

/// Timers were cut at thirty years after the layer was made.
#[tokio::test(start_paused = true)]
async fn after_31_years_each_turn_still_comes_at_its_time() {
    let config = RateLimitConfig::new(Quota::per_second(1)).max_wait(10 * SECOND);
    let mut service = RateLimitLayer::new(config).waits().layer(service_fn(answer));
    let config = CircuitBreakerConfig::new().open_for(SECOND).open_jitter(0.0);
    let breaker = CircuitBreakerLayer::new(config).readiness(Readiness::Pending);
    let circuit = breaker.layer(service_fn(answer));
    advance(YEARS).await;
    let began = Instant::now();
    for seconds in 0..4 {
        assert_eq!(service.ready().await.unwrap().call(()).await, Ok(()));
        assert_eq!(began.elapsed(), seconds * SECOND);
    }
    breaker.handle().trip();
    let (began, mut polls) = (Instant::now(), 0);
    let mut call = pin!(circuit.oneshot(()));
    let answer = poll_fn(|cx| {
        polls += 1;
        call.as_mut().poll(cx)
    });
    assert_eq!(answer.await, Ok(()));
    assert_eq!((began.elapsed(), polls), (SECOND, 2));
}
