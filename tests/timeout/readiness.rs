//! Readiness under a limit that includes it: the caller that waits, the time it gets, and
//! reconfigurations in between.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::task::yield_now;
use tower::limit::ConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower::{BoxError, ServiceBuilder};

use super::*;

/// A service that becomes ready on command, wakes its waiters, and panics if it is called without
/// readiness.
#[derive(Clone, Debug, Default)]
pub(super) struct Door {
    is_open: Rc<Cell<bool>>,
    pub(super) waiting: Rc<RefCell<Option<std::task::Waker>>>,
    pub(super) calls: Rc<Cell<u32>>,
    /// The readiness of this instance.
    is_ready: bool,
}

impl Door {
    pub(super) fn set(&self, is_open: bool) {
        self.is_open.set(is_open);
        if let Some(waker) = self.waiting.take().filter(|_| is_open) {
            waker.wake();
        }
    }
}

impl Service<Duration> for Door {
    type Response = ();
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<(), Failure>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.is_ready |= self.is_open.get();
        if self.is_ready {
            return Poll::Ready(Ok(()));
        }
        self.waiting.replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    fn call(&mut self, takes: Duration) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "called before it was ready");
        self.calls.set(self.calls.get() + 1);
        Box::pin(async move {
            sleep(takes).await;
            Ok(())
        })
    }
}

pub(super) fn including() -> TimeoutConfig {
    TimeoutConfig::new().limit(Limit::Fixed(SECOND)).includes_readiness(true)
}

fn excluding() -> TimeoutConfig {
    TimeoutConfig::new().limit(Limit::Fixed(SECOND))
}

pub(super) fn with_door() -> (TimeoutLayer, stanchion::Timeout<Door>, Door) {
    let (layer, door) = (TimeoutLayer::new(including()).name("outer"), Door::default());
    let service = layer.layer(door.clone());
    (layer, service, door)
}

/// Starts to wait, and goes away.
async fn abandon(service: &mut stanchion::Timeout<Door>) {
    tokio::select! {
        biased;
        _ = service.ready() => panic!("it is ready"),
        () = yield_now() => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_not_ready_is_not_called_whatever_was_reconfigured() {
    for after in [excluding(), including(), excluding().limit(Limit::Deadline)] {
        let (layer, mut service, door) = with_door();
        service.ready().await.unwrap();
        layer.handle().reconfigure(after).unwrap();
        door.set(true);
        assert_refused(service.call(Duration::ZERO).await, "outer", Reason::TotalTimeout, SECOND);
        assert_eq!(door.calls.get(), 0);
        assert_eq!(call(&mut service, Duration::ZERO).await, Ok(()));
    }
}

/// tower's concurrency limit panics if it is called before it is ready.
#[tokio::test(start_paused = true)]
async fn a_concurrency_limit_is_not_called_without_its_permit() {
    let layer = TimeoutLayer::new(including());
    let mut service =
        ServiceBuilder::new().layer(layer.clone()).layer(ConcurrencyLimitLayer::new(1)).service(takes());
    let under_way = service.ready().await.unwrap().call(60 * SECOND);
    service.ready().await.unwrap();
    layer.handle().reconfigure(excluding()).unwrap();
    rejected(service.call(SECOND / 2).await);
    drop(under_way);
    assert_eq!(call(&mut service, SECOND / 2).await, Ok(SECOND / 2));
}

#[tokio::test(start_paused = true)]
async fn a_readiness_is_used_once_whatever_was_reconfigured() {
    for (before, after) in [(including(), excluding()), (excluding(), including())] {
        let (layer, mut service, door) = with_door();
        layer.handle().reconfigure(before).unwrap();
        let mut waiting = task::spawn(());
        assert_pending!(waiting.enter(|cx, _| Service::<Duration>::poll_ready(&mut service, cx)));
        door.set(true);
        assert!(waiting.is_woken());
        assert!(
            assert_ready!(waiting.enter(|cx, _| Service::<Duration>::poll_ready(&mut service, cx))).is_ok()
        );
        layer.handle().reconfigure(after).unwrap();
        door.set(false);
        assert_eq!(service.call(SECOND / 2).await, Ok(()));
        assert_pending!(waiting.enter(|cx, _| Service::<Duration>::poll_ready(&mut service, cx)));
        assert_eq!(door.calls.get(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_goes_on_is_let_go_when_it_does_not_count_any_more() {
    let (layer, mut service, door) = with_door();
    let mut waiting = task::spawn(());
    let mut poll = |service: &mut _| waiting.enter(|cx, _| Service::<Duration>::poll_ready(service, cx));
    assert_pending!(poll(&mut service));
    layer.handle().reconfigure(excluding()).unwrap();
    advance(SECOND).await;
    assert_pending!(poll(&mut service), "its limit is over, and does not count");
    door.set(true);
    assert!(assert_ready!(poll(&mut service)).is_ok());
    assert_eq!(service.call(SECOND / 2).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_was_abandoned_is_not_charged_to_a_later_call() {
    for opens in [Duration::ZERO, SECOND / 2, 60 * SECOND] {
        let (_, mut service, door) = with_door();
        abandon(&mut service).await;
        sleep(opens).await;
        door.set(true);
        sleep(60 * SECOND).await;
        assert_eq!(call(&mut service, 900 * MS).await, Ok(()), "opened after {opens:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_was_abandoned_leaves_the_next_one_its_whole_limit() {
    let (_, mut service, _) = with_door();
    abandon(&mut service).await;
    sleep(60 * SECOND).await;
    let began = Instant::now();
    assert_refused(call(&mut service, MS).await, "outer", Reason::TotalTimeout, SECOND);
    assert_eq!(began.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_unused_rejection_does_not_affect_the_next_caller() {
    let (_, mut service, door) = with_door();
    service.ready().await.unwrap();
    door.set(true);
    sleep(60 * SECOND).await;
    assert_eq!(call(&mut service, 900 * MS).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_readiness_that_was_waited_for_and_left_is_not_charged_an_hour_later() {
    let (_, mut service, door) = with_door();
    let mut waiting = task::spawn(());
    assert_pending!(waiting.enter(|cx, _| Service::<Duration>::poll_ready(&mut service, cx)));
    advance(900 * MS).await;
    door.set(true);
    assert!(assert_ready!(waiting.enter(|cx, _| Service::<Duration>::poll_ready(&mut service, cx))).is_ok());
    advance(3_600 * SECOND).await;
    assert_eq!(call(&mut service, 900 * MS).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_was_shed_once_and_is_ready_a_minute_later_is_called() {
    let layer = TimeoutLayer::new(including());
    let mut service = ServiceBuilder::new()
        .layer(LoadShedLayer::new())
        .layer(layer)
        .layer(ConcurrencyLimitLayer::new(1))
        .service(takes());
    async fn call<S>(service: &mut S, takes: Duration) -> Result<Duration, BoxError>
    where
        S: Service<Duration, Response = Duration, Error = BoxError>,
    {
        service.ready().await?.call(takes).await
    }
    for _ in 0..3 {
        let under_way = service.ready().await.unwrap().call(3_600 * SECOND);
        for _ in 0..5 {
            let error = call(&mut service, SECOND).await.unwrap_err();
            assert!(error.is::<tower::load_shed::error::Overloaded>(), "{error}");
            advance(100 * MS).await;
        }
        advance(60 * SECOND).await;
        drop(under_way);
        assert_eq!(call(&mut service, 900 * MS).await.unwrap(), 900 * MS);
    }
}

/// Each task polls once and none waits, so the last one is not charged for the time of the others.
#[tokio::test(start_paused = true)]
async fn calls_that_were_shed_a_moment_ago_take_no_time_from_the_next() {
    let (_, service, door) = with_door();
    let mut service = ServiceBuilder::new().layer(LoadShedLayer::new()).service(service);
    for _ in 0..8 {
        assert!(service.ready().await.unwrap().call(MS).await.is_err());
        advance(100 * MS).await;
    }
    door.set(true);
    assert!(service.ready().await.unwrap().call(900 * MS).await.is_ok());
}

/// Each poll is later than that of a task that waits should be.
#[tokio::test(start_paused = true)]
async fn a_wait_in_a_slow_task_ends_at_its_limit_all_the_same() {
    let (_, mut service, door) = with_door();
    let mut waiting = task::spawn(());
    let mut polls = 0;
    while waiting.enter(|cx, _| Service::<Duration>::poll_ready(&mut service, cx)).is_pending() {
        door.waiting.borrow().as_ref().unwrap().wake_by_ref();
        advance(200 * MS).await;
        polls += 1;
        assert!(polls < 10, "the limit was not seen");
    }
    assert_eq!(polls, 5);
    assert_refused(service.call(MS).await, "outer", Reason::TotalTimeout, SECOND);
}

/// A sibling future in the same task causes extra polls.
#[tokio::test(start_paused = true)]
async fn a_wait_in_a_busy_task_ends_at_its_limit_all_the_same() {
    let (_, mut service, _) = with_door();
    let began = Instant::now();
    let mut ticks = tokio::time::interval(70 * MS);
    let waiting = call(&mut service, MS);
    let mut waiting = std::pin::pin!(waiting);
    let result = loop {
        tokio::select! {
            result = &mut waiting => break result,
            _ = ticks.tick() => {}
        }
    };
    assert_refused(result, "outer", Reason::TotalTimeout, SECOND);
    assert_eq!(began.elapsed(), SECOND);
}

/// The task polls later than a quarter of the limit after each wake-up.
#[tokio::test(start_paused = true)]
async fn a_wait_in_a_task_that_is_always_late_ends_all_the_same() {
    for limit in [100 * MS, 400 * MS, 2 * SECOND] {
        let (layer, mut service, door) = with_door();
        layer.handle().reconfigure(including().limit(Limit::Fixed(limit))).unwrap();
        let began = Instant::now();
        let mut waiting = task::spawn(());
        while waiting.enter(|cx, _| Service::<Duration>::poll_ready(&mut service, cx)).is_pending() {
            assert!(began.elapsed() < 10 * limit, "the limit of {limit:?} was not seen");
            while !waiting.is_woken() {
                advance(MS).await;
            }
            advance(110 * MS + limit / 2).await;
        }
        assert_refused(service.call(MS).await, "outer", Reason::TotalTimeout, limit);
        assert_eq!(door.calls.get(), 0);
        assert!(began.elapsed() <= 2 * (limit + 115 * MS + limit / 2), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejection_seen_by_one_task_does_not_affect_another() {
    for is_open in [true, false] {
        let (_, mut service, door) = with_door();
        let (mut first, mut second) = (task::spawn(()), task::spawn(()));
        assert_pending!(first.enter(|cx, _| Service::<Duration>::poll_ready(&mut service, cx)));
        advance(SECOND + MS).await;
        assert!(first.is_woken());
        assert_ready!(first.enter(|cx, _| Service::<Duration>::poll_ready(&mut service, cx))).unwrap();
        advance(50 * MS).await;
        door.set(is_open);
        let is_ready = second.enter(|cx, _| Service::<Duration>::poll_ready(&mut service, cx));
        assert_eq!(is_ready.is_ready(), is_open);
        if is_open {
            assert_eq!(service.call(900 * MS).await, Ok(()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_of_one_task_is_not_charged_to_another() {
    let (_, mut service, door) = with_door();
    let (mut first, mut second) = (task::spawn(()), task::spawn(()));
    assert_pending!(first.enter(|cx, _| Service::<Duration>::poll_ready(&mut service, cx)));
    advance(800 * MS).await;
    door.set(true);
    for task in [&mut first, &mut second] {
        assert_ready!(task.enter(|cx, _| Service::<Duration>::poll_ready(&mut service, cx))).unwrap();
    }
    assert_eq!(service.call(500 * MS).await, Ok(()));
}
