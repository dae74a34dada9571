//! Calls that wait, and are kept without being polled when it is their turn.

use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::Duration;

use stanchion::bulkhead::Wait;
use stanchion::{Bulkhead, BulkheadConfig, BulkheadHandle, BulkheadLayer, Error};
use tokio::time::{Instant, advance, timeout};
use tokio_test::task::{self, Spawn};
use tokio_test::{assert_pending, assert_ready};
use tower::{Layer, Service, ServiceExt};

use super::Failure;

type Waiting = Bulkhead<Inner, Wait>;

const MS: Duration = Duration::from_millis(1);

/// A service that answers at once.
#[derive(Clone, Debug, Default)]
struct Inner;

impl Service<u32> for Inner {
    type Response = u32;
    type Error = Failure;
    type Future = Ready<Result<u32, Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Self::Future {
        ready(Ok(request))
    }
}

fn one_at_a_time(max_queued: usize) -> (Waiting, BulkheadHandle) {
    let layer = BulkheadLayer::waiting(BulkheadConfig::new().max_in_flight(1).max_queued(max_queued));
    (layer.layer(Inner), layer.handle())
}

type Call = Spawn<<Waiting as Service<u32>>::Future>;

/// A call that has begun to wait.
fn waits(service: &mut Waiting, request: u32) -> Call {
    assert!(assert_ready!(task::spawn(()).enter(|cx, _| service.poll_ready(cx))).is_ok());
    let mut call = task::spawn(service.call(request));
    assert_pending!(call.poll());
    call
}

/// A call that was granted the only permit, and is not polled any more.
fn sleeper(service: &mut Waiting, handle: &BulkheadHandle) -> Call {
    let held = handle.try_acquire().unwrap();
    let sleeper = waits(service, 1);
    drop(held);
    assert!(sleeper.is_woken());
    assert_eq!((handle.snapshot().in_flight, handle.snapshot().queued), (1, 0));
    sleeper
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_not_claimed_goes_to_a_call_that_comes_later() {
    let (mut service, handle) = one_at_a_time(9);
    let mut sleeper = sleeper(&mut service, &handle);
    let start = Instant::now();
    let answer = timeout(Duration::from_secs(9), service.clone().oneshot(2)).await.unwrap();
    assert_eq!(answer, Ok(2));
    assert!(start.elapsed() <= 200 * MS, "{:?}", start.elapsed());
    assert_eq!((handle.snapshot().in_flight, handle.snapshot().queued), (0, 1), "it waits again");
    assert_eq!(assert_ready!(sleeper.poll()), Ok(1));
    assert_eq!((handle.snapshot().in_flight, handle.snapshot().queued), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_not_claimed_goes_to_a_call_that_waits_already() {
    let (mut service, handle) = one_at_a_time(9);
    let held = handle.try_acquire().unwrap();
    let sleeper = waits(&mut service, 1);
    let next = tokio::spawn(service.clone().oneshot(2));
    tokio::time::sleep(350 * MS).await;
    drop(held);
    let start = Instant::now();
    assert_eq!(timeout(Duration::from_secs(9), next).await.unwrap().unwrap(), Ok(2));
    assert!(start.elapsed() <= 300 * MS, "{:?}", start.elapsed());
    drop(sleeper);
    assert_eq!((handle.snapshot().in_flight, handle.snapshot().queued), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_is_not_claimed_goes_to_whoever_asks_at_the_handle() {
    let (mut service, handle) = one_at_a_time(9);
    let mut sleeper = sleeper(&mut service, &handle);
    assert!(handle.try_acquire().is_err(), "it is not late yet");
    advance(100 * MS).await;
    let held = handle.try_acquire().unwrap();
    assert_pending!(sleeper.poll());
    drop(held);
    assert!(sleeper.is_woken());
    assert_eq!(assert_ready!(sleeper.poll()), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_grant_that_nobody_else_wants_is_kept() {
    let (mut service, handle) = one_at_a_time(9);
    let mut sleeper = sleeper(&mut service, &handle);
    advance(Duration::from_secs(3_600)).await;
    assert_eq!(assert_ready!(sleeper.poll()), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_slept_keeps_its_place_before_those_that_came_later() {
    let (mut service, handle) = one_at_a_time(9);
    let mut sleeper = sleeper(&mut service, &handle);
    advance(100 * MS).await;
    let held = handle.try_acquire().unwrap();
    let mut later = waits(&mut service, 2);
    assert_pending!(sleeper.poll());
    drop(held);
    assert!(sleeper.is_woken() && !later.is_woken());
    assert_eq!(assert_ready!(sleeper.poll()), Ok(1));
    drop(sleeper);
    assert_eq!(assert_ready!(later.poll()), Ok(2));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_slept_does_not_take_the_place_of_one_that_waits() {
    let (mut service, handle) = one_at_a_time(1);
    let mut sleeper = sleeper(&mut service, &handle);
    let mut next = waits(&mut service, 2);
    advance(100 * MS).await;
    // The queue is full, until the grant has gone to the one who waits.
    let mut last = waits(&mut service, 3);
    assert_eq!(assert_ready!(next.poll()), Ok(2));
    drop(next);
    assert_eq!(assert_ready!(last.poll()), Ok(3));
    drop(last);
    assert_eq!(assert_ready!(sleeper.poll()), Ok(1));
    assert_eq!((handle.snapshot().in_flight, handle.snapshot().queued), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_slept_too_long_is_told_so_if_there_is_no_room() {
    let (mut service, handle) = one_at_a_time(9);
    let mut sleeper = sleeper(&mut service, &handle);
    advance(Duration::from_secs(2)).await;
    let _held = handle.try_acquire().unwrap();
    let refused: Failure = assert_ready!(sleeper.poll()).unwrap_err();
    assert!(matches!(refused, Error::Rejected(_)), "{refused:?}");
    assert_eq!((handle.snapshot().in_flight, handle.snapshot().queued), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn with_backpressure_too_a_grant_that_is_not_claimed_goes_to_the_next_who_asks() {
    let layer = BulkheadLayer::backpressure(BulkheadConfig::new().max_in_flight(1));
    let handle = layer.handle();
    let [mut sleeper, mut next] = [(); 2].map(|()| layer.layer(Inner));
    let held = handle.try_acquire().unwrap();
    let mut asks = task::spawn(());
    assert_pending!(asks.enter(|cx, _| sleeper.poll_ready(cx)));
    drop(held);
    assert!(asks.is_woken());
    let mut others = task::spawn(());
    assert_pending!(others.enter(|cx, _| next.poll_ready(cx)));
    advance(100 * MS).await;
    assert!(assert_ready!(others.enter(|cx, _| next.poll_ready(cx))).is_ok());
    assert_pending!(asks.enter(|cx, _| sleeper.poll_ready(cx)));
    drop(next);
    assert!(assert_ready!(asks.enter(|cx, _| sleeper.poll_ready(cx))).is_ok());
    assert_eq!(handle.snapshot().in_flight, 1);
}
