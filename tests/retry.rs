//! Retries as a service: which calls are retried, when and at what cost, and cancellation.

#![allow(clippy::disallowed_methods, reason = "a test moves the clock, and spawns")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

#[path = "retry/deadline.rs"]
mod deadline;
#[path = "support/fault.rs"]
mod fault;
#[path = "retry/handle.rs"]
mod handle;
#[cfg(feature = "http")]
#[path = "retry/http.rs"]
mod over_http;
#[path = "retry/readiness.rs"]
mod readiness;
#[path = "retry/reconfigured.rs"]
mod reconfigured;

use std::fmt;
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::fault::Fault;
use stanchion::circuit_breaker::State;
use stanchion::classify::{Class, Outcome};
use stanchion::telemetry::{Event, LayerId};
use stanchion::{
    Backoff, Budget, BudgetConfig, CircuitBreakerConfig, CircuitBreakerLayer, Error, Jitter, Reason,
    RetryConfig, RetryLayer, TimeoutLayer,
};
use tokio::time::{Instant, sleep};
use tokio_test::{assert_pending, task};
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

type Failure = Error<Fault>;
type Answer = Result<u32, Failure>;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const FAILED: Answer = Err(Error::Inner(Fault("failed")));

/// Three attempts, 100 and 200 ms apart.
fn config() -> RetryConfig {
    RetryConfig::new().backoff(Backoff::exponential(100 * MS).jitter(Jitter::None))
}

fn layer() -> RetryLayer {
    RetryLayer::new(config()).name("orders")
}

/// A budget of two tokens.
fn two_tokens() -> Budget {
    Budget::new(BudgetConfig::new().ratio(0.0).per_second(0.0).cap(2.0))
}

/// Records the start of each attempt, relative to its own creation.
#[derive(Clone, Debug)]
struct Starts {
    origin: Instant,
    at: Arc<Mutex<Vec<Duration>>>,
}

impl Starts {
    fn new() -> Self {
        Self { origin: Instant::now(), at: Arc::default() }
    }

    /// Records one more attempt, and returns its number, counted from 1.
    fn begin(&self) -> u32 {
        let mut at = self.at.lock().unwrap();
        at.push(self.origin.elapsed());
        u32::try_from(at.len()).unwrap()
    }

    fn count(&self) -> usize {
        self.at.lock().unwrap().len()
    }

    #[track_caller]
    fn assert_at(&self, millis: &[u32]) {
        let expected: Vec<_> = millis.iter().map(|millis| *millis * MS).collect();
        assert_eq!(*self.at.lock().unwrap(), expected);
    }
}

/// A service whose attempt `n` returns `end(n)`.
fn backend<R, T, Fut>(
    end: impl Fn(u32) -> Fut + Clone,
) -> (impl Service<R, Response = T, Error = Failure, Future = Fut> + Clone, Starts)
where
    Fut: Future<Output = Result<T, Failure>>,
{
    let starts = Starts::new();
    let log = starts.clone();
    (service_fn(move |_: R| end(log.begin())), starts)
}

/// Returns a service that fails this many times at once, and then succeeds.
fn failing(
    times: u32,
) -> (impl Service<u32, Response = u32, Error = Failure, Future: Send> + Clone + Send + 'static, Starts) {
    backend(move |attempt| async move { if attempt <= times { FAILED } else { Ok(attempt) } })
}

/// Records events, one line each.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn by<P>(&self, layer: RetryLayer<P>) -> RetryLayer<P> {
        let Self(lines) = self.clone();
        layer.observer(move |_: &LayerId, event: &Event<'_>| {
            let line = match event {
                Event::Attempt { number, outcome, .. } => format!("{number} {}", outcome.as_str()),
                Event::Action { action, attempt, wait, .. } if wait.is_zero() => {
                    format!("{} after {attempt}", action.as_str())
                }
                Event::Action { action, attempt, wait, .. } => {
                    format!("{} after {attempt} in {wait:?}", action.as_str())
                }
                Event::Rejected(rejected) => format!("rejected: {}", rejected.reason().as_str()),
                Event::Budget { .. } => "budget".to_owned(),
                other => panic!("{other:?}"),
            };
            lines.lock().unwrap().push(line);
        })
    }

    /// Returns the events since the last time.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// Returns the number of matching events since the last time.
    fn count(&self, start: &str) -> usize {
        self.take().iter().filter(|line| line.starts_with(start)).count()
    }
}

// Retried calls.

#[tokio::test(start_paused = true)]
async fn a_failure_is_retried_after_growing_waits_and_the_last_one_is_returned() {
    let heard = Heard::default();
    let (service, starts) = backend(|attempt| async move {
        Err::<(), _>(Error::Inner(Fault(["first", "second", "third"][attempt as usize - 1])))
    });
    let answer = heard.by(layer()).layer(service).oneshot(7).await;
    assert_eq!(answer, Err(Error::Inner(Fault("third"))));
    starts.assert_at(&[0, 100, 300]);
    assert_eq!(
        heard.take(),
        [
            "1 failure",
            "budget",
            "retried after 1 in 100ms",
            "2 failure",
            "budget",
            "retried after 2 in 200ms",
            "3 failure",
            "exhausted after 3"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_good_response_is_returned_at_once_and_costs_nothing() {
    let heard = Heard::default();
    let budget = two_tokens();
    let (service, starts) = failing(0);
    let answer = heard.by(layer().budget(budget.clone())).layer(service).oneshot(7).await;
    assert_eq!(answer, Ok(1));
    starts.assert_at(&[0]);
    assert_eq!(budget.balance(), 2.0);
    assert_eq!(heard.take(), ["1 success"]);
}

#[tokio::test(start_paused = true)]
async fn a_closure_classifies_results() {
    let heard = Heard::default();
    let (service, starts) = backend(|attempt| async move {
        match attempt {
            1 => Ok(503),
            2 => Err(Error::Inner(Fault("reset"))),
            3 => Ok(200),
            4 => Err(Error::Inner(Fault("bad request"))),
            _ => Err(Error::Inner(Fault("not found"))),
        }
    });
    let layer = layer().classify(|result: Result<&u32, &Failure>| match result {
        Ok(503) => Outcome::failure(),
        Ok(_) => Outcome::success(),
        Err(Error::Inner(Fault("not found"))) => Class::Ignored.into(),
        Err(Error::Inner(Fault("bad request"))) => {
            Outcome::failure().retryable(stanchion::classify::Retryable::Never)
        }
        Err(_) => Outcome::failure(),
    });
    let mut service = heard.by(layer).layer(service);
    assert_eq!(service.ready().await.unwrap().call(7).await, Ok(200));
    starts.assert_at(&[0, 100, 300]);
    assert_eq!(heard.count("retried"), 2);
    assert_eq!(service.ready().await.unwrap().call(7).await, Err(Error::Inner(Fault("bad request"))));
    assert_eq!(heard.take(), ["1 failure"]);
    assert_eq!(service.ready().await.unwrap().call(7).await, Err(Error::Inner(Fault("not found"))));
    assert_eq!(heard.take(), ["1 ignored"]);
}

/// .NET's handlers kept the response and its connection during the wait.
#[tokio::test(start_paused = true)]
async fn a_discarded_response_is_dropped_before_the_wait() {
    let (service, starts) = backend(|_| async { Ok(Arc::new(())) });
    let (answers, held) = (Arc::new(Mutex::new(Vec::new())), ());
    let seen = Arc::clone(&answers);
    let judge = move |result: Result<&Arc<()>, &Failure>| {
        seen.lock().unwrap().push(Arc::downgrade(result.unwrap()));
        Class::Failure
    };
    let mut call = task::spawn(layer().classify(judge).layer(service).oneshot(held));
    assert_pending!(call.poll());
    assert_eq!(starts.count(), 1);
    assert_eq!(answers.lock().unwrap()[0].strong_count(), 0, "in the wait");
    call.await.unwrap();
    assert_eq!(starts.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_is_dropped_before_the_wait() {
    let alive = Arc::new(());
    let held = Arc::clone(&alive);
    let (service, _) = backend(move |_| Ends { with: Some(FAILED), _held: Arc::clone(&held) });
    let before = Arc::strong_count(&alive);
    let mut call = task::spawn(layer().layer(service).oneshot(7));
    assert_pending!(call.poll());
    // The service exists twice: in the layer's service, whose call was made, and in the call.
    assert!(Arc::strong_count(&alive) <= before + 1, "the future of the attempt is alive");
    drop(call);
    assert_eq!(Arc::strong_count(&alive), 1);
}

/// A future that holds something until it is dropped, unlike an `async` block.
struct Ends {
    with: Option<Answer>,
    _held: Arc<()>,
}

impl Future for Ends {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
        self.with.take().map_or(Poll::Pending, Poll::Ready)
    }
}

#[derive(Debug)]
struct Counted(Arc<AtomicU32>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_copied_once_and_once_more_for_each_repetition_but_not_if_there_is_none() {
    for (most, failures, copies) in [(1, 0, 0), (1, 5, 0), (3, 0, 1), (3, 1, 2), (3, 5, 3)] {
        let count = Arc::new(AtomicU32::new(0));
        let (service, starts) =
            backend(move |attempt| async move { if attempt <= failures { FAILED } else { Ok(attempt) } });
        let layer = RetryLayer::new(config().max_attempts(most));
        let _ = layer.layer(service).oneshot(Counted(Arc::clone(&count))).await;
        assert_eq!(count.load(Ordering::Relaxed), copies, "{most} attempts, {failures} failures");
        assert_eq!(starts.count(), (failures + 1).min(most) as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn hostile_settings_are_rejected_or_work() {
    for most in [0, 1_001, u32::MAX] {
        let error = RetryLayer::try_new(config().max_attempts(most)).map(drop).unwrap_err();
        assert_eq!(error.field(), "max_attempts");
    }
    for factor in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
        let backoff = Backoff::exponential(MS).factor(factor);
        let error = RetryLayer::try_new(config().backoff(backoff)).map(drop).unwrap_err();
        assert_eq!(error.field(), "factor");
    }
    assert!(catch_unwind(|| RetryLayer::new(config().max_attempts(0))).is_err());
    for extreme in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        let config = RetryConfig::new()
            .max_attempts(1_000)
            .backoff(Backoff::exponential(extreme).factor(f64::MAX).cap(Duration::MAX))
            .ready_within(extreme)
            .max_server_wait(extreme)
            .min_remaining(extreme);
        let (service, starts) = failing(10);
        let layer = RetryLayer::new(config).budget(Budget::unlimited());
        let call = layer.layer(service).oneshot(7);
        if extreme == Duration::MAX {
            // Half of 584 years is more than tokio can represent.
            let _ = tokio::time::timeout(SECOND, call).await;
        } else {
            assert_eq!(call.await, Ok(11));
            assert_eq!(starts.count(), 11);
        }
    }
}

// Inner layers.

/// opossum, Hystrix and others retry their own rejections like failures of the service.
#[tokio::test(start_paused = true)]
async fn a_rejection_by_an_inner_circuit_is_returned_and_costs_nothing() {
    let heard = Heard::default();
    let budget = two_tokens();
    let breaker = CircuitBreakerLayer::new(CircuitBreakerConfig::new());
    breaker.handle().force_open();
    let (service, starts) = failing(0);
    let service = heard.by(layer().budget(budget.clone())).layer(breaker.layer(service));
    let Err(Error::Rejected(rejected)) = service.oneshot(7).await else { panic!("it is open") };
    assert_eq!(rejected.reason(), Reason::CircuitOpen);
    assert_eq!(starts.count(), 0);
    assert_eq!(budget.balance(), 2.0);
    assert_eq!(heard.take(), ["1 ignored"]);
}

#[tokio::test(start_paused = true)]
async fn the_classifier_does_not_see_rejections() {
    let breaker = CircuitBreakerLayer::new(CircuitBreakerConfig::new());
    breaker.handle().force_open();
    for retry in [false, true] {
        let judge = |result: Result<&u32, &Failure>| -> Class { panic!("{result:?} is put before it") };
        let layer = RetryLayer::new(config().retry_refusals(retry)).classify(judge);
        let (service, _) = failing(0);
        let answer = layer.layer(breaker.layer(service)).oneshot(7).await;
        assert!(matches!(answer, Err(Error::Rejected(_))));
        let refused = layer.handle().run(|| breaker.handle().run(async { Ok::<_, Failure>(1) })).await;
        assert!(matches!(refused, Err(Error::Rejected(_))));
    }
}

/// Two endpoints in turn, each with a circuit, as below a balancer.
#[tokio::test(start_paused = true)]
async fn above_a_balancer_a_rejection_is_retried_at_another_endpoint() {
    for (retry, expected) in [(true, Ok(1)), (false, Err(Reason::CircuitOpen))] {
        let breakers = [(); 2].map(|()| CircuitBreakerLayer::new(CircuitBreakerConfig::new()));
        breakers[0].handle().force_open();
        let (service, starts) = failing(0);
        let endpoints = breakers.map(|breaker| breaker.layer(service.clone()));
        let turn = Arc::new(AtomicU32::new(0));
        let balancer = service_fn(move |request| {
            let endpoint = turn.fetch_add(1, Ordering::Relaxed) as usize % 2;
            endpoints[endpoint].clone().oneshot(request)
        });
        let layer = RetryLayer::new(config().retry_refusals(retry));
        let answer = layer.layer(balancer).oneshot(7).await;
        assert_eq!(answer.map_err(|error| error.rejected().unwrap().reason()), expected);
        assert_eq!(starts.count(), usize::from(retry));
    }
}

/// A call that was rejected in one poll and responds in a later one is not rejected.
#[tokio::test(start_paused = true)]
async fn a_response_after_an_inner_rejection_is_no_rejection() {
    let breaker = CircuitBreakerLayer::new(CircuitBreakerConfig::new());
    breaker.handle().force_open();
    let (service, starts) = backend(move |_| {
        let handle = breaker.handle();
        async move {
            let refused = handle.run(async { Ok::<_, Failure>(()) }).await;
            assert!(refused.is_err());
            sleep(MS).await;
            Ok(503)
        }
    });
    let layer = layer().classify(|_: Result<&u32, &Failure>| Class::Failure);
    assert_eq!(layer.layer(service).oneshot(7).await, Ok(503));
    assert_eq!(starts.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_a_timeout_costs_more() {
    let budget = Budget::new(BudgetConfig::new().ratio(0.0).per_second(0.0).cap(10.0));
    let (service, starts) = backend(|attempt| async move {
        match attempt {
            1 => pending().await,
            2 => FAILED,
            _ => Ok(attempt),
        }
    });
    let layers =
        ServiceBuilder::new().layer(layer().budget(budget.clone())).layer(TimeoutLayer::per_attempt(SECOND));
    assert_eq!(layers.service(service).oneshot(7).await, Ok(3));
    starts.assert_at(&[0, 1_100, 1_300]);
    assert_eq!(budget.balance(), 10.0 - 2.0 - 1.0);
}

#[tokio::test(start_paused = true)]
async fn an_outer_layer_sees_only_the_last_attempt() {
    // Two of two failures open the outer circuit. Each call is a rejection or a timeout, and then a
    // failure.
    for refuses in [true, false] {
        let inside = CircuitBreakerLayer::new(CircuitBreakerConfig::new());
        inside.handle().force_open();
        let (service, starts) = backend(move |attempt| {
            let handle = inside.handle();
            async move {
                match (attempt % 2, refuses) {
                    (1, true) => handle.run(async { Ok::<_, Failure>(0) }).await,
                    (1, false) => Err(Error::Inner(Fault("late"))),
                    _ => FAILED,
                }
            }
        });
        let outside = CircuitBreakerLayer::new(CircuitBreakerConfig::new().consecutive_failures(2));
        let config = config().max_attempts(2).retry_refusals(true);
        let mut service =
            ServiceBuilder::new().layer(outside.clone()).layer(RetryLayer::new(config)).service(service);
        for _ in 0..2 {
            assert_eq!(service.ready().await.unwrap().call(7).await, FAILED);
        }
        assert_eq!(starts.count(), 4);
        assert_eq!(outside.handle().state(), State::Open, "refuses: {refuses}");
    }
}

// Budgets.

#[tokio::test(start_paused = true)]
async fn layers_that_share_a_budget_share_its_tokens() {
    let heard = Heard::default();
    let budget = two_tokens();
    let (service, starts) = failing(u32::MAX);
    let layers = [(); 2].map(|()| heard.by(layer().budget(budget.clone())));
    let [mut one, mut other] = layers.map(|layer| layer.layer(service.clone()));
    assert_eq!(one.ready().await.unwrap().call(7).await, FAILED);
    assert_eq!((starts.count(), budget.balance()), (3, 0.0));
    heard.take();
    assert_eq!(other.ready().await.unwrap().call(7).await, FAILED);
    assert_eq!(starts.count(), 4);
    assert_eq!(heard.take(), ["1 failure", "budget", "budget_spent after 1"]);
}

/// Envoy and others count retries that they do not make.
#[tokio::test(start_paused = true)]
async fn each_call_pays_in_once_and_each_repetition_pays_once() {
    let budget = Budget::new(BudgetConfig::new().ratio(0.25).per_second(0.0).cap(100.0));
    for _ in 0..100 {
        assert!(budget.withdraw());
    }
    let (service, starts) = failing(u32::MAX);
    let mut service = layer().budget(budget.clone()).layer(service);
    for _ in 0..400 {
        assert_eq!(service.ready().await.unwrap().call(7).await, FAILED);
    }
    assert_eq!(starts.count(), 400 + 100, "a quarter more");
    assert_eq!(budget.balance(), 0.0);
}

// Cancellation and panics.

#[tokio::test(start_paused = true)]
async fn a_call_dropped_at_any_stage_leaves_nothing_behind() {
    let alive = Arc::new(());
    for stage in [50, 150, 250, 350, 550] {
        let held = Arc::clone(&alive);
        let (service, starts) = backend(move |_| {
            let held = Arc::clone(&held);
            async move {
                sleep(100 * MS).await;
                drop(held);
                FAILED
            }
        });
        let limit = ConcurrencyLimitLayer::new(1);
        let service = ServiceBuilder::new().layer(layer()).layer(limit).service(service);
        let call = service.clone().oneshot(7);
        assert!(tokio::time::timeout(stage * MS, call).await.is_err(), "it takes 600 ms");
        let begun = starts.count();
        sleep(10 * SECOND).await;
        assert_eq!(starts.count(), begun, "no other attempt is made");
        // The permit is released.
        let mut service = service;
        assert!(tokio::time::timeout(MS, service.ready()).await.is_ok());
        drop(service);
        assert_eq!(Arc::strong_count(&alive), 1, "after {stage} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_at_a_later_attempt_is_passed_on_and_survived() {
    for in_call in [true, false] {
        let (service, starts) = backend(move |attempt| {
            assert!(!in_call || attempt != 2, "in call");
            async move {
                assert_ne!(attempt, 2, "in the future");
                if attempt == 1 { FAILED } else { Ok(attempt) }
            }
        });
        let service = RetryLayer::new(config().backoff(Backoff::constant(Duration::ZERO))).layer(service);
        let mut call = task::spawn(service.clone().oneshot(7));
        assert!(catch_unwind(AssertUnwindSafe(|| call.poll())).is_err());
        drop(call);
        assert_eq!(starts.count(), 2);
        assert_eq!(service.oneshot(7).await, Ok(3));
    }
}

// Bounds.

fn is_send<T: Send>(value: T) -> T {
    value
}

#[tokio::test(start_paused = true)]
async fn a_call_is_send_and_may_borrow_as_its_service_does() {
    let (service, _) = failing(1);
    let service = is_send(layer().layer(service));
    assert_eq!(tokio::spawn(is_send(service.oneshot(7))).await.unwrap(), Ok(2));

    /// An error that borrows.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Lost<'a>(&'a str);

    impl fmt::Display for Lost<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Lost<'_> {}

    let text = String::from(" a ");
    let failures = std::cell::Cell::new(1);
    let borrows = service_fn(|request: &str| {
        let left = failures.replace(0);
        let answer = if left == 0 { Ok(request.trim().len()) } else { Err(Error::Inner(Lost(&text))) };
        async move { answer }
    });
    let answer = layer().layer(borrows).oneshot(text.as_str()).await;
    assert_eq!(answer, Ok(1));

    let handle = layer().handle();
    let mut attempts = 0;
    let run = is_send(handle.run(|| {
        attempts += 1;
        async { Ok::<_, Error<Lost<'_>>>(text.len()) }
    }));
    assert_eq!(run.await, Ok(3));
    let run = is_send(handle.run_opaque(|| async { Err::<(), _>(text.as_str()) }));
    assert_eq!(run.await, Err(" a "));
}

/// For instance above a breaker whose open circuit has a `retry_after`.
#[tokio::test(start_paused = true)]
async fn a_rejected_call_that_is_tried_again_waits_for_as_long_as_the_rejection_says() {
    let breaker = stanchion::CircuitBreakerLayer::new(stanchion::CircuitBreakerConfig::new());
    breaker.handle().trip_for(2 * SECOND);
    let service = breaker.layer(service_fn(|_: u32| std::future::ready(Ok::<_, Error<Fault>>(()))));
    let config = RetryConfig::new().retry_refusals(true).backoff(Backoff::constant(MS));
    let start = tokio::time::Instant::now();
    RetryLayer::new(config).layer(service).oneshot(1).await.unwrap();
    assert!(start.elapsed() >= 2 * SECOND);
}
