//! Every layer around and inside of every other, and of tower's own: a service is called only when it was ready, nothing is
//! held by what was abandoned, and a good call stays a good call.

#![allow(clippy::disallowed_methods, reason = "time is paused")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

use std::future::{Future, pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use stanchion::circuit_breaker::Readiness;
use stanchion::hedge::HedgeDelay;
use stanchion::rate_limit::Quota;
use stanchion::timeout::Limit;
use stanchion::{
    AdaptiveLimitConfig, AdaptiveLimitLayer, Backoff, BulkheadConfig, BulkheadLayer, CircuitBreakerConfig,
    CircuitBreakerLayer, FallbackLayer, HedgeConfig, HedgeLayer, RateLimitConfig, RateLimitLayer,
    RetryConfig, RetryLayer, StaleConfig, ThrottleConfig, ThrottleLayer, TimeoutConfig, TimeoutLayer,
};
use tokio_test::task;
use tower::balance::p2c::Balance;
use tower::buffer::BufferLayer;
use tower::discover::ServiceList;
use tower::limit::ConcurrencyLimitLayer;
use tower::load::Constant;
use tower::load_shed::LoadShedLayer;
use tower::steer::Steer;
use tower::util::{BoxCloneSyncService, option_layer};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

const MINUTE: Duration = Duration::from_secs(60);
const MS: Duration = Duration::from_millis(1);

type Erased = BoxCloneSyncService<Ask, u32, BoxError>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Ask {
    Answer(u32),
    Fail,
    Hang,
}

#[derive(Debug, Default)]
struct Book {
    in_flight: AtomicU32,
    /// Calls of an instance that had not said that it is ready.
    unready: AtomicU32,
}

/// A service that takes note of calls for which it was not ready. If it `hesitates`, it is so only when it is asked for the
/// second time.
struct Strict {
    book: Arc<Book>,
    hesitates: bool,
    asked: u32,
    is_ready: bool,
}

impl Strict {
    fn new(book: &Arc<Book>, hesitates: bool) -> Self {
        Self { book: Arc::clone(book), hesitates, asked: 0, is_ready: false }
    }
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self::new(&self.book, self.hesitates)
    }
}

struct Entry(Arc<Book>);

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Service<Ask> for Strict {
    type Response = u32;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<u32, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.asked += 1;
        if self.hesitates && !self.is_ready && self.asked % 2 == 1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.is_ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ask: Ask) -> Self::Future {
        if !std::mem::take(&mut self.is_ready) {
            self.book.unready.fetch_add(1, Ordering::SeqCst);
        }
        self.book.in_flight.fetch_add(1, Ordering::SeqCst);
        let entry = Entry(Arc::clone(&self.book));
        Box::pin(async move {
            let _entry = entry;
            match ask {
                Ask::Answer(answer) => Ok(answer),
                Ask::Fail => Err("broken".into()),
                Ask::Hang => pending().await,
            }
        })
    }
}

/// A layer, and a change of its configuration that changes nothing.
#[derive(Clone)]
struct Kit {
    name: &'static str,
    wrap: Arc<dyn Fn(Erased) -> Erased + Send + Sync>,
    reconfigure: Arc<dyn Fn() + Send + Sync>,
}

fn kit<L, S>(name: &'static str, layer: L, reconfigure: impl Fn() + Send + Sync + 'static) -> Kit
where
    L: Layer<Erased, Service = S> + Send + Sync + 'static,
    S: Service<Ask, Response = u32, Error = BoxError, Future: Send + 'static> + Clone + Send + Sync + 'static,
{
    let wrap = move |inner| BoxCloneSyncService::new(layer.layer(inner));
    Kit { name, wrap: Arc::new(wrap), reconfigure: Arc::new(reconfigure) }
}

macro_rules! kit {
    ($name:literal, $layer:expr, $config:expr) => {{
        let (layer, config) = ($layer, $config);
        let handle = layer.handle();
        kit($name, layer, move || handle.reconfigure(config.clone()).unwrap())
    }};
}

/// The layers of this crate, each with a state of its own.
fn ours() -> Vec<Kit> {
    let breaker = CircuitBreakerConfig::new().min_calls(1_000);
    let total = TimeoutConfig::new().limit(Limit::Fixed(10 * MINUTE));
    let readiness = total.clone().includes_readiness(true);
    let retry = RetryConfig::new().max_attempts(2).backoff(Backoff::constant(MS));
    let hedge = HedgeConfig::new().delay(HedgeDelay::Fixed(MINUTE));
    let throttle = ThrottleConfig::new().min_requests(1_000);
    let quota = RateLimitConfig::new(Quota::per_second(1_000));
    let bulkhead = BulkheadConfig::new().max_in_flight(2);
    let queue = bulkhead.clone().max_queued(2);
    let adaptive = AdaptiveLimitConfig::new().initial_limit(2).min_limit(2);
    let replica = service_fn(|_: Ask| ready(Err::<u32, BoxError>("broken as well".into())));
    let keyed = |ask: &Ask| Some(*ask);
    vec![
        kit!("breaker", CircuitBreakerLayer::new(breaker.clone()), breaker.clone()),
        kit!(
            "pending breaker",
            CircuitBreakerLayer::new(breaker.clone()).readiness(Readiness::Pending),
            breaker
        ),
        kit!("timeout", TimeoutLayer::new(total.clone()), total),
        kit!("timeout with readiness", TimeoutLayer::new(readiness.clone()), readiness),
        kit!("retry", RetryLayer::new(retry.clone()), retry),
        kit!("hedge", HedgeLayer::new(hedge.clone()), hedge),
        kit(
            "fallback to nothing",
            FallbackLayer::with(|(), _: &stanchion::fallback::Failure<u32, BoxError>| None),
            || {},
        ),
        kit("fallback to a service", FallbackLayer::service(replica).keep(|ask: &Ask| *ask), || {}),
        kit("stale fallback", FallbackLayer::stale(StaleConfig::new(), keyed), || {}),
        kit!("throttle", ThrottleLayer::new(throttle.clone()), throttle),
        kit!("rate limit", RateLimitLayer::new(quota.clone()), quota.clone()),
        kit!("waiting rate limit", RateLimitLayer::new(quota.clone()).waits(), quota),
        kit!("bulkhead", BulkheadLayer::new(bulkhead.clone()), bulkhead.clone()),
        kit!("waiting bulkhead", BulkheadLayer::waiting(queue.clone()), queue),
        kit!("backpressure", BulkheadLayer::backpressure(bulkhead.clone()), bulkhead),
        kit!("adaptive limit", AdaptiveLimitLayer::new(adaptive.clone()), adaptive.clone()),
        kit!("waiting adaptive limit", AdaptiveLimitLayer::waiting(adaptive.clone()), adaptive),
    ]
}

/// Layers of tower.
fn theirs() -> Vec<Kit> {
    // It panics when it is called without having been ready.
    let concurrency = kit("ConcurrencyLimit", ConcurrencyLimitLayer::new(2), || {});
    let shed = kit("LoadShed", LoadShedLayer::new(), || {});
    let buffer = tower::layer::layer_fn(|inner: Erased| BufferLayer::new(4).layer(inner));
    let steer = tower::layer::layer_fn(|inner: Erased| {
        let steer = Steer::new([inner.clone(), inner], |_: &Ask, _: &[Erased]| 1);
        BufferLayer::new(4).layer(steer)
    });
    let balance = tower::layer::layer_fn(|inner: Erased| {
        let endpoints = [inner.clone(), inner].map(|endpoint| Constant::new(endpoint, 1));
        BufferLayer::new(4).layer(Balance::new(ServiceList::new(endpoints)))
    });
    vec![
        concurrency,
        shed,
        kit("Buffer", buffer, || {}),
        kit("Steer", steer, || {}),
        kit("Balance", balance, || {}),
    ]
}

async fn call(service: &mut Erased, ask: Ask) -> Result<u32, BoxError> {
    service.ready().await?.call(ask).await
}

/// All that callers do with a service that should work.
async fn works(kits: &[&Kit]) {
    let name = kits.iter().map(|kit| kit.name).collect::<Vec<_>>().join(" around ");
    let book = Arc::new(Book::default());
    // What is not ready at once is shed.
    let hesitates = kits.iter().all(|kit| kit.name != "LoadShed");
    let strict = BoxCloneSyncService::new(Strict::new(&book, hesitates));
    let mut service = kits.iter().rev().fold(strict, |inner, kit| (kit.wrap)(inner));
    let reconfigure = || kits.iter().for_each(|kit| (kit.reconfigure)());
    let good = |answer: Result<u32, BoxError>, number: u32, when: &str| {
        assert_eq!(
            answer.unwrap_or_else(|error| panic!("{name}, {when}: {error}")),
            number,
            "{name}, {when}"
        );
    };
    good(call(&mut service, Ask::Answer(1)).await, 1, "at first");

    // Ready, and abandoned: by itself, and in the middle of the wait.
    service.ready().await.unwrap();
    tokio::time::sleep(MINUTE).await;
    good(call(&mut service, Ask::Answer(2)).await, 2, "a minute after it was ready");
    let _ = task::spawn(()).enter(|cx, _| service.poll_ready(cx).is_ready());
    tokio::time::sleep(MINUTE).await;
    good(call(&mut service, Ask::Answer(3)).await, 3, "a minute after it was asked");
    drop(service.ready().await.unwrap().clone());

    // The configuration changes between readiness and call, and while a call is under way.
    service.ready().await.unwrap();
    reconfigure();
    good(service.call(Ask::Answer(4)).await, 4, "after a change in between");
    service.ready().await.unwrap();
    let late = service.call(Ask::Answer(5));
    reconfigure();
    good(late.await, 5, "after a change under way");

    // A clone is not ready, however ready the original is.
    service.ready().await.unwrap();
    let mut clone = service.clone();
    good(call(&mut clone, Ask::Answer(6)).await, 6, "by a clone");
    good(service.call(Ask::Answer(7)).await, 7, "after its clone");

    // Dropped at once, and after a poll.
    drop(service.ready().await.unwrap().call(Ask::Hang));
    service.ready().await.unwrap();
    let mut hangs = task::spawn(service.call(Ask::Hang));
    assert!(hangs.poll().is_pending());
    drop(hangs);
    tokio::time::sleep(MINUTE).await;
    assert!(call(&mut service, Ask::Fail).await.is_err(), "{name}");
    good(call(&mut service, Ask::Answer(8)).await, 8, "at last");

    drop((service, clone));
    // Buffers have a task of their own.
    tokio::time::sleep(MINUTE).await;
    assert_eq!(book.in_flight.load(Ordering::SeqCst), 0, "{name}: calls under way at the end");
    assert_eq!(book.unready.load(Ordering::SeqCst), 0, "{name}: calls of a service that was not ready");
}

/// Runs all that can be run, and tells of all that failed.
fn all_work(stacks: &[Vec<Kit>]) {
    let failed = Mutex::new(Vec::new());
    for kits in stacks {
        let kits: Vec<&Kit> = kits.iter().collect();
        let run = || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            runtime.unwrap().block_on(works(&kits));
        };
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            failed.lock().unwrap().push(kits.iter().map(|kit| kit.name).collect::<Vec<_>>());
        }
    }
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {}: {failed:?}", failed.len(), stacks.len());
}

#[test]
fn every_layer_works_around_and_inside_of_every_layer() {
    let names = ours().len();
    let pairs = (0..names).flat_map(|outer| (0..names).map(move |inner| (outer, inner)));
    let stack = |(outer, inner)| vec![ours().swap_remove(outer), ours().swap_remove(inner)];
    all_work(&pairs.map(stack).collect::<Vec<_>>());
}

// Within a runtime, since tower's buffer spawns its task when the layer is made.
#[test]
fn every_layer_works_around_and_inside_of_the_layers_of_tower() {
    let mut stacks = Vec::new();
    for number in 0..ours().len() {
        for theirs in theirs() {
            let ours = || ours().swap_remove(number);
            stacks.push(vec![ours(), theirs.clone()]);
            stacks.push(vec![theirs.clone(), ours()]);
            stacks.push(vec![ours(), theirs, ours()]);
        }
    }
    all_work(&stacks);
}

#[test]
fn every_layer_can_be_optional() {
    for kit in ours() {
        for is_there in [true, false] {
            let wrap = Arc::clone(&kit.wrap);
            let layer = is_there.then(|| tower::layer::layer_fn(move |inner| wrap(inner)));
            let optional = option_layer(layer);
            let reconfigure = Arc::clone(&kit.reconfigure);
            let wrap = move |inner| BoxCloneSyncService::new(optional.layer(inner));
            all_work(&[vec![Kit { name: kit.name, wrap: Arc::new(wrap), reconfigure }]]);
        }
    }
}
