//! Rate limits through the public API, under paused time: who is let through, who waits and who is refused.

#![allow(clippy::disallowed_methods, reason = "a test moves the clock, and its calls are tasks")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

#[path = "rate_limit/deadline.rs"]
mod deadline;
#[path = "support/fault.rs"]
mod fault;
#[path = "rate_limit/keys.rs"]
mod keys;
#[path = "rate_limit/waiting.rs"]
mod waiting;

use std::future::{Future, Ready, poll_fn, ready};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::fault::Fault;
use stanchion::rate_limit::{Quota, Waits};
use stanchion::telemetry::{Action, Event, LayerId};
use stanchion::{
    CircuitBreakerConfig, CircuitBreakerLayer, Error, RateLimit, RateLimitConfig, RateLimitLayer, Reason,
    Rejected,
};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready, task};
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

type Failure = Error<Fault>;

/// One call each 100 ms, of which so many may come at once.
fn ten_per_second(burst: u32) -> Quota {
    Quota::per_second(10).burst(burst)
}

async fn echo(number: u32) -> Result<u32, Failure> {
    Ok(number)
}

async fn call<S: Service<R, Error = Failure>, R>(
    service: &mut S,
    request: R,
) -> Result<S::Response, Failure> {
    service.ready().await?.call(request).await
}

async fn refusal<S: Service<R, Error = Failure>, R>(service: &mut S, request: R) -> Rejected {
    match call(service, request).await {
        Err(Error::Rejected(rejected)) => rejected,
        _ => panic!("it was not refused"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_not_lost_by_poll_ready_and_drop() {
    let layer = RateLimitLayer::new(ten_per_second(5));
    for _ in 0..5 {
        let mut service = layer.layer(service_fn(echo));
        poll_fn(|cx| Service::<u32>::poll_ready(&mut service, cx)).await.unwrap();
    }
    assert_eq!(layer.handle().available(), 5);
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_exact() {
    let mut service = RateLimitLayer::new(ten_per_second(1)).layer(service_fn(echo));
    assert!(call(&mut service, 1).await.is_ok());
    advance(30 * MS).await;
    let rejected = refusal(&mut service, 2).await;
    assert_eq!((rejected.reason(), rejected.retry_after()), (Reason::RateLimited, Some(70 * MS)));
    assert!(!rejected.reached_service());
    advance(70 * MS - Duration::from_nanos(1)).await;
    assert_eq!(refusal(&mut service, 2).await.retry_after(), Some(Duration::from_nanos(1)));
    advance(Duration::from_nanos(1)).await;
    assert!(call(&mut service, 2).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn one_layer_around_all_routes_is_one_quota() {
    let layer = RateLimitLayer::new(ten_per_second(2));
    let mut first = layer.layer(service_fn(echo));
    let mut second = layer.clone().layer(service_fn(echo));
    let mut third = first.clone();
    assert!(call(&mut first, 1).await.is_ok());
    assert!(call(&mut second, 2).await.is_ok());
    assert_eq!(refusal(&mut third, 3).await.reason(), Reason::RateLimited);
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_reaches_no_service_and_leaves_it_ready() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let inner = service_fn(move |_: u32| {
        counted.fetch_add(1, Ordering::Relaxed);
        ready(Ok::<_, Failure>(()))
    });
    let mut service = RateLimitLayer::new(ten_per_second(1)).layer(inner);
    assert!(call(&mut service, 1).await.is_ok());
    for _ in 0..3 {
        refusal(&mut service, 2).await;
    }
    drop(service.call(3));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

/// The worst there is, where a window that begins anew would let through twice as many as it allows: at its edge.
#[tokio::test(start_paused = true)]
async fn no_stretch_of_time_has_more_than_a_burst_and_what_the_rate_allows() {
    let handle = RateLimitLayer::new(Quota::per_second(100).burst(20)).handle();
    let mut taken = Vec::new();
    for millisecond in 0..3_000_u32 {
        // Greedy, with a pause that saves a burst up.
        while !(1_000..1_500).contains(&millisecond) && handle.try_take(1).is_ok() {
            taken.push(millisecond);
        }
        advance(MS).await;
    }
    for (number, begin) in taken.iter().enumerate() {
        for (end, more) in taken[number..].iter().zip(1_u32..) {
            assert!(more <= 20 + (end - begin) / 10, "{more} from {begin} to {end} ms");
        }
    }
    assert_eq!(taken.len(), 20 + 99 + 20 + 149);
}

#[tokio::test(start_paused = true)]
async fn a_call_takes_what_it_costs() {
    let layer = RateLimitLayer::new(ten_per_second(10)).cost(|cost: &u32| *cost);
    let mut service = layer.layer(service_fn(echo));
    assert!(call(&mut service, 7).await.is_ok());
    assert_eq!(refusal(&mut service, 5).await.retry_after(), Some(200 * MS));
    assert!(call(&mut service, 3).await.is_ok(), "a cheaper one may go first");
    for _ in 0..3 {
        assert!(call(&mut service, 0).await.is_ok(), "what costs nothing is not limited");
    }
    advance(SECOND).await;
    let never = refusal(&mut service, 11).await;
    assert_eq!((never.reason(), never.retry_after()), (Reason::RateLimited, None), "more than a burst");
    assert!(call(&mut service, 10).await.is_ok());
}

/// A layer that waits, and the numbers of the calls in the order in which its service got them, with when.
#[derive(Clone, Debug, Default)]
struct Served(Arc<Mutex<Vec<(u32, Duration)>>>);

impl Served {
    fn waiting(
        config: RateLimitConfig,
    ) -> (RateLimit<Probe, stanchion::rate_limit::SharedQuota, stanchion::rate_limit::UnitCost, Waits>, Self)
    {
        let served = Self::default();
        let probe = Probe { served: served.clone(), start: Instant::now() };
        (RateLimitLayer::new(config).waits().layer(probe), served)
    }

    fn take(&self) -> Vec<(u32, Duration)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

#[derive(Clone, Debug)]
struct Probe {
    served: Served,
    start: Instant,
}

impl Service<u32> for Probe {
    type Response = u32;
    type Error = Failure;
    type Future = Ready<Result<u32, Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, number: u32) -> Self::Future {
        self.served.0.lock().unwrap().push((number, self.start.elapsed()));
        ready(Ok(number))
    }
}

#[tokio::test(start_paused = true)]
async fn waiters_are_served_in_order_each_at_its_time() {
    let config = RateLimitConfig::new(ten_per_second(1)).max_wait(20 * SECOND);
    let (mut service, served) = Served::waiting(config);
    let calls: Vec<_> = (0..100).map(|number| tokio::spawn(service.call(number))).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let expected: Vec<_> = (0..100).map(|number| (number, number * 100 * MS)).collect();
    assert_eq!(served.take(), expected);
}

#[tokio::test(start_paused = true)]
async fn waiters_whose_turns_are_in_one_millisecond_are_served_in_order() {
    let config = RateLimitConfig::new(Quota::per_second(100_000).burst(1));
    let (mut service, served) = Served::waiting(config);
    let calls: Vec<_> = (0..1_000).map(|number| tokio::spawn(service.call(number))).collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let numbers: Vec<_> = served.take().iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (0..1_000).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_certain_rejection_is_refused_at_once() {
    let config = RateLimitConfig::new(Quota::per_minute(1)).max_wait(59 * SECOND);
    let (mut service, served) = Served::waiting(config);
    assert!(call(&mut service, 1).await.is_ok());
    let before = Instant::now();
    assert_eq!(refusal(&mut service, 2).await.retry_after(), Some(60 * SECOND));
    assert_eq!(before.elapsed(), Duration::ZERO);
    advance(SECOND).await;
    assert!(call(&mut service, 3).await.is_ok(), "59 s are not too long");
    assert_eq!(served.take(), [(1, Duration::ZERO), (3, 60 * SECOND)]);
}

#[tokio::test(start_paused = true)]
async fn the_last_waiter_gives_its_turn_back_when_it_is_dropped() {
    let (mut service, served) = Served::waiting(RateLimitConfig::new(ten_per_second(1)));
    drop(service.call(0));
    let mut dropped = task::spawn(service.call(1));
    assert_pending!(dropped.poll());
    drop(dropped);
    let kept = service.call(2);
    let followed = service.call(3);
    drop(kept);
    assert!(followed.await.is_ok());
    assert_eq!(served.take(), [(0, Duration::ZERO), (3, 200 * MS)], "the others have been told their time");
}

#[tokio::test(start_paused = true)]
async fn what_was_used_is_not_given_back() {
    let layer = RateLimitLayer::new(ten_per_second(2)).waits();
    let mut service = layer.layer(service_fn(|_: u32| std::future::pending::<Result<(), Failure>>()));
    let mut calls: Vec<_> = (0..3).map(|number| task::spawn(service.call(number))).collect();
    assert_pending!(calls[2].poll());
    advance(100 * MS).await;
    assert_pending!(calls[2].poll());
    drop(calls);
    assert_eq!(layer.handle().available(), 0);
}

/// Held while it waits, it would keep a call out that needs no turn.
#[tokio::test(start_paused = true)]
async fn a_call_that_waits_does_not_hold_the_readiness_of_the_service() {
    let inner = ServiceBuilder::new().layer(ConcurrencyLimitLayer::new(1)).service_fn(echo);
    let mut beside = inner.clone();
    let mut service = RateLimitLayer::new(ten_per_second(1)).waits().layer(inner);
    assert!(call(&mut service, 1).await.is_ok());
    assert!(service.ready().await.is_ok());
    let mut waits = task::spawn(service.call(2));
    assert_pending!(waits.poll());
    assert!(assert_ready!(task::spawn(beside.ready()).poll()).is_ok());
    // It holds the only permit now, when the turn of the other has come.
    advance(100 * MS).await;
    assert_pending!(waits.poll());
    drop(beside);
    assert_eq!(assert_ready!(waits.poll()).unwrap(), 2);
}

#[derive(Clone, Copy, Debug)]
struct From(&'static str);

fn by_caller(config: impl Into<RateLimitConfig>) -> RateLimitLayer<fn(&From) -> Option<&'static str>> {
    RateLimitLayer::keyed(config, |from: &From| (!from.0.is_empty()).then_some(from.0))
}

async fn served(_: From) -> Result<(), Failure> {
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_new_quota_counts_what_was_used_of_the_old_one() {
    let layer = RateLimitLayer::new(Quota::per_minute(1).burst(10));
    let handle = layer.handle();
    assert!(handle.try_take(10).is_ok());
    handle.reconfigure(Quota::per_second(1_000).burst(15)).unwrap();
    assert_eq!(handle.available(), 5);
    advance(10 * MS).await;
    assert_eq!(handle.available(), 15, "and not ten minutes later");
    assert!(handle.try_take(15).is_ok());
    handle.reconfigure(Quota::per_minute(1).burst(2)).unwrap();
    let excess = Some(60 * SECOND + 13 * MS);
    assert_eq!(
        handle.try_take(1).unwrap_err().retry_after(),
        excess,
        "what exceeds the burst comes back as it did"
    );
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_keep_their_time_when_the_quota_changes() {
    let layer = RateLimitLayer::new(ten_per_second(1)).waits();
    let mut service = layer.layer(service_fn(echo));
    assert!(call(&mut service, 1).await.is_ok());
    let began = Instant::now();
    let waits = service.call(2);
    layer.handle().reconfigure(Quota::per_minute(1)).unwrap();
    assert!(waits.await.is_ok());
    assert_eq!(began.elapsed(), 100 * MS);
    assert_eq!(refusal(&mut service, 3).await.retry_after(), Some(60 * SECOND));
}

/// The client always has ten seconds' worth of calls waiting.
#[tokio::test(start_paused = true)]
async fn a_reload_of_the_same_quota_lets_no_call_through_that_was_not_due() {
    let config = RateLimitConfig::new(ten_per_second(1)).max_wait(10 * SECOND);
    let layer = by_caller(config.clone()).waits();
    let served = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&served);
    let mut service = layer.layer(service_fn(move |_: From| {
        counted.fetch_add(1, Ordering::Relaxed);
        ready(Ok::<_, Failure>(()))
    }));
    for _ in 0..5 {
        for _ in 0..200 {
            tokio::spawn(service.ready().await.unwrap().call(From("a")));
        }
        tokio::time::sleep(2 * SECOND).await;
        layer.handle().reconfigure(config.clone()).unwrap();
    }
    assert!((100..=101).contains(&served.load(Ordering::Relaxed)));
}

#[tokio::test(start_paused = true)]
async fn the_largest_settings_work() {
    let quota = Quota::per(u32::MAX, Duration::from_secs(5));
    let config = RateLimitConfig::new(quota).max_wait(Duration::MAX).max_keys(u32::MAX);
    let layer = by_caller(config).waits().cost(|_: &From| u32::MAX);
    let mut service = layer.layer(service_fn(served));
    assert!(call(&mut service, From("a")).await.is_ok());
    let began = Instant::now();
    assert!(call(&mut service, From("a")).await.is_ok());
    assert_eq!(began.elapsed().as_secs(), 2 * u64::from(u32::MAX) / 1_000_000_000, "each takes 2 ns");
    let rare = RateLimitLayer::new(Quota::per(1, Duration::from_secs(1 << 29)));
    let mut service = rare.waits().layer(service_fn(echo));
    assert!(call(&mut service, 1).await.is_ok());
    assert_eq!(refusal(&mut service, 2).await.retry_after(), Some(Duration::from_secs(1 << 29)));
}

#[tokio::test(start_paused = true)]
async fn a_bad_configuration_leaves_the_old_one_and_a_good_one_still_works() {
    let handle = by_caller(RateLimitConfig::new(ten_per_second(2))).handle();
    assert!(handle.try_take_for(&"a", 1).is_ok());
    let bad = [
        (RateLimitConfig::new(Quota::per_second(0)), "count"),
        (RateLimitConfig::new(ten_per_second(0)), "burst"),
        (RateLimitConfig::new(Quota::per(1, Duration::MAX).burst(2)), "burst"),
        (RateLimitConfig::new(Quota::per(2, Duration::from_nanos(1))), "period"),
        (RateLimitConfig::default().max_keys(0), "max_keys"),
    ];
    for (config, field) in bad {
        assert_eq!(handle.reconfigure(config).unwrap_err().field(), field);
        assert_eq!((handle.config().quota, handle.available_for(&"a")), (ten_per_second(2), 1));
    }
    handle.reconfigure(ten_per_second(7)).unwrap();
    assert_eq!((handle.available_for(&"a"), handle.available_for(&"b")), (6, 7));
}

#[tokio::test]
async fn a_quota_that_changes_under_load_is_kept_by_all_threads() {
    const TAKEN: usize = 1_000;
    let handle = RateLimitLayer::new(Quota::per(1, 1_000 * SECOND).burst(1_000)).handle();
    let admitted = Arc::new(AtomicUsize::new(0));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..TAKEN {
                        admitted.fetch_add(usize::from(handle.try_take(1).is_ok()), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for seconds in [2_000, 1_000] {
                    handle.reconfigure(Quota::per(1, seconds * SECOND).burst(1_000)).unwrap();
                }
            }
        });
        for thread in threads {
            thread.join().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(admitted.load(Ordering::Relaxed), 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_further_out_does_not_count_refusals_as_failures() {
    let breaker = CircuitBreakerLayer::new(CircuitBreakerConfig::new().consecutive_failures(2));
    let layer = RateLimitLayer::new(ten_per_second(1)).waits();
    layer.handle().reconfigure(RateLimitConfig::new(ten_per_second(1)).max_wait(Duration::ZERO)).unwrap();
    let mut waiting = breaker.layer(layer.layer(service_fn(echo)));
    let mut refusing = breaker.layer(RateLimitLayer::new(ten_per_second(1)).layer(service_fn(echo)));
    for number in 0..10 {
        let _ = call(&mut waiting, number).await;
        let _ = call(&mut refusing, number).await;
    }
    assert_eq!(breaker.handle().state(), stanchion::circuit_breaker::State::Closed);
}

#[tokio::test(start_paused = true)]
async fn observers_hear_of_refusals_waits_and_keys() {
    let (heard, keys) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicI64::new(0)));
    let (events, count) = (Arc::clone(&heard), Arc::clone(&keys));
    let layer = by_caller(RateLimitConfig::new(ten_per_second(1)).max_wait(100 * MS).max_keys(2))
        .waits()
        .name("api")
        .observer(move |source: &LayerId, event: &Event<'_>| {
            assert_eq!((source.module, source.name), ("rate_limit", "api"));
            if let Event::Keys { change, .. } = event {
                count.fetch_add(*change, Ordering::Relaxed);
            }
            events.lock().unwrap().push(format!("{event:?}"));
        });
    let mut service = layer.layer(service_fn(served));
    assert!(service.call(From("a")).await.is_ok());
    let waits = service.call(From("a"));
    let refused = service.call(From("a")).await.unwrap_err();
    assert_eq!(refused.to_string(), "rejected by api: rate limit reached, retry after 200ms");
    assert!(service.call(From("b")).await.is_ok());
    let refused = service.call(From("c")).await.unwrap_err();
    assert_eq!(refused.to_string(), "rejected by api: too many keys, retry after 100ms");
    drop(waits);
    assert_eq!(keys.load(Ordering::Relaxed), 2);
    {
        let heard = heard.lock().unwrap();
        let kinds: Vec<_> = heard.iter().map(|event| event.split('(').next().unwrap()).collect();
        assert_eq!(kinds, ["Keys", "Action", "Rejected", "Keys", "Rejected"]);
        assert_eq!(heard[1], format!("Action({} after attempt 0, in 100ms)", Action::Waited.as_str()));
    }
    drop((service, layer));
    assert_eq!(keys.load(Ordering::Relaxed), 0, "they go with the layer");
}

#[tokio::test(start_paused = true)]
async fn futures_are_as_sendable_as_the_service_is() {
    fn is_send<T: Future + Send>(future: T) -> T {
        future
    }
    let layer = || RateLimitLayer::new(ten_per_second(1));
    assert!(is_send(layer().layer(service_fn(echo)).call(1)).await.is_ok());
    assert!(is_send(layer().waits().layer(service_fn(echo)).call(1)).await.is_ok());
}
