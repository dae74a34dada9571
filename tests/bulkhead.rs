//! Bulkheads, through the public API.

#![allow(clippy::disallowed_methods, reason = "a test moves the clock, and spawns")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

#[path = "bulkhead/asleep.rs"]
mod asleep;
#[path = "bulkhead/claims.rs"]
mod claims;
#[path = "bulkhead/defaults.rs"]
mod defaults;
#[path = "bulkhead/exempt.rs"]
mod exempt;
#[path = "bulkhead/expired.rs"]
mod expired;
#[path = "support/fault.rs"]
mod fault;
#[path = "bulkhead/hostile.rs"]
mod hostile;
#[path = "bulkhead/measured.rs"]
mod measured;
#[path = "bulkhead/readiness.rs"]
mod readiness;
#[path = "bulkhead/runtimes.rs"]
mod runtimes;
#[path = "bulkhead/unclaimed.rs"]
mod unclaimed;
#[path = "bulkhead/wakers.rs"]
mod wakers;

use std::future::{Future, pending, poll_fn, ready};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::fault::Fault;
use stanchion::bulkhead::Wait;
use stanchion::telemetry::{Action, ConcurrencyGauge, Event, LayerId};
use stanchion::{Bulkhead, BulkheadConfig, BulkheadHandle, BulkheadLayer, Error, Reason, Rejected};
use tokio::sync::oneshot;
use tokio::time::{Instant, advance, sleep};
use tokio_test::task::{self, Spawn};
use tokio_test::{assert_pending, assert_ready};
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer, Service, ServiceExt};

type Failure = Error<Fault>;
type Answer = Result<u32, Failure>;
type Call = Pin<Box<dyn Future<Output = Answer> + Send>>;

const SECOND: Duration = Duration::from_secs(1);

/// A request, and where its answer goes.
type Waiting = (u32, oneshot::Sender<Answer>);

/// A service that answers each request when the test says so, and panics for 13.
#[derive(Clone, Debug, Default)]
struct Backend {
    calls: Arc<Mutex<Vec<Waiting>>>,
    begun: Arc<AtomicU32>,
}

impl Backend {
    fn begun(&self) -> u32 {
        self.begun.load(Ordering::Relaxed)
    }

    fn requests(&self) -> Vec<u32> {
        self.calls.lock().unwrap().iter().map(|(request, _)| *request).collect()
    }

    fn answer(&self, request: u32) {
        let mut calls = self.calls.lock().unwrap();
        let place = calls.iter().position(|(other, _)| *other == request).expect("it was called");
        let _ = calls.remove(place).1.send(Ok(request));
    }
}

impl Service<u32> for Backend {
    type Response = u32;
    type Error = Failure;
    type Future = Call;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Call {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.calls.lock().unwrap().push((request, sender));
        Box::pin(async move {
            assert_ne!(request, 13, "the service panics");
            receiver.await.unwrap_or(Err(Error::Inner(Fault("gone"))))
        })
    }
}

fn config(max_in_flight: u32) -> BulkheadConfig {
    BulkheadConfig::new().max_in_flight(max_in_flight)
}

/// What the service answers, once it is polled.
fn begin<S>(service: &mut S, request: u32) -> Spawn<S::Future>
where
    S: Service<u32, Response = u32, Error = Failure>,
{
    let polled = task::spawn(()).enter(|cx, _| service.poll_ready(cx));
    assert_eq!(assert_ready!(polled), Ok(()));
    let mut call = task::spawn(service.call(request));
    if call.poll().is_ready() {
        panic!("call {request} has ended");
    }
    call
}

/// The reason for which a call is refused at once.
fn refusal<S>(service: &mut S, request: u32) -> Rejected
where
    S: Service<u32, Response = u32, Error = Failure>,
{
    let polled = task::spawn(()).enter(|cx, _| service.poll_ready(cx));
    assert_eq!(assert_ready!(polled), Ok(()));
    rejected(assert_ready!(task::spawn(service.call(request)).poll()))
}

fn rejected(answer: Answer) -> Rejected {
    match answer {
        Err(Error::Rejected(rejected)) => rejected,
        other => panic!("not refused: {other:?}"),
    }
}

#[track_caller]
fn assert_counts(handle: &BulkheadHandle, in_flight: u32, queued: usize) {
    let now = handle.snapshot();
    assert_eq!((now.in_flight, now.queued), (in_flight, queued));
}

#[tokio::test(start_paused = true)]
async fn a_full_bulkhead_refuses_and_one_that_has_room_again_does_not() {
    let (layer, backend) = (BulkheadLayer::new(config(2)).name("orders"), Backend::default());
    let mut service = layer.layer(backend.clone());
    let (mut one, _two) = (begin(&mut service, 1), begin(&mut service, 2));
    let rejected = refusal(&mut service, 3);
    assert_eq!((rejected.reason(), rejected.layer()), (Reason::BulkheadFull, "orders"));
    assert_eq!((rejected.retry_after(), rejected.limit(), rejected.reached_service()), (None, None, false));
    assert_eq!(rejected.to_string(), "rejected by orders: bulkhead is full");
    backend.answer(1);
    assert_eq!(assert_ready!(one.poll()), Ok(1));
    // The permit is back with the answer, and not when the future is dropped.
    assert_counts(&layer.handle(), 1, 0);
    let _three = begin(&mut service, 3);
    assert_eq!(backend.requests(), [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn by_default_nothing_waits_behind_a_stuck_call() {
    let (layer, backend) = (BulkheadLayer::new(config(1)), Backend::default());
    let mut service = layer.layer(backend.clone());
    let _stuck = begin(&mut service, 1);
    for request in 2..20_000 {
        assert_eq!(refusal(&mut service, request).reason(), Reason::BulkheadFull);
    }
    assert_counts(&layer.handle(), 1, 0);
    assert_eq!(backend.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_are_made_in_order() {
    let layer = BulkheadLayer::waiting(config(1).max_queued(3));
    let backend = Backend::default();
    let mut service = layer.layer(backend.clone());
    let mut calls: Vec<_> = (0..4).map(|request| begin(&mut service, request)).collect();
    assert_eq!(refusal(&mut service, 4).reason(), Reason::BulkheadFull);
    assert_counts(&layer.handle(), 1, 3);
    for request in 0..4_u32 {
        assert_eq!(backend.requests(), [request]);
        backend.answer(request);
        assert_eq!(assert_ready!(calls.remove(0).poll()), Ok(request));
        if let Some(next) = calls.first_mut() {
            assert!(next.is_woken());
            assert_pending!(next.poll());
        }
    }
    assert_counts(&layer.handle(), 0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_too_long_says_so_and_gives_up_its_place() {
    let layer = BulkheadLayer::waiting(config(1).max_queued(1).max_wait(SECOND)).name("orders");
    let backend = Backend::default();
    let mut service = layer.layer(backend.clone());
    let _stuck = begin(&mut service, 1);
    let mut waits = begin(&mut service, 2);
    advance(SECOND - Duration::from_millis(1)).await;
    assert_pending!(waits.poll());
    advance(Duration::from_millis(2)).await;
    let rejected = rejected(assert_ready!(waits.poll()));
    assert_eq!((rejected.reason(), rejected.reached_service()), (Reason::BulkheadTimeout, false));
    assert_eq!((rejected.limit(), rejected.retry_after()), (Some(SECOND), None));
    assert_eq!(rejected.to_string(), "rejected by orders: no room in the bulkhead after 1s");
    assert_counts(&layer.handle(), 1, 0);
    assert_eq!(backend.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn fifty_queued_calls_that_are_dropped_leak_nothing() {
    let layer = BulkheadLayer::waiting(config(2).max_queued(50));
    let backend = Backend::default();
    let mut service = layer.layer(backend.clone());
    let held: Vec<_> = (0..2).map(|request| begin(&mut service, request)).collect();
    let mut queued: Vec<_> = (2..52).map(|request| begin(&mut service, request)).collect();
    assert_counts(&layer.handle(), 2, 50);
    // Some before it was their turn, in no order; two when it is.
    for which in [49, 0, 20] {
        drop(queued.remove(which));
    }
    drop(held);
    assert_counts(&layer.handle(), 2, 45);
    drop(queued);
    assert_counts(&layer.handle(), 0, 0);
    let _both = [begin(&mut service, 60), begin(&mut service, 61)];
    assert_eq!(backend.begun(), 4, "none of those that were dropped");
}

#[tokio::test(start_paused = true)]
async fn a_panic_leaks_nothing() {
    let layer = BulkheadLayer::waiting(config(1).max_queued(1));
    let service = layer.layer(Backend::default());
    for _ in 0..5 {
        assert!(tokio::spawn(service.clone().oneshot(13)).await.unwrap_err().is_panic());
    }
    assert_counts(&layer.handle(), 0, 0);
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_do_not_hold_the_readiness_of_the_service() {
    let (limit, backend) = (ConcurrencyLimitLayer::new(2), Backend::default());
    let beside = limit.layer(backend.clone());
    let layer = BulkheadLayer::waiting(config(1).max_queued(8));
    let mut service = layer.layer(beside.clone());
    let _held = begin(&mut service, 1);
    // The first of them was asked for when there was room, so that the service is ready.
    let handle = layer.handle();
    let mut ready_early = service.clone();
    // No room yet for the clone, and then there is, and then there is not.
    handle.resize(2).unwrap();
    assert_eq!(poll_fn(|cx| ready_early.poll_ready(cx)).await, Ok(()));
    handle.resize(1).unwrap();
    let mut first = task::spawn(ready_early.call(2));
    assert_pending!(first.poll());
    let others = [begin(&mut service, 3), begin(&mut service, 4)];
    assert_counts(&handle, 1, 3);
    let mut other = beside.clone();
    assert_eq!(assert_ready!(task::spawn(()).enter(|cx, _| other.poll_ready(cx))), Ok(()));
    // Its place was taken by one that is not ready, which has to be asked.
    drop((other, first, others));
    handle.resize(2).unwrap();
    let _again = begin(&mut ready_early, 5);
}

/// Is ready only once the test says so.
#[derive(Clone, Debug)]
struct Late(Arc<Mutex<bool>>);

impl Service<u32> for Late {
    type Response = u32;
    type Error = Failure;
    type Future = std::future::Ready<Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if *self.0.lock().unwrap() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&mut self, request: u32) -> Self::Future {
        ready(Ok(request))
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_to_wait_is_also_for_the_service_to_become_ready() {
    let layer = BulkheadLayer::waiting(config(1).max_queued(1));
    let handle = layer.handle();
    let is_ready = Arc::new(Mutex::new(false));
    let mut service = layer.layer(Late(Arc::clone(&is_ready)));
    let held = handle.try_acquire().unwrap();
    let mut call = begin(&mut service, 1);
    drop(held);
    assert_pending!(call.poll());
    assert_counts(&handle, 1, 0);
    advance(2 * SECOND).await;
    assert_eq!(rejected(assert_ready!(call.poll())).reason(), Reason::BulkheadTimeout);
    assert_counts(&handle, 0, 0);

    let held = handle.try_acquire().unwrap();
    let mut call = begin(&mut service, 2);
    drop(held);
    *is_ready.lock().unwrap() = true;
    assert_eq!(assert_ready!(call.poll()), Ok(2));
}

#[tokio::test(start_paused = true)]
async fn two_services_of_a_layer_share_the_limit() {
    let (layer, backend) = (BulkheadLayer::new(config(1)), Backend::default());
    let (mut one, mut other) = (layer.layer(backend.clone()), layer.clone().layer(backend.clone()));
    let _held = begin(&mut one, 1);
    assert_eq!(refusal(&mut other, 2).reason(), Reason::BulkheadFull);
}

#[tokio::test(start_paused = true)]
async fn backpressure_takes_the_permit_ahead_and_gives_it_back() {
    let (layer, backend) = (BulkheadLayer::backpressure(config(1)), Backend::default());
    let handle = layer.handle();
    let mut service = layer.layer(backend.clone());
    assert_eq!(service.ready().await.map(|_| ()), Ok(()));
    assert_counts(&handle, 1, 0);
    let mut clone: Bulkhead<Backend> = service.clone();
    let mut waits = task::spawn(());
    assert_pending!(waits.enter(|cx, _| clone.poll_ready(cx)));
    assert_counts(&handle, 1, 1);
    drop(service);
    assert!(waits.is_woken());
    assert_eq!(assert_ready!(waits.enter(|cx, _| clone.poll_ready(cx))), Ok(()));
    let call = clone.call(1);
    assert_counts(&handle, 1, 0);
    assert_pending!(waits.enter(|cx, _| clone.poll_ready(cx)));
    drop(call);
    assert!(waits.is_woken());
    drop(clone);
    assert_counts(&handle, 0, 0);
}

/// A service that cannot become ready.
#[derive(Clone, Debug)]
struct Broken;

impl Service<u32> for Broken {
    type Response = u32;
    type Error = Failure;
    type Future = std::future::Ready<Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Err(Error::Inner(Fault("broken"))))
    }

    fn call(&mut self, _: u32) -> Self::Future {
        panic!("it is not ready")
    }
}

#[tokio::test(start_paused = true)]
async fn a_permit_of_a_service_that_cannot_become_ready_is_given_back() {
    let layer = BulkheadLayer::backpressure(config(1));
    let mut service = layer.layer(Broken);
    assert_eq!(poll_fn(|cx| service.poll_ready(cx)).await, Err(Error::Inner(Fault("broken"))));
    assert_counts(&layer.handle(), 0, 0);

    let layer = BulkheadLayer::waiting(config(1).max_queued(1));
    let handle = layer.handle();
    let held = handle.try_acquire().unwrap();
    let mut call = begin(&mut layer.layer(Broken), 1);
    drop(held);
    assert_eq!(assert_ready!(call.poll()), Err(Error::Inner(Fault("broken"))));
    assert_counts(&handle, 0, 0);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_changes_ends_no_call_and_serves_who_waits() {
    let layer = BulkheadLayer::waiting(config(3).max_queued(4));
    let (handle, backend) = (layer.handle(), Backend::default());
    let mut service = layer.layer(backend.clone());
    let mut calls: Vec<_> = (0..5).map(|request| begin(&mut service, request)).collect();
    handle.resize(1).unwrap();
    assert_counts(&handle, 3, 2);
    for request in 0..2 {
        backend.answer(request);
        assert_eq!(assert_ready!(calls.remove(0).poll()), Ok(request));
    }
    assert_counts(&handle, 1, 2);
    handle.resize(2).unwrap();
    assert!(calls[1].is_woken() && !calls[2].is_woken());
    assert!(handle.resize(0).is_err());
    assert_eq!(handle.config(), config(2).max_queued(4));
    handle.reconfigure(config(3).max_queued(0)).unwrap();
    assert!(calls[2].is_woken(), "those who wait stay");
    assert_eq!(refusal(&mut service, 9).reason(), Reason::BulkheadFull);
}

#[test]
fn a_configuration_that_makes_no_sense_is_an_error() {
    let field = |config: BulkheadConfig| BulkheadLayer::try_waiting(config).unwrap_err().field();
    assert_eq!(field(config(0)), "max_in_flight");
    assert_eq!(field(config(u32::MAX)), "max_in_flight");
    assert_eq!(field(config(1).max_wait(Duration::ZERO)), "max_wait");
    assert_eq!(BulkheadLayer::try_new(config(1).max_queued(1)).unwrap_err().field(), "max_queued");
    assert_eq!(BulkheadLayer::try_backpressure(config(1).max_queued(1)).unwrap_err().field(), "max_queued");
    let huge = config(u32::MAX >> 1).max_queued(usize::MAX).max_wait(Duration::MAX);
    assert!(BulkheadLayer::try_waiting(huge).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_wait_for_ever_is_one() {
    let layer = BulkheadLayer::waiting(config(1).max_queued(1).max_wait(Duration::MAX));
    let mut service = layer.layer(Backend::default());
    let _held = begin(&mut service, 1);
    let mut waits = begin(&mut service, 2);
    advance(86_400 * SECOND).await;
    assert_pending!(waits.poll());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_service_is_limited_as_well() {
    let refusing = BulkheadLayer::new(config(1)).handle();
    let waiting = BulkheadLayer::waiting(config(1).max_queued(1)).handle();
    for handle in [&refusing, &waiting] {
        let held = handle.try_acquire().unwrap();
        assert_eq!(handle.try_acquire().unwrap_err().reason(), Reason::BulkheadFull);
        assert_counts(handle, 1, 0);
        drop(held);
        assert_eq!(handle.run(ready(Answer::Ok(1))).await, Ok(1));
    }
    let _held = refusing.try_acquire().unwrap();
    let never = async { panic!("it was polled") };
    assert_eq!(rejected(refusing.run(never).await).reason(), Reason::BulkheadFull);

    let began = Instant::now();
    let slow = waiting.run(async {
        sleep(SECOND / 2).await;
        Answer::Ok(1)
    });
    let next = waiting.run(ready(Answer::Ok(2)));
    assert_eq!(tokio::join!(slow, next), (Ok(1), Ok(2)));
    assert_eq!(began.elapsed(), SECOND / 2);
    assert_counts(&waiting, 0, 0);
    let _stuck = waiting.try_acquire().unwrap();
    let late = waiting.run(pending::<Answer>()).await;
    assert_eq!(rejected(late).reason(), Reason::BulkheadTimeout);
}

#[tokio::test(start_paused = true)]
async fn observers_hear_of_waits_and_refusals() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let observer = move |source: &LayerId, event: &Event<'_>| {
        assert_eq!((source.module, source.name), ("bulkhead", "orders"));
        hears.lock().unwrap().push(match event {
            Event::Action { action: Action::Queued, .. } => "queued",
            Event::Rejected(rejected) => rejected.reason().as_str(),
            Event::Concurrency { what, change: 1, .. } => what.as_str(),
            Event::Concurrency { what: ConcurrencyGauge::InFlight, change: -1, .. } => "done",
            Event::Concurrency { what: ConcurrencyGauge::Queued, change: -1, .. } => "left",
            Event::Concurrency { what: ConcurrencyGauge::Limit, change: -1, .. } => "gone",
            _ => "something else",
        });
    };
    let layer = BulkheadLayer::waiting(config(1).max_queued(1)).name("orders").observer(observer);
    let mut service = layer.layer(Backend::default());
    let held = begin(&mut service, 1);
    let mut waits = begin(&mut service, 2);
    refusal(&mut service, 3);
    advance(2 * SECOND).await;
    rejected(assert_ready!(waits.poll()));
    drop((held, waits, service, layer));
    let expected = [
        "limit",
        "in_flight",
        "queued",
        "queued",
        "bulkhead_full",
        "left",
        "bulkhead_timeout",
        "done",
        "gone",
    ];
    assert_eq!(*heard.lock().unwrap(), expected);
}

#[cfg(feature = "http")]
mod http {
    use std::convert::Infallible;

    use ::http::{Request, Response};
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use stanchion::http::Http;
    use tower::service_fn;

    use super::*;

    async fn answer(_: Request<()>) -> Result<Response<Full<Bytes>>, Error<Infallible>> {
        // Whatever the status, the body takes its time.
        Ok(Response::builder().status(503).body(Full::from("sorry")).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_permit_is_held_until_the_body_has_ended_or_is_dropped() {
        let layer = BulkheadLayer::new(config(3)).protocol(Http::new()).hold_until_body_end();
        let (handle, mut service) = (layer.handle(), layer.layer(service_fn(answer)));
        let mut responses = Vec::new();
        for _ in 0..3 {
            responses.push(service.ready().await.unwrap().call(Request::new(())).await.unwrap());
        }
        assert_counts(&handle, 3, 0);
        drop(responses.pop());
        assert_counts(&handle, 2, 0);
        let body = responses.pop().unwrap().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "sorry");
        assert_counts(&handle, 1, 0);
        drop(responses);
        assert_counts(&handle, 0, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn by_default_a_permit_is_held_until_the_head_is_there() {
        let layer = BulkheadLayer::new(config(1));
        let mut service = layer.layer(service_fn(answer));
        let _response = service.ready().await.unwrap().call(Request::new(())).await.unwrap();
        assert_counts(&layer.handle(), 0, 0);
    }
}
