//! Timeouts through the public API under paused time: the end of a call, its moment and its reason.

#![allow(clippy::disallowed_methods, reason = "a test moves the clock, and its services take time")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

#[path = "support/fault.rs"]
mod fault;
#[path = "timeout/late.rs"]
mod late;
#[path = "timeout/measured.rs"]
mod measured;
#[path = "timeout/names.rs"]
mod names;
#[path = "timeout/readiness.rs"]
mod readiness;
#[path = "timeout/watched.rs"]
mod watched;

use std::future::{Future, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::fault::Fault;
use stanchion::circuit_breaker::State;
use stanchion::protocol::{BodyTimer, RequestContext, Timeouts, WrapBody};
use stanchion::telemetry::{Event, LayerId};
use stanchion::timeout::{Limit, MinRemaining, Scope};
use stanchion::{
    Budget, BudgetConfig, CircuitBreakerConfig, CircuitBreakerLayer, Deadline, Error, Reason, Rejected,
    RetryConfig, RetryLayer, TimeoutConfig, TimeoutLayer,
};
use tokio::time::{Instant, advance, sleep};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

type Failure = Error<Fault>;

/// A request that says how long it takes, and carries what layers add to it.
#[derive(Clone, Copy, Debug, Default)]
struct Query {
    takes: Duration,
    deadline: Option<Deadline>,
    timeouts: Timeouts,
}

impl Query {
    fn of(takes: Duration) -> Self {
        Self { takes, ..Self::default() }
    }

    fn within(self, left: Duration) -> Self {
        Self { deadline: Some(Deadline::after(left)), ..self }
    }

    fn total(mut self, limit: Duration) -> Self {
        self.timeouts.total = Some(limit);
        self
    }

    fn attempt(mut self, limit: Duration) -> Self {
        self.timeouts.attempt = Some(limit);
        self
    }
}

/// The protocol of these requests.
#[derive(Clone, Copy, Debug)]
struct Queries;

impl RequestContext<Query> for Queries {
    fn deadline(&self, query: &Query) -> Option<Deadline> {
        query.deadline
    }

    fn set_deadline(&self, query: &mut Query, deadline: Deadline) {
        query.deadline = Some(deadline);
    }

    fn timeouts(&self, query: &Query) -> Timeouts {
        query.timeouts
    }
}

impl<Res> WrapBody<Res> for Queries {
    type Wrapped = Res;

    fn wrap_body(&self, answer: Res, _: Option<BodyTimer>) -> Res {
        answer
    }
}

/// A service that responds with the deadline of the request, after the time the request takes.
#[derive(Clone, Debug, Default)]
struct Backend {
    calls: Arc<AtomicU32>,
    alive: Arc<()>,
}

impl Backend {
    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }

    fn in_flight(&self) -> usize {
        Arc::strong_count(&self.alive)
    }
}

impl Service<Query> for Backend {
    type Response = Option<Deadline>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Option<Deadline>, Failure>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, query: Query) -> Self::Future {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let alive = Arc::clone(&self.alive);
        Box::pin(async move {
            let _alive = alive;
            if !query.takes.is_zero() {
                sleep(query.takes).await;
            }
            Ok(query.deadline)
        })
    }
}

/// A service that takes the time that the request says.
fn takes() -> impl Service<Duration, Response = Duration, Error = Failure, Future: Send> + Clone + use<> {
    service_fn(|takes: Duration| async move {
        sleep(takes).await;
        Ok::<_, Failure>(takes)
    })
}

fn after(limit: Duration) -> TimeoutLayer {
    TimeoutLayer::after(limit).name("outer")
}

fn per_attempt(limit: Duration) -> TimeoutLayer {
    TimeoutLayer::per_attempt(limit).name("inner")
}

#[track_caller]
fn rejected<T: std::fmt::Debug, E: std::fmt::Debug>(result: Result<T, Error<E>>) -> Rejected {
    match result {
        Err(Error::Rejected(rejected)) => rejected,
        other => panic!("not given up: {other:?}"),
    }
}

#[track_caller]
fn assert_given_up<T: std::fmt::Debug, E: std::fmt::Debug>(
    result: Result<T, Error<E>>,
    policy: &str,
    reason: Reason,
    limit: Duration,
) {
    let rejected = rejected(result);
    assert_eq!(
        (rejected.layer(), rejected.reason(), rejected.limit(), rejected.reached_service()),
        (policy, reason, Some(limit), true)
    );
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug, E: std::fmt::Debug>(
    result: Result<T, Error<E>>,
    policy: &str,
    reason: Reason,
    limit: Duration,
) {
    let rejected = rejected(result);
    assert_eq!(
        (rejected.layer(), rejected.reason(), rejected.limit(), rejected.reached_service()),
        (policy, reason, Some(limit), false)
    );
}

async fn call<S: Service<R>, R>(service: &mut S, request: R) -> Result<S::Response, S::Error> {
    service.ready().await?.call(request).await
}

// The limit.

#[tokio::test(start_paused = true)]
async fn a_call_ends_exactly_at_its_limit() {
    let mut service = after(SECOND).layer(takes());
    assert_eq!(call(&mut service, SECOND - MS).await, Ok(SECOND - MS));
    let began = Instant::now();
    assert_given_up(call(&mut service, 60 * SECOND).await, "outer", Reason::TotalTimeout, SECOND);
    assert_eq!(began.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_response_at_the_limit_is_not_too_late() {
    let mut service = after(SECOND).layer(takes());
    assert_eq!(call(&mut service, SECOND).await, Ok(SECOND));
    // Even if the future is not polled for an hour.
    let mut late = task::spawn(call(&mut service, 2 * SECOND));
    assert_pending!(late.poll());
    advance(3_600 * SECOND).await;
    assert_eq!(assert_ready!(late.poll()), Ok(2 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_counted_from_the_call_and_not_from_the_first_poll() {
    let mut service = after(SECOND).layer(takes());
    let call = service.ready().await.unwrap().call(60 * SECOND);
    let began = Instant::now();
    advance(SECOND / 2).await;
    rejected(call.await);
    assert_eq!(began.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_call_first_polled_after_its_limit_is_polled_once() {
    let mut service = after(SECOND).layer(service_fn(|answers: bool| async move {
        if answers { Ok::<_, Failure>(()) } else { pending().await }
    }));
    for answers in [true, false] {
        let call = service.ready().await.unwrap().call(answers);
        advance(2 * SECOND).await;
        let mut call = task::spawn(call);
        assert_eq!(assert_ready!(call.poll()).is_ok(), answers);
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_is_dropped_before_the_caller_sees_the_timeout() {
    let backend = Backend::default();
    for query in [|| Query::of(60 * SECOND), || Query::of(60 * SECOND).within(SECOND / 2)] {
        let mut service = after(SECOND).protocol(Queries).layer(backend.clone());
        let idle = backend.in_flight() + 1;
        let mut call = task::spawn(service.ready().await.unwrap().call(query()));
        assert_pending!(call.poll());
        assert_eq!(backend.in_flight(), idle);
        advance(SECOND).await;
        assert!(call.is_woken());
        rejected(assert_ready!(call.poll()));
        // The future still exists, but what it held is gone.
        assert_eq!(backend.in_flight(), idle - 1);
    }
}

#[tokio::test(start_paused = true)]
async fn observers_see_the_timeout_after_the_service_is_dropped() {
    let backend = Backend::default();
    let at_event = Arc::new(AtomicU32::new(0));
    let (alive, seen) = (Arc::clone(&backend.alive), Arc::clone(&at_event));
    let layer = after(SECOND).observer(move |_: &LayerId, _: &Event<'_>| {
        seen.store(u32::try_from(Arc::strong_count(&alive)).unwrap(), Ordering::Relaxed);
    });
    let mut service = layer.protocol(Queries).layer(backend.clone());
    let idle = backend.in_flight();
    rejected(call(&mut service, Query::of(60 * SECOND)).await);
    assert_eq!(at_event.load(Ordering::Relaxed) as usize, idle);
}

/// A service that uses up tokio's budget for its task on each poll.
async fn spends_all_that_its_task_has<T>() -> T {
    poll_fn(|cx| {
        while let Poll::Ready(()) = std::pin::pin!(tokio::task::consume_budget()).poll(cx) {}
        Poll::Pending
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_service_that_spends_the_budget_of_its_task_does_not_hold_up_the_timer() {
    let mut service =
        after(SECOND).layer(service_fn(|()| spends_all_that_its_task_has::<Result<(), Failure>>()));
    service.ready().await.unwrap();
    let call = tokio::spawn(service.call(()));
    for _ in 0..5 {
        tokio::task::yield_now().await;
        advance(SECOND).await;
    }
    assert!(call.is_finished(), "the timer was not heard");
    assert_given_up(call.await.unwrap(), "outer", Reason::TotalTimeout, SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_moves_to_another_task_is_given_up_there() {
    let mut service = after(SECOND).layer(takes());
    let mut call = Box::pin(service.ready().await.unwrap().call(60 * SECOND));
    let [mut first, mut last] = [(); 2].map(task::spawn);
    for task in [&mut first, &mut last] {
        assert_pending!(task.enter(|cx, _| call.as_mut().poll(cx)));
    }
    advance(SECOND).await;
    assert!(last.is_woken());
    rejected(assert_ready!(last.enter(|cx, _| call.as_mut().poll(cx))));
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_service_is_no_timeout() {
    let mut service = after(SECOND).layer(service_fn(|()| async {
        sleep(MS).await;
        panic!("as it was written");
        #[allow(unreachable_code, reason = "it says what would be answered")]
        Ok::<_, Failure>(())
    }));
    service.ready().await.unwrap();
    assert!(tokio::spawn(service.call(())).await.unwrap_err().is_panic());
}

#[tokio::test(start_paused = true)]
async fn an_endless_limit_never_expires() {
    for limit in [Duration::MAX, 30 * YEAR, 1_000 * YEAR] {
        let mut service = after(limit).layer(takes());
        assert_eq!(call(&mut service, YEAR).await, Ok(YEAR));
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_for_ever_is_over_after_thirty_years_and_is_told() {
    let mut service = after(Duration::MAX).layer(service_fn(|()| pending::<Result<(), Failure>>()));
    let began = Instant::now();
    let rejected = rejected(call(&mut service, ()).await);
    assert_eq!(began.elapsed(), 30 * YEAR);
    assert!(rejected.limit().is_some_and(|limit| limit > 500 * YEAR), "{rejected}");
    assert_eq!(rejected.retry_after(), None);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_ahead_ends_only_calls_in_flight() {
    let layer = after(SECOND);
    let mut service = layer.layer(takes());
    let mut under_way = task::spawn(call(&mut service, 2 * YEAR));
    assert_pending!(under_way.poll());
    advance(YEAR).await;
    rejected(assert_ready!(under_way.poll()));
    drop(under_way);
    assert_eq!(call(&mut service, MS).await, Ok(MS));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_is_no_timeout() {
    let events = Arc::new(AtomicU32::new(0));
    let heard = Arc::clone(&events);
    let layer = after(SECOND).observer(move |_: &LayerId, _: &Event<'_>| {
        heard.fetch_add(1, Ordering::Relaxed);
    });
    let mut service = layer.layer(takes());
    for passed in [Duration::ZERO, SECOND / 2, 2 * SECOND] {
        let mut call = task::spawn(call(&mut service, 60 * SECOND));
        assert_pending!(call.poll());
        advance(passed).await;
        drop(call);
    }
    assert_eq!(events.load(Ordering::Relaxed), 0);
    rejected(call(&mut service, 60 * SECOND).await);
    assert_eq!(events.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_service_passes_as_it_is() {
    let mut service =
        after(SECOND).layer(service_fn(|()| ready(Err::<(), _>(Error::Inner(Fault("broken"))))));
    assert_eq!(call(&mut service, ()).await, Err(Error::Inner(Fault("broken"))));
}

#[tokio::test(start_paused = true)]
async fn the_error_may_be_any_that_can_hold_a_rejection() {
    let mut service = after(SECOND).layer(service_fn(|()| pending::<Result<(), tower::BoxError>>()));
    let error = call(&mut service, ()).await.unwrap_err();
    assert_eq!(Rejected::find(&*error).unwrap().reason(), Reason::TotalTimeout);
}

// The reason.

#[tokio::test(start_paused = true)]
async fn a_rejection_names_the_timeout_that_fired() {
    let stack = |total, attempt| {
        ServiceBuilder::new().layer(after(total)).layer(per_attempt(attempt)).service(takes())
    };
    let first = call(&mut stack(2 * SECOND, SECOND), 60 * SECOND).await;
    assert_given_up(first, "inner", Reason::AttemptTimeout, SECOND);
    let second = call(&mut stack(SECOND, 2 * SECOND), 60 * SECOND).await;
    assert_given_up(second, "outer", Reason::TotalTimeout, SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_inner_of_two_simultaneous_timeouts_reports_once() {
    let events = Arc::new(AtomicU32::new(0));
    let count = || {
        let heard = Arc::clone(&events);
        move |_: &LayerId, _: &Event<'_>| {
            heard.fetch_add(1, Ordering::Relaxed);
        }
    };
    let mut service = ServiceBuilder::new()
        .layer(after(SECOND).observer(count()))
        .layer(per_attempt(SECOND).observer(count()))
        .service(takes());
    assert_given_up(call(&mut service, 60 * SECOND).await, "inner", Reason::AttemptTimeout, SECOND);
    assert_eq!(events.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_may_ask_for_more_or_less_than_is_configured() {
    let backend = Backend::default();
    let mut total = after(SECOND).protocol(Queries).layer(backend.clone());
    let mut attempt = per_attempt(SECOND).protocol(Queries).layer(backend.clone());
    let slow = Query::of(3 * SECOND);

    assert!(call(&mut total, slow.total(4 * SECOND)).await.is_ok());
    let result = call(&mut total, slow.total(MS)).await;
    assert_given_up(result, "outer", Reason::TotalTimeout, MS);
    assert!(call(&mut attempt, slow.attempt(4 * SECOND)).await.is_ok());
    let result = call(&mut attempt, slow.attempt(MS)).await;
    assert_given_up(result, "inner", Reason::AttemptTimeout, MS);

    // Each layer reads its own timeout.
    let result = call(&mut total, slow.attempt(4 * SECOND)).await;
    assert_given_up(result, "outer", Reason::TotalTimeout, SECOND);
    let result = call(&mut attempt, slow.total(4 * SECOND)).await;
    assert_given_up(result, "inner", Reason::AttemptTimeout, SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_asks_for_no_time_is_not_sent() {
    let backend = Backend::default();
    let mut service = after(SECOND).protocol(Queries).layer(backend.clone());
    let result = call(&mut service, Query::default().total(Duration::ZERO)).await;
    assert_refused(result, "outer", Reason::TotalTimeout, Duration::ZERO);
    assert_eq!(backend.calls(), 0);
    assert!(call(&mut service, Query::of(YEAR).total(Duration::MAX)).await.is_ok());
}

// Deadlines.

#[tokio::test(start_paused = true)]
async fn inner_layers_see_the_limit_as_a_deadline() {
    let mut service = after(SECOND).protocol(Queries).layer(Backend::default());
    let began = Instant::now();
    let seen = call(&mut service, Query::default()).await.unwrap();
    assert_eq!(seen, Some(Deadline::at(began + SECOND)));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_shortened_and_never_put_off() {
    let mut short = ServiceBuilder::new()
        .layer(after(5 * SECOND).protocol(Queries))
        .layer(per_attempt(SECOND).protocol(Queries))
        .service(Backend::default());
    let mut long = ServiceBuilder::new()
        .layer(after(SECOND).protocol(Queries))
        .layer(per_attempt(5 * SECOND).protocol(Queries))
        .service(Backend::default());
    let began = Instant::now();
    let at = |left| Some(Deadline::at(began + left));
    assert_eq!(call(&mut short, Query::default()).await.unwrap(), at(SECOND));
    assert_eq!(call(&mut long, Query::default()).await.unwrap(), at(SECOND));
    for own in [SECOND / 2, MS] {
        assert_eq!(call(&mut short, Query::default().within(own)).await.unwrap(), at(own));
        assert_eq!(call(&mut long, Query::default().within(own)).await.unwrap(), at(own));
    }
    assert_eq!(call(&mut short, Query::default().within(9 * SECOND)).await.unwrap(), at(SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_a_moment_that_comes_nearer_and_passes() {
    let deadline = Deadline::after(SECOND);
    assert_eq!(deadline, Deadline::at(Instant::now() + SECOND));
    assert_eq!(deadline.instant(), Instant::now() + SECOND);
    advance(600 * MS).await;
    assert_eq!(deadline.remaining(), 400 * MS);
    assert_eq!(deadline.earlier(Deadline::after(SECOND)), deadline);
    assert_eq!(Deadline::after(SECOND).earlier(deadline), deadline);
    advance(YEAR).await;
    assert_eq!(deadline.remaining(), Duration::ZERO);
    assert_eq!(Deadline::after(Duration::MAX).remaining(), 30 * YEAR);
    assert_eq!(Deadline::after(Duration::ZERO).remaining(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_call_that_has_a_longer_limit() {
    let mut service = after(9 * SECOND).protocol(Queries).layer(Backend::default());
    let began = Instant::now();
    let result = call(&mut service, Query::of(60 * SECOND).within(SECOND)).await;
    assert_given_up(result, "outer", Reason::DeadlineExceeded, SECOND);
    assert_eq!(began.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_outer_limit_is_named_by_the_layer_that_has_set_it() {
    let mut service = ServiceBuilder::new()
        .layer(after(SECOND).protocol(Queries))
        .layer(per_attempt(9 * SECOND).protocol(Queries))
        .service(Backend::default());
    let result = call(&mut service, Query::of(60 * SECOND)).await;
    assert_given_up(result, "outer", Reason::TotalTimeout, SECOND);
    // The deadline that came with the request is no layer's limit.
    let result = call(&mut service, Query::of(60 * SECOND).within(500 * MS)).await;
    assert_given_up(result, "inner", Reason::DeadlineExceeded, 500 * MS);
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_of_its_own_a_layer_goes_by_the_deadline() {
    let layer =
        TimeoutLayer::new(TimeoutConfig::new().limit(Limit::Deadline)).name("outer").protocol(Queries);
    assert_eq!(layer.handle().limit(), None);
    let mut service = layer.layer(Backend::default());
    assert_eq!(call(&mut service, Query::of(YEAR)).await, Ok(None));
    let result = call(&mut service, Query::of(60 * SECOND).within(SECOND)).await;
    assert_given_up(result, "outer", Reason::DeadlineExceeded, SECOND);
    let result = call(&mut service, Query::of(60 * SECOND).total(2 * SECOND)).await;
    assert_given_up(result, "outer", Reason::TotalTimeout, 2 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_cannot_be_in_time_is_not_made() {
    let config = TimeoutConfig::new().min_remaining(MinRemaining::Fixed(SECOND));
    let backend = Backend::default();
    let mut service = TimeoutLayer::new(config).name("outer").protocol(Queries).layer(backend.clone());
    for left in [Duration::ZERO, MS, SECOND - MS] {
        let result = call(&mut service, Query::default().within(left)).await;
        assert_refused(result, "outer", Reason::DeadlineExceeded, left);
    }
    assert_eq!(backend.calls(), 0);
    assert!(call(&mut service, Query::default().within(SECOND)).await.is_ok());

    let mut any = after(SECOND).protocol(Queries).layer(backend.clone());
    let passed = Query::default().within(MS);
    advance(SECOND).await;
    assert_refused(call(&mut any, passed).await, "outer", Reason::DeadlineExceeded, Duration::ZERO);
    assert_eq!(backend.calls(), 1);
    assert!(call(&mut any, Query::default().within(Duration::from_nanos(1))).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_would_likely_be_too_late_is_not_made() {
    let config = TimeoutConfig::new().min_remaining(MinRemaining::Measured(0.5));
    let backend = Backend::default();
    let mut service = TimeoutLayer::new(config).name("outer").protocol(Queries).layer(backend.clone());
    // Nothing has been measured yet.
    assert!(call(&mut service, Query::default().within(MS)).await.is_ok());
    for _ in 0..120 {
        assert!(call(&mut service, Query::of(100 * MS)).await.is_ok());
    }
    let before = backend.calls();
    let result = call(&mut service, Query::default().within(90 * MS)).await;
    assert_refused(result, "outer", Reason::DeadlineExceeded, 90 * MS);
    assert_eq!(backend.calls(), before);
    assert!(call(&mut service, Query::default().within(110 * MS)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_calls_take_is_known_also_where_only_deadlines_limit_them() {
    let config = TimeoutConfig::new().limit(Limit::Deadline).min_remaining(MinRemaining::Measured(0.5));
    let mut service = TimeoutLayer::new(config).name("outer").protocol(Queries).layer(Backend::default());
    for _ in 0..120 {
        assert!(call(&mut service, Query::of(100 * MS)).await.is_ok());
    }
    let result = call(&mut service, Query::default().within(90 * MS)).await;
    assert_refused(result, "outer", Reason::DeadlineExceeded, 90 * MS);
}

// Readiness.

/// A service that is not ready before a time that can be postponed.
#[derive(Debug)]
struct Busy {
    until: Instant,
    timer: Pin<Box<tokio::time::Sleep>>,
    calls: u32,
}

impl Busy {
    fn for_the_next(busy: Duration) -> Self {
        Self { until: Instant::now() + busy, timer: Box::pin(sleep(busy)), calls: 0 }
    }

    fn put_off(&mut self, busy: Duration) {
        self.until = Instant::now() + busy;
        self.timer = Box::pin(sleep(busy));
    }
}

impl Clone for Busy {
    fn clone(&self) -> Self {
        Self::for_the_next(self.until - Instant::now())
    }
}

impl Service<Query> for Busy {
    type Response = ();
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.timer.as_mut().poll(cx).map(Ok)
    }

    fn call(&mut self, query: Query) -> Self::Future {
        assert!(self.timer.is_elapsed(), "called before it was ready");
        self.calls += 1;
        Box::pin(async move {
            sleep(query.takes).await;
            Ok(())
        })
    }
}

type WithReadiness = stanchion::Timeout<Busy, Queries>;

/// Returns a service with a limit of one second on readiness and call.
fn with_readiness(busy: Duration) -> WithReadiness {
    let config = TimeoutConfig::new().limit(Limit::Fixed(SECOND)).includes_readiness(true);
    TimeoutLayer::new(config).name("outer").protocol(Queries).layer(Busy::for_the_next(busy))
}

async fn is_ready(service: &mut WithReadiness) {
    poll_fn(|cx| Service::<Query>::poll_ready(service, cx)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn waiting_for_readiness_is_not_limited_unless_that_is_asked_for() {
    let mut service = after(SECOND).protocol(Queries).layer(Busy::for_the_next(3_600 * SECOND));
    assert_eq!(call(&mut service, Query::of(SECOND / 2)).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_never_ready_delays_callers_by_at_most_the_limit() {
    let mut service = with_readiness(YEAR);
    for _ in 0..3 {
        let began = Instant::now();
        let result = call(&mut service, Query::default()).await;
        assert_refused(result, "outer", Reason::TotalTimeout, SECOND);
        assert_eq!(began.elapsed(), SECOND);
    }
    assert_eq!(service.get_ref().calls, 0);
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_readiness_is_deducted_from_the_limit() {
    let began = Instant::now();
    let result = call(&mut with_readiness(600 * MS), Query::of(600 * MS)).await;
    assert_given_up(result, "outer", Reason::TotalTimeout, SECOND);
    assert_eq!(began.elapsed(), SECOND);
    assert_eq!(call(&mut with_readiness(600 * MS), Query::of(400 * MS)).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn each_call_waits_anew() {
    let mut service = with_readiness(600 * MS);
    for _ in 0..3 {
        assert_eq!(call(&mut service, Query::of(300 * MS)).await, Ok(()));
        service.get_mut().put_off(600 * MS);
    }
}

#[tokio::test(start_paused = true)]
async fn time_between_readiness_and_call_is_the_callers_own() {
    for (takes, is_in_time) in [(300 * MS, true), (500 * MS, false)] {
        let mut service = with_readiness(600 * MS);
        is_ready(&mut service).await;
        is_ready(&mut service).await;
        advance(3_600 * SECOND).await;
        let result = service.call(Query::of(takes)).await;
        assert_eq!(result.is_ok(), is_in_time, "{result:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_ready_too_late_is_not_called() {
    let mut service = with_readiness(1_050 * MS);
    let mut waiting = task::spawn(());
    assert_pending!(waiting.enter(|cx, _| Service::<Query>::poll_ready(&mut service, cx)));
    advance(SECOND).await;
    assert!(assert_ready!(waiting.enter(|cx, _| Service::<Query>::poll_ready(&mut service, cx))).is_ok());
    advance(60 * SECOND).await;
    let result = service.call(Query::default()).await;
    assert_refused(result, "outer", Reason::TotalTimeout, SECOND);
    assert_eq!(service.get_ref().calls, 0);
    assert_eq!(call(&mut service, Query::of(SECOND / 2)).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_rejection_in_poll_ready_is_repeated() {
    let mut service = with_readiness(1_050 * MS);
    for _ in 0..3 {
        is_ready(&mut service).await;
    }
    // The service is ready by now, but too late for this call.
    advance(60 * MS).await;
    is_ready(&mut service).await;
    let result = service.call(Query::default()).await;
    assert_refused(result, "outer", Reason::TotalTimeout, SECOND);
    assert_eq!(call(&mut service, Query::default()).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn the_last_task_that_waits_is_woken_by_the_limit() {
    let mut service = with_readiness(YEAR);
    let [mut first, mut last] = [(); 2].map(task::spawn);
    for task in [&mut first, &mut last] {
        assert_pending!(task.enter(|cx, _| Service::<Query>::poll_ready(&mut service, cx)));
    }
    advance(SECOND).await;
    assert!(last.is_woken());
    assert!(assert_ready!(last.enter(|cx, _| Service::<Query>::poll_ready(&mut service, cx))).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_clone_of_a_service_that_waits_has_its_whole_limit() {
    let mut service = with_readiness(YEAR);
    let mut waiting = task::spawn(());
    assert_pending!(waiting.enter(|cx, _| Service::<Query>::poll_ready(&mut service, cx)));
    advance(SECOND / 2).await;
    let (mut clone, began) = (service.clone(), Instant::now());
    rejected(call(&mut clone, Query::default()).await);
    assert_eq!(began.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_asks_for_more_cannot_have_been_waited_for_any_longer() {
    let mut service = with_readiness(YEAR);
    let result = call(&mut service, Query::default().total(60 * SECOND)).await;
    assert_refused(result, "outer", Reason::TotalTimeout, SECOND);
    let result = call(&mut with_readiness(600 * MS), Query::default().total(500 * MS)).await;
    assert_refused(result, "outer", Reason::TotalTimeout, 500 * MS);
    let result = call(&mut with_readiness(600 * MS), Query::of(5 * SECOND).total(6 * SECOND)).await;
    assert_eq!(result, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_an_error_of_the_service() {
    /// Pending for two polls, an error, pending for two polls, then ready. A service that is
    /// pending is polled once more.
    #[derive(Debug)]
    struct Moody(u32);

    impl Service<Duration> for Moody {
        type Response = ();
        type Error = Failure;
        type Future = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
            self.0 += 1;
            match self.0 {
                3 => Poll::Ready(Err(Error::Inner(Fault("broken")))),
                1 | 2 | 4 | 5 => Poll::Pending,
                _ => Poll::Ready(Ok(())),
            }
        }

        fn call(&mut self, takes: Duration) -> Self::Future {
            Box::pin(async move {
                sleep(takes).await;
                Ok(())
            })
        }
    }

    let config = TimeoutConfig::new().limit(Limit::Fixed(SECOND)).includes_readiness(true);
    let mut service = TimeoutLayer::new(config).layer(Moody(0));
    let mut task = task::spawn(());
    let mut poll = |service: &mut _| task.enter(|cx, _| Service::<Duration>::poll_ready(service, cx));
    assert_pending!(poll(&mut service));
    advance(600 * MS).await;
    assert_eq!(assert_ready!(poll(&mut service)), Err(Error::Inner(Fault("broken"))));
    advance(3_600 * SECOND).await;
    assert_pending!(poll(&mut service));
    assert_eq!(assert_ready!(poll(&mut service)), Ok(()));
    assert_eq!(service.call(900 * MS).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_spends_the_budget_while_it_is_waited_for_is_given_up() {
    /// A service that is never ready.
    #[derive(Debug)]
    struct Spends;

    impl Service<()> for Spends {
        type Response = ();
        type Error = Failure;
        type Future = std::future::Ready<Result<(), Failure>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
            std::pin::pin!(spends_all_that_its_task_has()).poll(cx)
        }

        fn call(&mut self, (): ()) -> Self::Future {
            panic!("called before it was ready")
        }
    }

    let config = TimeoutConfig::new().limit(Limit::Fixed(SECOND)).includes_readiness(true);
    let mut service = TimeoutLayer::new(config).name("outer").layer(Spends);
    let waiting = tokio::spawn(async move { call(&mut service, ()).await });
    for _ in 0..12 {
        tokio::task::yield_now().await;
        advance(SECOND / 10).await;
    }
    assert!(waiting.is_finished(), "the timer was not heard");
    assert_refused(waiting.await.unwrap(), "outer", Reason::TotalTimeout, SECOND);
}

#[tokio::test(start_paused = true)]
async fn what_is_waited_for_readiness_is_measured_with_the_call() {
    let layer = TimeoutLayer::new(adaptive(2.0).includes_readiness(true)).protocol(Queries);
    let mut service = layer.layer(Busy::for_the_next(60 * MS));
    for _ in 0..150 {
        assert_eq!(call(&mut service, Query::of(40 * MS)).await, Ok(()));
        service.get_mut().put_off(60 * MS);
    }
    advance(3 * SECOND).await;
    assert!(is_about(layer.handle().limit(), 200 * MS), "{:?}", layer.handle().limit());
}

// Adaptive limits.

fn adaptive(factor: f64) -> TimeoutConfig {
    let (min, max) = (10 * MS, 10 * SECOND);
    TimeoutConfig::new().limit(Limit::Adaptive { quantile: 0.99, factor, min, max })
}

/// Returns `true` if `limit` is `exact`, or above it by less than the width of a bucket.
fn is_about(limit: Option<Duration>, exact: Duration) -> bool {
    limit.is_some_and(|limit| limit >= exact && limit < exact + exact / 30)
}

/// Returns how many of 200 concurrent calls are given up.
async fn late_of_many(layer: &TimeoutLayer, time: Duration) -> usize {
    let service = layer.layer(takes());
    let calls: Vec<_> = (0..200).map(|_| tokio::spawn(service.clone().oneshot(time))).collect();
    let mut late = 0;
    for call in calls {
        late += usize::from(call.await.unwrap().is_err());
    }
    // The limit is computed ten times in 30 s.
    advance(3 * SECOND).await;
    late
}

#[tokio::test(start_paused = true)]
async fn a_measured_limit_follows_what_calls_take_down_and_up_and_down_again() {
    let layer = TimeoutLayer::new(adaptive(2.0));
    let (handle, mut service) = (layer.handle(), layer.layer(takes()));
    for _ in 0..99 {
        assert_eq!(handle.limit(), Some(10 * SECOND), "so few calls tell nothing");
        assert!(call(&mut service, 100 * MS).await.is_ok());
    }
    assert_eq!(late_of_many(&layer, 100 * MS).await, 0);
    for (takes, is_slower) in [(100 * MS, false), (SECOND, true), (100 * MS, false)] {
        let mut late = 0;
        for _ in 0..15 {
            late += late_of_many(&layer, takes).await;
        }
        assert!(is_about(handle.limit(), 2 * takes), "{:?} for calls of {takes:?}", handle.limit());
        assert_eq!(late > 0, is_slower, "{late} calls of {takes:?} were cut off");
        assert!(late <= 5 * 200, "{late} calls were cut off until the limit had grown");
    }
}

#[tokio::test(start_paused = true)]
async fn a_measured_limit_that_has_cut_off_every_call_grows_until_they_pass() {
    let layer = TimeoutLayer::new(adaptive(1.2));
    let (handle, mut service) = (layer.handle(), layer.layer(takes()));
    for _ in 0..150 {
        assert!(call(&mut service, 100 * MS).await.is_ok());
    }
    advance(3 * SECOND).await;
    assert!(is_about(handle.limit(), 120 * MS));
    let slow = 2 * SECOND;
    let began = Instant::now();
    while call(&mut service, slow).await.is_err() {
        assert!(began.elapsed() < 300 * SECOND, "still at {:?}", handle.limit());
    }
}

#[tokio::test(start_paused = true)]
async fn a_measured_limit_stays_within_its_ends() {
    let layer = TimeoutLayer::new(adaptive(100.0));
    let handle = layer.handle();
    assert_eq!(late_of_many(&layer, SECOND).await, 0);
    assert_eq!(handle.limit(), Some(10 * SECOND));
    advance(YEAR).await;
    assert_eq!(late_of_many(&layer, Duration::ZERO).await, 0);
    assert_eq!(handle.limit(), Some(10 * MS));
    // Old measurements do not count.
    advance(YEAR).await;
    assert_eq!(handle.limit(), Some(10 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn calls_that_fail_or_are_cancelled_say_nothing_about_how_long_they_take() {
    let layer = TimeoutLayer::new(adaptive(2.0));
    let mut service = layer.layer(service_fn(|fails: bool| async move {
        if fails { Err::<(), _>(Error::Inner(Fault("refused at once"))) } else { pending().await }
    }));
    for _ in 0..300 {
        assert!(call(&mut service, true).await.is_err());
        assert_pending!(task::spawn(call(&mut service, false)).poll());
    }
    advance(3 * SECOND).await;
    assert_eq!(layer.handle().limit(), Some(10 * SECOND));
}

/// Otherwise calls with little time would set the limit of all others, which could then not show
/// that they need more.
#[tokio::test(start_paused = true)]
async fn calls_that_had_less_time_than_the_limit_do_not_lower_it() {
    let layer = TimeoutLayer::new(adaptive(2.0)).protocol(Queries);
    let mut service = layer.layer(Backend::default());
    let hopeless = [|| Query::of(100 * MS).within(20 * MS), || Query::of(100 * MS).total(20 * MS)];
    for query in hopeless {
        for _ in 0..200 {
            rejected(call(&mut service, query()).await);
        }
        advance(3 * SECOND).await;
        assert_eq!(layer.handle().limit(), Some(10 * SECOND));
    }
    assert!(call(&mut service, Query::of(SECOND)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn calls_that_had_too_little_time_tell_how_much_is_needed_at_least() {
    let config = TimeoutConfig::new().min_remaining(MinRemaining::Measured(0.5));
    let backend = Backend::default();
    let mut service = TimeoutLayer::new(config).name("outer").protocol(Queries).layer(backend.clone());
    for _ in 0..120 {
        rejected(call(&mut service, Query::of(100 * MS).within(50 * MS)).await);
    }
    advance(3 * SECOND).await;
    let calls = backend.calls();
    let result = call(&mut service, Query::of(100 * MS).within(40 * MS)).await;
    assert_refused(result, "outer", Reason::DeadlineExceeded, 40 * MS);
    assert_eq!(backend.calls(), calls);
    assert!(call(&mut service, Query::of(100 * MS).within(110 * MS)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn each_layer_measures_by_itself_and_its_clones_with_it() {
    let slow = TimeoutLayer::new(adaptive(2.0)).name("slow");
    assert_eq!(late_of_many(&slow, SECOND).await, 0);
    assert!(is_about(slow.handle().limit(), 2 * SECOND));
    assert!(is_about(slow.clone().handle().limit(), 2 * SECOND));
    assert!(is_about(slow.clone().protocol(Queries).handle().limit(), 2 * SECOND));
    let other = TimeoutLayer::new(adaptive(2.0)).name("fast").handle();
    assert_eq!(other.limit(), Some(10 * SECOND), "{other:?}");
}

#[test]
fn a_layer_that_has_been_used_is_not_renamed_or_observed_any_more() {
    let used = TimeoutLayer::after(SECOND).name("slow");
    let _ = used.handle();
    for layer in [used.clone(), used] {
        let renamed = layer.clone();
        assert!(catch_unwind(AssertUnwindSafe(|| renamed.name("fast"))).is_err());
        assert!(catch_unwind(AssertUnwindSafe(|| layer.observer(|_: &LayerId, _: &Event<'_>| {}))).is_err());
    }
}

// Reconfiguration.

#[tokio::test(start_paused = true)]
async fn a_new_configuration_keeps_what_was_measured_and_a_bad_one_changes_nothing() {
    let layer = TimeoutLayer::new(adaptive(2.0));
    let (handle, mut service) = (layer.handle(), layer.layer(takes()));
    for _ in 0..150 {
        assert!(call(&mut service, 100 * MS).await.is_ok());
    }
    handle.reconfigure(adaptive(4.0)).unwrap();
    assert!(is_about(handle.limit(), 400 * MS), "{:?}", handle.limit());
    let before = handle.config();
    assert_eq!(handle.reconfigure(adaptive(f64::NAN)).unwrap_err().field(), "limit.factor");
    assert_eq!(handle.config(), before);
    assert!(is_about(handle.limit(), 400 * MS));
    // A different quantile has not been measured yet.
    let (min, max) = (10 * MS, 10 * SECOND);
    handle.reconfigure(before.limit(Limit::Adaptive { quantile: 0.5, factor: 2.0, min, max })).unwrap();
    assert_eq!(handle.limit(), Some(max));
}

#[tokio::test(start_paused = true)]
async fn a_new_limit_is_that_of_the_calls_that_begin_from_then_on() {
    let layer = after(SECOND);
    let (handle, mut service) = (layer.handle(), layer.layer(takes()));
    let mut under_way = task::spawn(service.ready().await.unwrap().call(60 * SECOND));
    assert_pending!(under_way.poll());
    handle.reconfigure(TimeoutConfig::new().limit(Limit::Fixed(5 * SECOND)).scope(Scope::Attempt)).unwrap();
    let began = Instant::now();
    assert_given_up(under_way.await, "outer", Reason::TotalTimeout, SECOND);
    assert_eq!(began.elapsed(), SECOND);
    let result = call(&mut layer.clone().layer(takes()), 60 * SECOND).await;
    assert_given_up(result, "outer", Reason::AttemptTimeout, 5 * SECOND);
}

// Futures that are no service.

#[tokio::test(start_paused = true)]
async fn a_future_that_is_no_call_is_limited_from_when_it_is_handed_over() {
    let handle = after(SECOND).handle();
    assert_eq!(handle.run(ready(Ok::<_, Failure>(7))).await, Ok(7));
    assert_eq!(
        handle.run(ready(Err::<u32, _>(Error::Inner(Fault("broken"))))).await,
        Err(Error::Inner(Fault("broken")))
    );
    let never = handle.run(pending::<Result<(), Failure>>());
    let began = Instant::now();
    advance(SECOND / 2).await;
    assert_given_up(never.await, "outer", Reason::TotalTimeout, SECOND);
    assert_eq!(began.elapsed(), SECOND);

    let unlimited = TimeoutLayer::new(TimeoutConfig::new().limit(Limit::Deadline)).handle();
    let slow = async {
        sleep(YEAR).await;
        Ok::<_, Failure>(7)
    };
    assert_eq!(unlimited.run(slow).await, Ok(7));
}

#[tokio::test(start_paused = true)]
async fn futures_and_calls_are_measured_together() {
    let handle = TimeoutLayer::new(adaptive(2.0)).handle();
    for _ in 0..150 {
        let query = async {
            sleep(100 * MS).await;
            Ok::<_, Failure>(())
        };
        handle.run(query).await.unwrap();
    }
    advance(3 * SECOND).await;
    assert!(is_about(handle.limit(), 200 * MS), "{:?}", handle.limit());
}

// Other layers around and inside.

fn breaker(failures: u32) -> CircuitBreakerLayer {
    let config = CircuitBreakerConfig::new().without_failure_ratio().consecutive_failures(failures);
    CircuitBreakerLayer::new(config)
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_opens_the_circuit_around_its_timeout() {
    let breaker = breaker(3);
    let mut service = ServiceBuilder::new().layer(&breaker).layer(per_attempt(SECOND)).service(takes());
    for _ in 0..3 {
        assert_eq!(breaker.handle().state(), State::Closed);
        rejected(call(&mut service, 60 * SECOND).await);
    }
    assert_eq!(breaker.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_not_made_for_lack_of_time_is_no_failure() {
    let breaker = breaker(1);
    let readiness = TimeoutConfig::new().limit(Limit::Fixed(SECOND)).includes_readiness(true);
    let mut refuses = ServiceBuilder::new()
        .layer(&breaker)
        .layer(TimeoutLayer::new(readiness).protocol(Queries))
        .service(Busy::for_the_next(YEAR));
    for _ in 0..10 {
        assert!(!rejected(call(&mut refuses, Query::default()).await).reached_service());
    }
    let mut refuses = ServiceBuilder::new()
        .layer(&breaker)
        .layer(after(SECOND).protocol(Queries))
        .service(Backend::default());
    for _ in 0..10 {
        let result = call(&mut refuses, Query::default().within(Duration::ZERO)).await;
        assert!(!rejected(result).reached_service());
    }
    assert_eq!(breaker.handle().state(), State::Closed);
    assert_eq!(breaker.handle().snapshot().calls, 0);
    // A call that was made is a failure.
    rejected(call(&mut refuses, Query::of(60 * SECOND).within(MS)).await);
    assert_eq!(breaker.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_times_out_is_a_failure_for_the_breaker_and_tried_again_by_the_retry_around_it() {
    let (breaker, slow_once) = (breaker(2), Arc::new(AtomicBool::new(true)));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let events = Arc::clone(&seen);
    let retry = RetryLayer::new(RetryConfig::new().max_attempts(3)).observer(
        move |_: &LayerId, event: &Event<'_>| {
            if let Event::Attempt { number, outcome, .. } = event {
                events.lock().unwrap().push((*number, outcome.as_str()));
            }
        },
    );
    let mut service = ServiceBuilder::new().layer(retry).layer(&breaker).layer(per_attempt(SECOND)).service(
        service_fn(|slow: Arc<AtomicBool>| async move {
            if slow.swap(false, Ordering::Relaxed) {
                pending::<()>().await;
            }
            Ok::<_, Failure>(7)
        }),
    );
    assert_eq!(call(&mut service, slow_once).await, Ok(7));
    assert_eq!(*seen.lock().unwrap(), [(1, "failure"), (2, "success")]);
    let snapshot = breaker.handle().snapshot();
    assert_eq!((snapshot.calls, snapshot.failures), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_timed_out_behind_a_breaker_is_paid_for_as_one() {
    let attempts = async |takes: Duration| {
        let budget = Budget::new(BudgetConfig::new().ratio(0.0).per_second(0.0).cap(10.0));
        let made = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&made);
        let retry = RetryLayer::new(RetryConfig::new().max_attempts(2)).budget(budget);
        let mut service =
            ServiceBuilder::new().layer(retry).layer(breaker(1_000)).layer(per_attempt(SECOND)).service(
                service_fn(move |takes: Duration| {
                    count.fetch_add(1, Ordering::Relaxed);
                    async move {
                        sleep(takes).await;
                        Err::<(), _>(Error::Inner(Fault("broken")))
                    }
                }),
            );
        for _ in 0..20 {
            call(&mut service, takes).await.unwrap_err();
        }
        made.load(Ordering::Relaxed)
    };
    assert_eq!(attempts(MS).await, 20 + 10);
    assert_eq!(attempts(60 * SECOND).await, 20 + 5);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_not_made_for_lack_of_time_is_not_tried_again() {
    let backend = Backend::default();
    let floor = TimeoutConfig::new().scope(Scope::Attempt).min_remaining(MinRemaining::Fixed(SECOND));
    let breaker = breaker(1);
    let mut service = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryConfig::new().max_attempts(5)))
        .layer(&breaker)
        .layer(TimeoutLayer::new(floor).name("inner").protocol(Queries))
        .service(backend.clone());
    let began = Instant::now();
    let result = call(&mut service, Query::default().within(SECOND / 2)).await;
    assert_refused(result, "inner", Reason::DeadlineExceeded, SECOND / 2);
    assert_eq!((backend.calls(), began.elapsed()), (0, Duration::ZERO));
    assert_eq!(breaker.handle().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_total_timeout_drops_the_attempt_under_way_and_makes_no_other() {
    let backend = Backend::default();
    let idle = backend.in_flight() + 1;
    let mut service = ServiceBuilder::new()
        .layer(after(2_500 * MS).protocol(Queries))
        .layer(RetryLayer::new(RetryConfig::new().max_attempts(100)))
        .layer(per_attempt(SECOND).protocol(Queries))
        .service(backend.clone());
    let began = Instant::now();
    let rejected = rejected(call(&mut service, Query::of(60 * SECOND)).await);
    assert_eq!(began.elapsed(), 2_500 * MS, "{rejected}");
    let calls = backend.calls();
    assert!(calls >= 2);
    assert_eq!(backend.in_flight(), idle);
    advance(60 * SECOND).await;
    assert_eq!(backend.calls(), calls);
}

#[test]
fn many_threads_under_two_limits_of_one_layer_lose_no_call() {
    const THREADS: u32 = 4;
    const CALLS: u32 = 200;
    let layer = TimeoutLayer::new(adaptive(2.0).min_remaining(MinRemaining::Measured(0.5)));
    let over = Arc::new(AtomicU32::new(0));
    let heard = Arc::clone(&over);
    let layer = layer.observer(move |_: &LayerId, _: &Event<'_>| {
        heard.fetch_add(1, Ordering::Relaxed);
    });
    let late: u32 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let mut service = layer.layer(takes());
                let handle = layer.handle();
                scope.spawn(move || {
                    let clock = tokio::runtime::Builder::new_current_thread()
                        .enable_time()
                        .start_paused(true)
                        .build();
                    clock.unwrap().block_on(async {
                        let mut late = 0;
                        for turn in 0..CALLS {
                            let takes = if turn % 10 == thread { 60 * SECOND } else { 20 * MS };
                            late += u32::from(call(&mut service, takes).await.is_err());
                            if turn == CALLS / 2 {
                                handle.reconfigure(handle.config()).unwrap();
                            }
                        }
                        late
                    })
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(late, THREADS * CALLS / 10);
    assert_eq!(over.load(Ordering::Relaxed), late);
}
