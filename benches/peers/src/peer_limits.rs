//! What tower and the competitors have to bound what a service is sent.

use std::future::{pending, poll_fn};
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tower::limit::RateLimit;
use tower::limit::rate::Rate;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_resilience_bulkhead::BulkheadLayer as TrBulkhead;
use tower_resilience_ratelimiter::{RateLimiterConfigBuilder, RateLimiterLayer as TrRate, WindowType};

use crate::measure::{Contestant, Tower, block_on, drive};
use crate::row::{Expect::*, *};
use crate::service::{Failed, echo};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const PLENTY: u32 = 1_000_000_000;

pub fn rows() -> Vec<Row> {
    [of_governor(), of_tower(), of_tower_resilience()].into_iter().flatten().collect()
}

fn admits<C: Contestant>(name: &'static str, contestant: C) -> Row {
    Row::new(name, Success, contestant)
}

fn refuses<C: Contestant>(name: &'static str, contestant: C) -> Row {
    Row::new(name, Refusal, contestant)
}

// -------------------------------------------------------------------------------------------------- governor

fn of_governor() -> Vec<Row> {
    // A cell each nanosecond: never refuses, whatever the machine.
    let plenty = Quota::per_second(NonZeroU32::new(PLENTY).unwrap());
    let hourly = Quota::with_period(HOUR).unwrap();
    vec![
        admits("governor, direct check", Direct::new(plenty, DefaultClock::default())).against(OURS_RATE),
        admits("governor, direct check, std's clock", Direct::new(plenty, MonotonicClock)).against(OURS_RATE),
        admits("governor, check by key", Keyed::new(plenty, DefaultClock::default()))
            .against(OURS_RATE_BY_KEY),
        admits("governor, check by key, std's clock", Keyed::new(plenty, MonotonicClock))
            .against(OURS_RATE_BY_KEY),
        refuses("governor, direct check, rejected", Direct::new(hourly, DefaultClock::default()).spent())
            .against(OURS_RATE_REFUSED),
        refuses("governor, direct check, std's clock, rejected", Direct::new(hourly, MonotonicClock).spent())
            .against(OURS_RATE_REFUSED),
        refuses("governor, check by key, rejected", Keyed::new(hourly, DefaultClock::default()).spent())
            .against(OURS_KEY_REFUSED),
    ]
}

type Limiter<K, S, C> = Arc<RateLimiter<K, S, C, NoOpMiddleware<<C as Clock>::Instant>>>;

#[derive(Clone)]
struct Direct<C: Clock>(Limiter<NotKeyed, InMemoryState, C>);

impl<C: Clock> Direct<C> {
    fn new(quota: Quota, clock: C) -> Self {
        Self(Arc::new(RateLimiter::direct_with_clock(quota, clock)))
    }

    fn spent(self) -> Self {
        while self.0.check().is_ok() {}
        self
    }
}

impl<C> Contestant for Direct<C>
where
    C: Clock<Instant: Send + Sync> + Clone + Send + Sync + 'static,
{
    async fn call(&mut self, req: u64) -> bool {
        guarded(req, || self.0.check()).await
    }
}

#[derive(Clone)]
struct Keyed<C: Clock>(Limiter<u64, DefaultKeyedStateStore<u64>, C>);

impl<C: Clock> Keyed<C> {
    fn new(quota: Quota, clock: C) -> Self {
        Self(Arc::new(RateLimiter::new(quota, DefaultKeyedStateStore::default(), clock)))
    }

    fn spent(self) -> Self {
        for key in 0..2 {
            while self.0.check_key(&key).is_ok() {}
        }
        self
    }
}

impl<C> Contestant for Keyed<C>
where
    C: Clock<Instant: Send + Sync> + Clone + Send + Sync + 'static,
{
    async fn call(&mut self, req: u64) -> bool {
        guarded(req, || self.0.check_key(&(req & 1))).await
    }
}

/// A call that is made if `check` lets it through.
async fn guarded<N>(req: u64, check: impl FnOnce() -> Result<(), N>) -> bool {
    let mut service = service_fn(echo::<Failed>);
    let Ok(service) = ServiceExt::<u64>::ready(&mut service).await else { return false };
    match check() {
        Ok(()) => black_box(service.call(req).await).is_ok(),
        Err(not_until) => {
            black_box(not_until);
            false
        }
    }
}

// ----------------------------------------------------------------------------------------------------- tower

fn of_tower() -> Vec<Row> {
    let limited = || ServiceBuilder::new().concurrency_limit(64);
    let shed = |limit| ServiceBuilder::new().load_shed().concurrency_limit(limit);
    vec![
        admits("tower, rate limit (one per thread)", Limited(None)).against(OURS_RATE_WAITS),
        admits("tower, concurrency limit", Tower(limited().service_fn(echo::<Failed>)))
            .against(OURS_BACKPRESSURE),
        admits("tower, load shed + concurrency limit", Tower(shed(64).service_fn(echo::<Failed>)))
            .against(OURS_BULKHEAD),
        refuses("tower, load shed + concurrency limit, rejected", Tower(shed(0).service_fn(echo::<Failed>)))
            .against(OURS_FULL),
    ]
}

type Inner = tower::util::ServiceFn<fn(u64) -> std::future::Ready<Result<u64, Failed>>>;

/// It cannot be cloned, so each thread has one of its own; and it is made where it is called, since it wants a runtime.
struct Limited(Option<RateLimit<Inner>>);

impl Clone for Limited {
    fn clone(&self) -> Self {
        Self(None)
    }
}

impl Contestant for Limited {
    async fn call(&mut self, req: u64) -> bool {
        let made = || {
            let inner: Inner = service_fn(|req| std::future::ready(Ok(req)));
            RateLimit::new(inner, Rate::new(PLENTY.into(), SECOND))
        };
        drive(self.0.get_or_insert_with(made), req).await
    }
}

// ------------------------------------------------------------------------------------------ tower-resilience

fn of_tower_resilience() -> Vec<Row> {
    let plenty = |window| rate(TrRate::builder().limit_for_period(PLENTY as usize).window_type(window));
    let bucket = rate(TrRate::burst(PLENTY as usize, 1));
    let hourly = rate(TrRate::builder().limit_for_period(1).refresh_period(HOUR));
    let bulkhead = |calls| TrBulkhead::builder().max_concurrent_calls(calls).reject_when_full();
    let roomy = bulkhead(64).build().expect("a valid configuration");
    vec![
        admits(
            "tower-resilience, rate limit, fixed window",
            Tower(plenty(WindowType::Fixed).layer(service_fn(echo::<Failed>))),
        )
        .against(OURS_RATE),
        admits(
            "tower-resilience, rate limit, sliding counter",
            Tower(plenty(WindowType::SlidingCounter).layer(service_fn(echo::<Failed>))),
        )
        .against(OURS_RATE),
        admits("tower-resilience, rate limit, token bucket", Tower(bucket.layer(service_fn(echo::<Failed>))))
            .against(OURS_RATE),
        refuses(
            "tower-resilience, rate limit, fixed window, rejected",
            used(Tower(hourly.layer(service_fn(echo::<Failed>)))),
        )
        .against(OURS_RATE_REFUSED),
        admits("tower-resilience, bulkhead", Tower(roomy.layer(service_fn(echo::<Failed>))))
            .against(OURS_BULKHEAD),
        refuses("tower-resilience, bulkhead, rejected", Slow(full(bulkhead(1).build().expect("the same"))))
            .against(OURS_FULL)
            .one_thread(),
    ]
}

/// One whose calls do not wait.
fn rate(builder: RateLimiterConfigBuilder) -> TrRate {
    builder.timeout_duration(Duration::ZERO).build().expect("a valid configuration")
}

/// After one call.
fn used<C: Contestant>(mut contestant: C) -> C {
    assert!(block_on(contestant.call(0)));
    contestant
}

/// With a call that never ends.
fn full(layer: TrBulkhead) -> impl Service<u64, Future: Send> + Clone + Send {
    const FOR_EVER: u64 = u64::MAX;
    let mut service = layer.layer(service_fn(|req| async move {
        if req == FOR_EVER {
            pending::<()>().await;
        }
        Ok::<_, Failed>(req)
    }));
    block_on(async {
        let call = service.ready().await.expect("it is always ready").call(FOR_EVER);
        let call = Box::leak(Box::new(call));
        poll_fn(|cx| {
            assert!(call.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
    });
    service
}

/// A call that is refused waits for the runtime's timer: a thousand times as long as any other one.
#[derive(Clone)]
struct Slow<S>(S);

impl<S: Service<u64, Future: Send> + Clone + Send + 'static> Contestant for Slow<S> {
    async fn call(&mut self, req: u64) -> bool {
        drive(&mut self.0, req).await
    }

    async fn prepare(&mut self) -> Option<u64> {
        Some(4)
    }
}
