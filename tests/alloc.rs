//! No call allocates: whatever its end, under every kind of window and rule, whoever listens.
//!
//! The allocator counts for each thread by itself, so the tests may run side by side.

#![allow(unsafe_code, reason = "there is no other way to write an allocator")]
#![allow(clippy::disallowed_methods, reason = "a test moves the clock")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

#[path = "support/fault.rs"]
mod fault;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::future::{Future, Ready, ready};
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::fault::Fault;
use stanchion::adaptive_limit::{Aimd, Algorithm, Gradient, Gradient2, Vegas};
use stanchion::circuit_breaker::{Permit, State};
use stanchion::classify::Class;
use stanchion::fallback::Failure;
use stanchion::hedge::HedgeDelay;
use stanchion::telemetry::{Event, LayerId};
use stanchion::{
    AdaptiveLimit, AdaptiveLimitConfig, AdaptiveLimitLayer, Budget, BudgetConfig, BulkheadConfig,
    BulkheadLayer, CircuitBreakerConfig, CircuitBreakerHandle, CircuitBreakerLayer, Error, FallbackLayer,
    HedgeConfig, HedgeLayer, PartitionConfig, RetryConfig, RetryLayer, StaleConfig, ThrottleConfig,
    ThrottleLayer, Window,
};
use tokio::time::advance;
use tower::{Layer, Service};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The system's allocator, which counts for each thread how often it is asked for memory.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every method passes its arguments on to the system's allocator as they are.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the same promise to us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the same promise to us.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the same promise to us.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the same promise to us.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The first calls of a thread allocate: what `arc-swap` and others keep for each thread is made then.
const WARM_UP: u64 = 5;
const CALLS: u64 = 200;
/// So that the calls of one measurement fall into many buckets.
const BETWEEN_CALLS: Duration = Duration::from_millis(30);
const SECOND: Duration = Duration::from_secs(1);

/// How often memory is asked for in [`CALLS`] calls, after a few to warm up.
async fn allocations(call: impl FnMut()) -> u64 {
    allocations_in(BETWEEN_CALLS, call).await
}

async fn allocations_in(between_calls: Duration, mut call: impl FnMut()) -> u64 {
    let mut sum = 0;
    for turn in 0..WARM_UP + CALLS {
        let before = ALLOCATIONS.get();
        call();
        if turn >= WARM_UP {
            sum += ALLOCATIONS.get() - before;
        }
        advance(between_calls).await;
    }
    sum
}

/// The service that is called: it ends as it is asked to. `None` does not end.
#[derive(Clone, Copy, Debug)]
struct Backend;

type Answer = Result<u32, Error<Fault>>;

impl Service<Option<bool>> for Backend {
    type Response = u32;
    type Error = Error<Fault>;
    type Future = Either;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, end: Option<bool>) -> Either {
        match end {
            Some(true) => Either::Ends(ready(Ok(1))),
            Some(false) => Either::Ends(ready(Err(Error::Inner(Fault("failed"))))),
            None => Either::Hangs,
        }
    }
}

#[derive(Debug)]
enum Either {
    Ends(Ready<Answer>),
    Hangs,
}

impl Future for Either {
    type Output = Answer;

    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        match &mut *self {
            Self::Ends(answer) => std::pin::Pin::new(answer).poll(cx),
            Self::Hangs => Poll::Pending,
        }
    }
}

/// One poll of a call from readiness to the drop of its future.
fn call<S>(service: &mut S, end: Option<bool>) -> Poll<Answer>
where
    S: Service<Option<bool>, Response = u32, Error = Error<Fault>>,
{
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(service.poll_ready(&mut cx), Poll::Ready(Ok(()))));
    pin!(service.call(end)).poll(&mut cx)
}

/// Every third call fails, far from any threshold.
fn mostly(turn: &Cell<u64>) -> bool {
    turn.set(turn.get() + 1);
    turn.get() % 3 != 0
}

/// Every kind of call through `layer`, with each of which it must not allocate.
async fn assert_no_call_allocates(rules: &str, layer: &CircuitBreakerLayer) {
    let handle = layer.handle();
    let mut service = layer.layer(Backend);
    let turn = Cell::new(0);
    let is_refused = |answer| matches!(answer, Poll::Ready(Err(Error::Rejected(_))));

    let none = |allocations: u64, kind: &str| {
        assert_eq!(allocations, 0, "allocations in {CALLS} calls: {kind}, {rules}");
    };
    none(allocations(|| assert!(call(&mut service, Some(true)).is_ready())).await, "success");
    none(allocations(|| assert!(call(&mut service, Some(mostly(&turn))).is_ready())).await, "some failures");
    none(allocations(|| assert!(call(&mut service, None).is_pending())).await, "cancelled");
    none(allocations(|| drop(service.clone())).await, "a clone");
    none(allocations(|| handle.try_acquire().unwrap().finish(Class::Success)).await, "success of a permit");
    none(
        allocations(|| {
            let class = if mostly(&turn) { Class::Success } else { Class::Failure };
            handle.try_acquire().unwrap().finish(class);
        })
        .await,
        "some failures of permits",
    );
    none(allocations(|| handle.try_acquire().unwrap().finish(Class::Ignored)).await, "ignored permit");
    none(allocations(|| drop(handle.try_acquire().unwrap())).await, "cancelled permit");
    let run =
        || pin!(handle.run(ready(Answer::Ok(1)))).poll(&mut Context::from_waker(Waker::noop())).is_ready();
    none(allocations(|| assert!(run())).await, "run");
    assert_eq!(handle.state(), State::Closed);

    handle.trip_for(3_600 * SECOND);
    none(allocations(|| assert!(is_refused(call(&mut service, Some(true))))).await, "refused, open");
    none(allocations(|| assert!(handle.try_acquire().is_err())).await, "refused permit, open");
    assert_eq!(handle.state(), State::Open);

    // All at one time, or the trial calls would be found slow.
    let _slots = every_slot(&handle);
    let refused = allocations_in(Duration::ZERO, || assert!(is_refused(call(&mut service, Some(true)))));
    none(refused.await, "refused, half-open");
    let refused = allocations_in(Duration::ZERO, || assert!(handle.try_acquire().is_err()));
    none(refused.await, "refused permit, half-open");
    assert_eq!(handle.state(), State::HalfOpen);

    handle.force_open();
    none(allocations(|| assert!(is_refused(call(&mut service, Some(true))))).await, "refused, forced open");
    handle.disable();
    none(allocations(|| assert!(call(&mut service, Some(false)).is_ready())).await, "disabled");
    handle.observe_only();
    none(allocations(|| assert!(call(&mut service, Some(mostly(&turn))).is_ready())).await, "only observed");
    handle.reset();
}

/// Lets trial calls through, and takes every slot.
fn every_slot(handle: &CircuitBreakerHandle) -> Vec<Permit> {
    assert!(handle.probe());
    std::iter::from_fn(|| handle.try_acquire().ok()).collect()
}

/// Each kind of window and rule.
async fn assert_no_rule_allocates(listen: impl Fn(CircuitBreakerLayer) -> CircuitBreakerLayer) {
    let config = CircuitBreakerConfig::new().failure_ratio(0.9).without_probe_timeout();
    let rules = [
        ("calls", config.clone().window(Window::calls(100))),
        ("time", config.clone().window(Window::time(SECOND))),
        ("time, slow calls", config.clone().window(Window::time(SECOND)).slow_after(SECOND)),
        (
            "calls, slow calls",
            config.clone().window(Window::calls(100)).slow_after(SECOND).slow_in_flight(false),
        ),
        ("failures in a row", config.without_failure_ratio().consecutive_failures(3)),
    ];
    for (rule, config) in rules {
        assert_no_call_allocates(rule, &listen(CircuitBreakerLayer::new(config))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_allocation_is_seen() {
    assert_eq!(allocations(|| drop(black_box(Box::new(1)))).await, CALLS);
    assert_eq!(allocations(|| drop(black_box(vec![0; 100]))).await, CALLS);
    assert_eq!(allocations(|| black_box(vec![1]).push(2)).await, 2 * CALLS);
}

#[tokio::test(start_paused = true)]
async fn no_call_allocates() {
    assert_no_rule_allocates(|layer| layer).await;
}

#[tokio::test(start_paused = true)]
async fn no_call_allocates_under_an_observer() {
    let heard = Arc::new(AtomicU64::new(0));
    assert_no_rule_allocates(|layer| {
        let heard = Arc::clone(&heard);
        layer.observer(move |_: &LayerId, _: &Event<'_>| {
            heard.fetch_add(1, Ordering::Relaxed);
        })
    })
    .await;
    assert!(heard.load(Ordering::Relaxed) > CALLS);
}

#[tokio::test(start_paused = true)]
async fn no_call_allocates_while_the_circuit_recovers() {
    let config = CircuitBreakerConfig::new().ramp(3_600 * SECOND).open_for(Duration::ZERO).probes(1);
    let handle = CircuitBreakerLayer::new(config).handle();
    handle.trip();
    handle.try_acquire().unwrap().finish(Class::Success);
    assert_eq!(handle.state(), State::Recovering);
    let (mut admitted, mut refused) = (0, 0);
    let made = allocations(|| match handle.try_acquire() {
        Ok(permit) => {
            admitted += 1;
            permit.finish(Class::Success);
        }
        Err(_) => refused += 1,
    })
    .await;
    assert!(admitted > 0 && refused > 0);
    assert_eq!(made, 0);
}

#[tokio::test(start_paused = true)]
async fn no_throttled_call_allocates() {
    let layer = ThrottleLayer::new(ThrottleConfig::new()).observer(|_: &LayerId, _: &Event<'_>| {});
    let mut service = layer.layer(Backend);
    let none = |allocations: u64, kind: &str| assert_eq!(allocations, 0, "{kind}");
    none(allocations(|| assert!(call(&mut service, Some(true)).is_ready())).await, "success");
    none(allocations(|| assert!(call(&mut service, None).is_pending())).await, "cancelled");
    none(allocations(|| drop(service.clone())).await, "a clone");
    let mut refused = 0;
    let failing = allocations(|| {
        let end = call(&mut service, Some(false));
        refused += u64::from(matches!(end, Poll::Ready(Err(Error::Rejected(_)))));
    });
    none(failing.await, "failures and refusals");
    assert!((1..CALLS).contains(&refused), "{refused}");
}

/// Every kind of call of a service with a fallback.
async fn assert_no_fallback_allocates<S>(fallback: &str, mut service: S)
where
    S: Service<Option<bool>, Response = u32, Error = Error<Fault>> + Clone,
{
    let none = |allocations: u64, kind: &str| {
        assert_eq!(allocations, 0, "allocations in {CALLS} calls: {kind}, {fallback}");
    };
    none(allocations(|| assert!(call(&mut service, Some(true)).is_ready())).await, "success");
    none(allocations(|| assert!(call(&mut service, Some(false)).is_ready())).await, "failure");
    none(allocations(|| assert!(call(&mut service, None).is_pending())).await, "cancelled");
    none(allocations(|| drop(service.clone())).await, "a clone");
}

#[tokio::test(start_paused = true)]
async fn no_call_with_a_fallback_allocates() {
    let key = |_: &Option<bool>| Some(1);
    let with = |(), _: &Failure<u32, Error<Fault>>| None;
    let by = |answer: Result<u32, ()>| tower::service_fn(move |()| ready(answer));
    assert_no_fallback_allocates("a value", FallbackLayer::value(7).layer(Backend)).await;
    assert_no_fallback_allocates("a function", FallbackLayer::with(with).layer(Backend)).await;
    let service = FallbackLayer::service(by(Ok(7)));
    assert_no_fallback_allocates("a service", service.layer(Backend)).await;
    let service = FallbackLayer::service(by(Err(())));
    assert_no_fallback_allocates("a service that fails", service.layer(Backend)).await;
    let service = FallbackLayer::service(Busy).ready_within(Duration::ZERO);
    assert_no_fallback_allocates("a service that is not waited for", service.layer(Backend)).await;
    let last = FallbackLayer::stale(StaleConfig::new(), key);
    assert_no_fallback_allocates("the last answer", last.layer(Backend)).await;
    let listens = |_: &LayerId, _: &Event<'_>| {};
    let observed = FallbackLayer::stale(StaleConfig::new(), key).observer(listens);
    assert_no_fallback_allocates("the last answer, observed", observed.layer(Backend)).await;
}

/// Every kind of call of a service behind a bulkhead, with room and without.
async fn assert_no_bulkhead_allocates<W>(kind: &str, layer: &BulkheadLayer<W>)
where
    stanchion::Bulkhead<Backend, W>: Service<Option<bool>, Response = u32, Error = Error<Fault>> + Clone,
{
    let none = |allocations: u64, call: &str| {
        assert_eq!(allocations, 0, "allocations in {CALLS} calls: {call}, {kind}");
    };
    let (handle, mut service) = (layer.handle(), layer.layer(Backend));
    none(allocations(|| assert!(call(&mut service, Some(true)).is_ready())).await, "success");
    none(allocations(|| assert!(call(&mut service, Some(false)).is_ready())).await, "failure");
    none(allocations(|| assert!(call(&mut service, None).is_pending())).await, "cancelled");
    none(allocations(|| drop(service.clone())).await, "a clone");
    none(allocations(|| drop(handle.try_acquire().unwrap())).await, "a permit");
    let _full: Vec<_> = std::iter::from_fn(|| handle.try_acquire().ok()).collect();
    none(allocations(|| assert!(handle.try_acquire().is_err())).await, "a refused permit");
    if kind != "backpressure" {
        let is_refused = |answer| matches!(answer, Poll::Ready(Err(Error::Rejected(_))));
        none(allocations(|| assert!(is_refused(call(&mut service, Some(true))))).await, "refused");
    }
}

#[tokio::test(start_paused = true)]
async fn no_call_behind_a_bulkhead_allocates() {
    let config = BulkheadConfig::new().max_in_flight(2);
    assert_no_bulkhead_allocates("refuses", &BulkheadLayer::new(config.clone())).await;
    assert_no_bulkhead_allocates("backpressure", &BulkheadLayer::backpressure(config.clone())).await;
    assert_no_bulkhead_allocates("waits", &BulkheadLayer::waiting(config.clone())).await;
    let parted = config.clone().partitions([PartitionConfig::new("batch", 0.5).lends(1.0)]);
    assert_no_bulkhead_allocates("partitions", &BulkheadLayer::new(parted)).await;
    let observed = BulkheadLayer::new(config).observer(|_: &LayerId, _: &Event<'_>| {});
    assert_no_bulkhead_allocates("observed", &observed).await;
}

/// Every kind of call of a service behind a limit that is found anew by each call or by one of fifty.
async fn assert_no_limit_allocates<A, W>(kind: &str, layer: &AdaptiveLimitLayer<A, W>)
where
    A: Algorithm + Clone + PartialEq + Sync,
    AdaptiveLimit<Backend, A, W>: Service<Option<bool>, Response = u32, Error = Error<Fault>> + Clone,
{
    let none = |allocations: u64, call: &str| {
        assert_eq!(allocations, 0, "allocations in {CALLS} calls: {call}, {kind}, {layer:?}");
    };
    let (handle, mut service) = (layer.handle(), layer.layer(Backend));
    none(allocations(|| assert!(call(&mut service, Some(true)).is_ready())).await, "success");
    none(allocations(|| assert!(call(&mut service, Some(false)).is_ready())).await, "failure");
    none(allocations(|| assert!(call(&mut service, None).is_pending())).await, "cancelled");
    none(allocations(|| drop(service.clone())).await, "a clone");
    none(allocations(|| handle.try_acquire().unwrap().finish(Class::Success)).await, "a permit");
    none(allocations(|| drop(handle.try_acquire().unwrap())).await, "a permit that is dropped");
    let limit = handle.snapshot().max_in_flight;
    assert!(limit < 1_000, "nothing was learned: {limit}");
    let _full: Vec<_> = std::iter::from_fn(|| handle.try_acquire().ok()).collect();
    none(allocations(|| assert!(handle.try_acquire().is_err())).await, "a refused permit");
    if kind != "backpressure" {
        let is_refused = |answer| matches!(answer, Poll::Ready(Err(Error::Rejected(_))));
        none(allocations(|| assert!(is_refused(call(&mut service, Some(true))))).await, "refused");
    }
}

#[tokio::test(start_paused = true)]
async fn no_call_behind_an_adaptive_limit_allocates_also_not_the_last_one_of_a_window() {
    async fn check<A: Algorithm + Clone + PartialEq + Sync>(algorithm: A) {
        let usual = AdaptiveLimitConfig::new().initial_limit(1_000).algorithm(algorithm);
        let each_call = usual.clone().window(Duration::from_millis(10)).min_calls(1);
        for config in [usual, each_call] {
            assert_no_limit_allocates("refuses", &AdaptiveLimitLayer::new(config.clone())).await;
            assert_no_limit_allocates("backpressure", &AdaptiveLimitLayer::backpressure(config.clone()))
                .await;
            assert_no_limit_allocates("waits", &AdaptiveLimitLayer::waiting(config.clone())).await;
            let parted = config.clone().partitions([PartitionConfig::new("batch", 0.5).lends(1.0)]);
            assert_no_limit_allocates("partitions", &AdaptiveLimitLayer::new(parted)).await;
            let heard = Arc::new(AtomicU64::new(0));
            let hears = Arc::clone(&heard);
            let observed = AdaptiveLimitLayer::new(config).observer(move |_: &LayerId, _: &Event<'_>| {
                hears.fetch_add(1, Ordering::Relaxed);
            });
            assert_no_limit_allocates("observed", &observed).await;
            assert!(heard.load(Ordering::Relaxed) > CALLS);
        }
    }
    check(Gradient::new()).await;
    check(Aimd::new()).await;
    check(Vegas::new()).await;
    check(Gradient2::new()).await;
}

/// A service that is never ready.
#[derive(Clone)]
struct Busy;

impl Service<()> for Busy {
    type Response = u32;
    type Error = ();
    type Future = Ready<Result<u32, ()>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Pending
    }

    fn call(&mut self, (): ()) -> Self::Future {
        panic!("it is not ready")
    }
}

/// While there is room, the store grows. It stays as large as that.
#[tokio::test(start_paused = true)]
async fn an_answer_for_a_new_key_allocates_only_until_the_store_is_full() {
    let next = Cell::new(0_u32);
    let key = move |_: &Option<bool>| {
        next.set(next.get() + 1);
        Some(next.get())
    };
    let layer = FallbackLayer::stale(StaleConfig::new().max_keys(100), key);
    let mut service = layer.layer(Backend);
    let mut good = || assert!(call(&mut service, Some(true)).is_ready());
    assert!(allocations_in(Duration::ZERO, &mut good).await > 0);
    for _ in 0..10 {
        allocations_in(Duration::ZERO, &mut good).await;
    }
    assert_eq!(layer.handle().len(), 100);
    assert_eq!(allocations_in(Duration::ZERO, &mut good).await, 0);
}

/// Whatever its end, unless there is another attempt.
#[tokio::test(start_paused = true)]
async fn no_call_allocates_that_is_not_repeated() {
    let heard = Arc::new(AtomicU64::new(0));
    for is_observed in [false, true] {
        let breaker = CircuitBreakerLayer::new(CircuitBreakerConfig::new());
        breaker.handle().force_open();
        let spent = Budget::new(BudgetConfig::new().ratio(0.0).per_second(0.0).cap(2.0));
        assert!(spent.withdraw() && spent.withdraw());
        let layer = RetryLayer::new(RetryConfig::new()).budget(spent);
        let seen = Arc::clone(&heard);
        let layer = if is_observed {
            layer.observer(move |_: &LayerId, _: &Event<'_>| {
                seen.fetch_add(1, Ordering::Relaxed);
            })
        } else {
            layer
        };
        let (mut service, mut refused) = (layer.layer(Backend), layer.layer(breaker.layer(Backend)));
        let handle = layer.handle();
        let run = |end| {
            let mut run = pin!(handle.run(|| Backend.call(end)));
            run.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        };
        let none = |allocations: u64, kind: &str| {
            assert_eq!(allocations, 0, "allocations in {CALLS} calls: {kind}, observed: {is_observed}");
        };
        none(allocations(|| assert!(call(&mut service, Some(true)).is_ready())).await, "success");
        none(allocations(|| assert!(call(&mut service, Some(false)).is_ready())).await, "budget spent");
        none(allocations(|| assert!(call(&mut service, None).is_pending())).await, "cancelled");
        none(allocations(|| assert!(call(&mut refused, Some(true)).is_ready())).await, "refused inside");
        none(allocations(|| drop(service.clone())).await, "a clone");
        none(allocations(|| assert!(run(Some(true)).is_ready())).await, "run");
        none(allocations(|| assert!(run(Some(false)).is_ready())).await, "run, budget spent");
    }
    assert!(heard.load(Ordering::Relaxed) > 4 * CALLS);
}

/// Also not if it was late, or failed, and there was no budget for a copy.
#[tokio::test(start_paused = true)]
async fn no_call_allocates_that_is_not_hedged() {
    let fixed = HedgeConfig::new().delay(HedgeDelay::Fixed(SECOND));
    let known = HedgeConfig::new().min_samples(1);
    for config in [HedgeConfig::new(), fixed, known] {
        let spent = Budget::new(BudgetConfig::new().ratio(0.0).per_second(0.0).cap(2.0));
        assert!(spent.withdraw() && spent.withdraw());
        let mut service = HedgeLayer::new(config.clone()).budget(spent).layer(Backend);
        let none = |allocations: u64, kind: &str| {
            assert_eq!(allocations, 0, "allocations in {CALLS} calls: {kind}, {config:?}");
        };
        none(allocations(|| assert!(call(&mut service, Some(true)).is_ready())).await, "success");
        none(allocations(|| assert!(call(&mut service, Some(false)).is_ready())).await, "failure");
        none(allocations(|| assert!(call(&mut service, None).is_pending())).await, "cancelled");
        none(allocations(|| drop(service.clone())).await, "a clone");
        for turn in 0..WARM_UP + CALLS {
            let mut late = pin!(service.call(None));
            let mut cx = Context::from_waker(Waker::noop());
            let before = ALLOCATIONS.get();
            assert!(late.as_mut().poll(&mut cx).is_pending());
            let armed = ALLOCATIONS.get() - before;
            advance(2 * SECOND).await;
            let before = ALLOCATIONS.get();
            assert!(late.as_mut().poll(&mut cx).is_pending());
            let fired = ALLOCATIONS.get() - before;
            assert!(turn < WARM_UP || armed + fired == 0, "armed: {armed}, fired: {fired}, {config:?}");
        }
    }
}

#[cfg(feature = "metrics")]
mod with_metrics {
    use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit};
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    /// A recorder that does as little as one can.
    #[derive(Debug, Default)]
    struct Sums {
        counts: Arc<AtomicU64>,
        durations: Arc<Durations>,
    }

    #[derive(Debug, Default)]
    struct Durations(AtomicU64);

    impl HistogramFn for Durations {
        fn record(&self, _: f64) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl metrics::Recorder for Sums {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::from_arc(Arc::clone(&self.counts))
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::from_arc(Arc::clone(&self.durations))
        }
    }

    /// The layer's handles are taken from `recorder`, and stay its.
    fn under(recorder: &dyn metrics::Recorder, layer: CircuitBreakerLayer) -> CircuitBreakerLayer {
        metrics::with_local_recorder(recorder, || layer.handle());
        layer
    }

    #[tokio::test(start_paused = true)]
    async fn no_call_allocates_under_a_recorder() {
        let sums = Sums::default();
        assert_no_rule_allocates(|layer| under(&sums, layer)).await;
        assert!(sums.counts.load(Ordering::Relaxed) > CALLS);
        assert!(sums.durations.0.load(Ordering::Relaxed) > CALLS);
    }

    #[tokio::test(start_paused = true)]
    async fn no_call_behind_an_adaptive_limit_allocates_under_the_prometheus_exporter() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let config = AdaptiveLimitConfig::new().initial_limit(1_000).window(Duration::from_millis(10));
        let layer = AdaptiveLimitLayer::new(config.min_calls(1));
        metrics::with_local_recorder(&recorder, || layer.handle());
        assert_no_limit_allocates("metrics", &layer).await;
        let rejections = "stanchion_adaptive_limit_rejections_total";
        assert!(recorder.handle().render().contains(rejections));
    }

    /// The exporter keeps durations in blocks, and allocates one from time to time. That is all there is.
    #[tokio::test(start_paused = true)]
    async fn no_call_allocates_under_the_prometheus_exporter_but_in_the_exporter() {
        let recorder = PrometheusBuilder::new().set_buckets(&[0.1, 1.0]).unwrap().build_recorder();
        let durations =
            metrics::with_local_recorder(&recorder, || metrics::histogram!("direct", "outcome" => "success"));
        let by_itself = allocations(|| durations.record(0.5)).await;
        let layer = under(&recorder, CircuitBreakerLayer::new(CircuitBreakerConfig::new()));
        let (handle, mut service) = (layer.handle(), layer.layer(Backend));
        let success = allocations(|| assert!(call(&mut service, Some(true)).is_ready())).await;
        assert_eq!(success, by_itself);
        let cancelled = allocations(|| assert!(call(&mut service, None).is_pending())).await;
        assert_eq!(cancelled, 0);
        handle.force_open();
        let refused = allocations(|| assert!(call(&mut service, Some(true)).is_ready())).await;
        assert_eq!(refused, 0);
        assert!(recorder.handle().render().contains("stanchion_circuit_breaker_rejections_total"));
    }
}

#[cfg(feature = "http")]
#[tokio::test(start_paused = true)]
async fn no_call_allocates_whose_permit_is_in_the_body() {
    use http::{Response, StatusCode};
    use http_body::Body;
    use http_body_util::Full;
    use stanchion::http::Http;

    let config = CircuitBreakerConfig::new().without_failure_ratio().consecutive_failures(u32::MAX);
    let layer = CircuitBreakerLayer::new(config).protocol(Http::new());
    let mut service = layer.layer(tower::service_fn(|status: StatusCode| {
        let mut response = Response::new(Full::new(&b"hello"[..]));
        *response.status_mut() = status;
        ready(Ok::<_, Error<Fault>>(response))
    }));
    for status in [StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::INTERNAL_SERVER_ERROR] {
        for is_read in [true, false] {
            let made = allocations(|| {
                let mut cx = Context::from_waker(Waker::noop());
                assert!(service.poll_ready(&mut cx).is_ready());
                let Poll::Ready(Ok(response)) = pin!(service.call(status)).poll(&mut cx) else {
                    panic!("no response")
                };
                if is_read {
                    assert!(matches!(
                        pin!(response.into_body()).poll_frame(&mut cx),
                        Poll::Ready(Some(Ok(_)))
                    ));
                }
            });
            assert_eq!(made.await, 0, "{status}, read: {is_read}");
        }
    }
}

#[cfg(feature = "http")]
mod replay {
    use std::convert::Infallible;
    use std::pin::Pin;

    use bytes::Bytes;
    use http_body::{Body, Frame};
    use http_body_util::{Empty, Full};
    use stanchion::http::replay_body::ReplayBody;

    use super::{ALLOCATIONS, Context, Poll, Waker, black_box, pin};

    /// Reads all frames, and says how often something was allocated meanwhile.
    fn read<B: Body<Data = Bytes>>(body: B) -> u64 {
        let before = ALLOCATIONS.get();
        let mut body = pin!(body);
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut cx) {
            black_box(frame.is_ok());
        }
        ALLOCATIONS.get() - before
    }

    #[test]
    fn an_empty_body_is_sent_and_sent_again_without_an_allocation() {
        let before = ALLOCATIONS.get();
        let (first, replay) = ReplayBody::new(Empty::<Bytes>::new(), 65_536);
        read(first);
        read(replay.replay().unwrap());
        assert_eq!(ALLOCATIONS.get() - before, 0);
    }

    #[test]
    fn a_body_that_announces_too_much_passes_without_an_allocation() {
        let long = Bytes::from_static(&[1; 10_000]);
        let before = ALLOCATIONS.get();
        let (first, replay) = ReplayBody::new(Full::new(long), 9_999);
        read(first);
        assert!(replay.replay().is_none());
        assert_eq!(ALLOCATIONS.get() - before, 0);
    }

    /// Yields its bytes one by one.
    #[derive(Debug)]
    struct Singly(Bytes);

    impl Body for Singly {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let has_more = !self.0.is_empty();
            Poll::Ready(has_more.then(|| Ok(Frame::data(self.0.split_to(1)))))
        }
    }

    #[test]
    fn a_body_of_single_bytes_is_kept_in_few_allocations_and_read_again_in_none() {
        let (first, replay) = ReplayBody::new(Singly(Bytes::from_static(&[1; 65_536])), 65_536);
        let made = read(first);
        assert!(made < 25, "{made} allocations");
        // The first to share it makes its count of owners.
        assert!(read(replay.replay().unwrap()) <= 1);
        assert_eq!(read(replay.replay().unwrap()), 0);
    }
}

mod timeout {
    use stanchion::protocol::{BodyTimer, RequestContext, WrapBody};
    use stanchion::timeout::{Limit, MinRemaining};
    use stanchion::{Deadline, Reason, TimeoutConfig, TimeoutLayer};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Whatever is requested, it should have been answered when the test began.
    #[derive(Clone, Copy, Debug)]
    struct TooLate(Deadline);

    impl<Req> RequestContext<Req> for TooLate {
        fn deadline(&self, _: &Req) -> Option<Deadline> {
            Some(self.0)
        }
    }

    impl<Res> WrapBody<Res> for TooLate {
        type Wrapped = Res;

        fn wrap_body(&self, answer: Res, _: Option<BodyTimer>) -> Res {
            answer
        }
    }

    fn rejected(answer: &Poll<Answer>) -> Option<Reason> {
        match answer {
            Poll::Ready(Err(Error::Rejected(rejected))) => Some(rejected.reason()),
            _ => None,
        }
    }

    async fn assert_nothing_allocates(layer: TimeoutLayer) {
        let (handle, mut service) = (layer.handle(), layer.layer(Backend));
        assert_eq!(allocations(|| assert!(call(&mut service, Some(true)).is_ready())).await, 0, "success");
        assert_eq!(allocations(|| assert!(call(&mut service, Some(false)).is_ready())).await, 0, "failure");
        assert_eq!(
            allocations(|| assert!(call(&mut service, None).is_pending())).await,
            0,
            "armed, cancelled"
        );
        assert_eq!(allocations(|| drop(service.clone())).await, 0, "a clone");
        let run = || pin!(handle.run(ready(Answer::Ok(1)))).poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(allocations(|| assert!(run().is_ready())).await, 0, "run");

        // Each turn ends the call of the turn before, and begins one.
        let mut under_way = pin!(None);
        let mut given_up = 0;
        let made = allocations_in(SECOND, || {
            let mut cx = Context::from_waker(Waker::noop());
            if let Some(call) = under_way.as_mut().as_pin_mut() {
                assert_eq!(rejected(&Future::poll(call, &mut cx)), Some(Reason::TotalTimeout));
                given_up += 1;
            }
            assert!(service.poll_ready(&mut cx).is_ready());
            under_way.set(Some(service.call(None)));
            assert!(under_way.as_mut().as_pin_mut().unwrap().poll(&mut cx).is_pending());
        });
        assert_eq!(made.await, 0, "given up");
        assert_eq!(given_up, WARM_UP + CALLS - 1);

        let mut refusing = layer.protocol(TooLate(Deadline::after(Duration::ZERO))).layer(Backend);
        let made = allocations(|| {
            assert_eq!(rejected(&call(&mut refusing, Some(true))), Some(Reason::DeadlineExceeded));
        });
        assert_eq!(made.await, 0, "refused");
    }

    #[tokio::test(start_paused = true)]
    async fn no_limited_call_allocates() {
        assert_nothing_allocates(TimeoutLayer::after(SECOND)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn no_limited_call_allocates_under_an_observer() {
        let heard = Arc::new(AtomicU64::new(0));
        let events = Arc::clone(&heard);
        let layer = TimeoutLayer::after(SECOND).observer(move |_: &LayerId, _: &Event<'_>| {
            events.fetch_add(1, Ordering::Relaxed);
        });
        assert_nothing_allocates(layer).await;
        assert!(heard.load(Ordering::Relaxed) > CALLS);
    }

    /// But for what is kept for each power of two into which a latency has ever fallen.
    #[tokio::test(start_paused = true)]
    async fn no_measured_call_allocates() {
        let limit = Limit::Adaptive { quantile: 0.99, factor: 2.0, min: MS, max: SECOND };
        let config = TimeoutConfig::new().limit(limit).min_remaining(MinRemaining::Measured(0.5));
        assert_nothing_allocates(TimeoutLayer::new(config)).await;
    }

    /// What `http` keeps extensions in, once, and nothing in the layers further in.
    #[cfg(feature = "http")]
    #[tokio::test(start_paused = true)]
    async fn the_deadline_in_a_request_is_put_there_once() {
        use http::Request;
        use stanchion::http::Http;

        let backend = tower::service_fn(|_: Request<()>| {
            ready(Ok::<_, Error<Fault>>(http::Response::new(http_body_util::Empty::<bytes::Bytes>::new())))
        });
        let layer = |limit| TimeoutLayer::after(limit).protocol(Http::new());
        let mut one = layer(SECOND).layer(backend);
        let mut three = layer(3 * SECOND).layer(layer(2 * SECOND).layer(layer(SECOND).layer(backend)));
        let mut cx = Context::from_waker(Waker::noop());
        let by_one = allocations(|| {
            assert!(one.poll_ready(&mut cx).is_ready());
            assert!(pin!(one.call(Request::new(()))).poll(&mut cx).is_ready());
        });
        let by_one = by_one.await;
        let by_three = allocations(|| {
            assert!(three.poll_ready(&mut cx).is_ready());
            assert!(pin!(three.call(Request::new(()))).poll(&mut cx).is_ready());
        });
        assert_eq!(by_three.await, by_one);
        assert!(by_one <= 3 * CALLS, "{by_one}");
    }

    /// A timer, once it stalls, and no other however often it does so again.
    #[cfg(feature = "http")]
    #[tokio::test(start_paused = true)]
    async fn a_limited_body_allocates_once_it_stalls() {
        use std::convert::Infallible;

        use bytes::Bytes;
        use http::{Request, Response};
        use http_body::{Body, Frame};
        use stanchion::http::Http;
        use stanchion::timeout::Covers;

        /// Ready at every second poll.
        #[derive(Debug)]
        struct Stalls(bool);

        impl Body for Stalls {
            type Data = Bytes;
            type Error = Infallible;

            fn poll_frame(
                mut self: std::pin::Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
                self.0 = !self.0;
                if self.0 { Poll::Ready(Some(Ok(Frame::data(Bytes::new())))) } else { Poll::Pending }
            }
        }

        let config = TimeoutConfig::new().limit(Limit::Deadline).covers(Covers::Body).idle(SECOND);
        let mut service =
            TimeoutLayer::new(config).protocol(Http::new()).layer(tower::service_fn(|_: Request<()>| {
                ready(Ok::<_, Error<Fault>>(Response::new(Stalls(false))))
            }));
        for (polls, expected) in [(1, 0), (2, 1), (20, 1)] {
            let made = allocations(|| {
                let mut cx = Context::from_waker(Waker::noop());
                assert!(service.poll_ready(&mut cx).is_ready());
                let Poll::Ready(Ok(response)) = pin!(service.call(Request::new(()))).poll(&mut cx) else {
                    panic!("no response")
                };
                let mut body = pin!(response.into_body());
                for _ in 0..polls {
                    assert!(!matches!(body.as_mut().poll_frame(&mut cx), Poll::Ready(Some(Err(_)))));
                }
            });
            assert_eq!(made.await, expected * CALLS, "{polls} polls");
        }
    }
}

mod rate_limits {
    use stanchion::protocol::RequestContext;
    use stanchion::rate_limit::{KeyExtractor, Quota, RequestCost};
    use stanchion::{Deadline, RateLimitConfig, RateLimitLayer, Reason};

    use super::*;

    type Ask = Option<bool>;

    /// Two calls per second, while there are more; the first ones need none of the time that is waited for.
    fn config() -> RateLimitConfig {
        RateLimitConfig::new(Quota::per_second(1_000))
    }

    async fn assert_nothing_allocates<K, C>(layer: RateLimitLayer<K, C>)
    where
        K: KeyExtractor<Ask> + Clone,
        C: RequestCost<Ask> + Clone,
    {
        let handle = layer.handle();
        let mut service = layer.layer(Backend);
        assert_eq!(allocations(|| assert!(call(&mut service, Some(true)).is_ready())).await, 0, "admitted");
        assert_eq!(allocations(|| drop(service.clone())).await, 0, "a clone");
        assert_eq!(allocations(|| assert!(handle.try_take_for(&7, 1).is_ok())).await, 0, "by hand");
        handle.reconfigure(Quota::per_minute(1).burst(1)).unwrap();
        let _ = call(&mut service, Some(true));
        let refused = allocations_in(Duration::ZERO, || {
            let Poll::Ready(Err(Error::Rejected(rejected))) = call(&mut service, Some(true)) else {
                panic!("it was not refused")
            };
            assert_eq!(rejected.reason(), Reason::RateLimited);
        });
        assert_eq!(refused.await, 0, "refused");
    }

    #[tokio::test(start_paused = true)]
    async fn no_call_allocates() {
        assert_nothing_allocates(RateLimitLayer::new(config())).await;
        assert_nothing_allocates(RateLimitLayer::new(config()).cost(|_: &Ask| 2)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn no_call_of_a_known_key_allocates() {
        assert_nothing_allocates(RateLimitLayer::keyed(config(), |_: &Ask| Some(7))).await;
    }

    /// Every call is due at once.
    #[derive(Clone, Debug)]
    struct Due(Deadline);

    impl RequestContext<Ask> for Due {
        fn deadline(&self, _: &Ask) -> Option<Deadline> {
            Some(self.0)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_call_that_has_no_time_to_wait_allocates() {
        let layer = RateLimitLayer::new(Quota::per_second(10).burst(1)).waits();
        let mut service = layer.protocol(Due(Deadline::after(Duration::ZERO))).layer(Backend);
        assert!(call(&mut service, Some(true)).is_ready());
        let refused = allocations_in(Duration::ZERO, || {
            let Poll::Ready(Err(Error::Rejected(rejected))) = call(&mut service, Some(true)) else {
                panic!("it was not refused")
            };
            assert_eq!(rejected.reason(), Reason::DeadlineExceeded);
        });
        assert_eq!(refused.await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn no_call_that_waits_allocates() {
        let quota = Quota::per_second(10).burst(1);
        let mut service = RateLimitLayer::new(RateLimitConfig::new(quota)).waits().layer(Backend);
        assert!(call(&mut service, Some(true)).is_ready());
        let mut under_way = pin!(None);
        let made = allocations_in(Duration::from_millis(100), || {
            let mut cx = Context::from_waker(Waker::noop());
            if let Some(call) = under_way.as_mut().as_pin_mut() {
                assert!(Future::poll(call, &mut cx).is_ready());
            }
            assert!(service.poll_ready(&mut cx).is_ready());
            under_way.set(Some(service.call(Some(true))));
            assert!(under_way.as_mut().as_pin_mut().unwrap().poll(&mut cx).is_pending());
        });
        assert_eq!(made.await, 0);
    }
}
