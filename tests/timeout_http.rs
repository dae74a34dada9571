//! Timeouts over HTTP and gRPC: deadlines in requests, and limits on the bodies of responses.

#![cfg(feature = "http")]
#![allow(clippy::disallowed_methods, reason = "a test moves the clock, and its bodies take time")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

#[path = "support/fault.rs"]
mod fault;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::fault::Fault;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use stanchion::http::replay_body::ReplayBody;
use stanchion::http::{Http, TimedBody};
use stanchion::protocol::Timeouts;
use stanchion::telemetry::{Event, LayerId};
use stanchion::timeout::{Covers, Limit};
use stanchion::{
    CircuitBreakerConfig, CircuitBreakerLayer, Deadline, Error, Reason, Rejected, RetryConfig, RetryLayer,
    TimeoutConfig, TimeoutLayer,
};
use tokio::time::{Instant, Sleep, advance, sleep};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

type Failure = Error<Fault>;

async fn call<S: Service<R>, R>(service: &mut S, request: R) -> Result<S::Response, S::Error> {
    service.ready().await?.call(request).await
}

// Requests.

/// The parts of a request that reached the service.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    deadline: Option<Deadline>,
    grpc_timeout: Option<String>,
}

/// Records requests, takes the given time, and fails.
fn backend<B: Send + 'static>(
    takes: Duration,
    seen: &Arc<Mutex<Vec<Seen>>>,
) -> impl Service<Request<B>, Response = Response<Full<Bytes>>, Error = Failure, Future: Send> + Clone + use<B>
{
    let seen = Arc::clone(seen);
    service_fn(move |request: Request<B>| {
        let header = request.headers().get("grpc-timeout");
        seen.lock().unwrap().push(Seen {
            deadline: request.extensions().get().copied(),
            grpc_timeout: header.map(|value| value.to_str().unwrap().to_owned()),
        });
        async move {
            sleep(takes).await;
            Err(Error::Inner(Fault("broken")))
        }
    })
}

fn grpc(timeout: &str) -> Request<Full<Bytes>> {
    let request = Request::post("/").header(CONTENT_TYPE, "application/grpc+proto");
    request.header("grpc-timeout", timeout).body(Full::default()).unwrap()
}

fn after(limit: Duration) -> TimeoutLayer<Http> {
    TimeoutLayer::after(limit).name("outer").protocol(Http::new())
}

fn taken(seen: &Mutex<Vec<Seen>>) -> Vec<Seen> {
    std::mem::take(&mut *seen.lock().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_put_into_the_request() {
    let seen = Arc::default();
    let mut service = after(SECOND).layer(backend(MS, &seen));
    let began = Instant::now();
    let _ = call(&mut service, Request::new(Full::<Bytes>::default())).await;
    let deadline = Some(Deadline::at(began + SECOND));
    assert_eq!(taken(&seen), [Seen { deadline, grpc_timeout: None }]);
}

#[tokio::test(start_paused = true)]
async fn a_request_may_ask_for_another_limit() {
    let seen = Arc::default();
    let mut service = after(SECOND).layer(backend::<Full<Bytes>>(YEAR, &seen));
    let mut request = Request::new(Full::default());
    request.extensions_mut().insert(Timeouts::new().total(5 * SECOND));
    let began = Instant::now();
    let error = call(&mut service, request).await.unwrap_err();
    assert_eq!(error.rejected().unwrap().limit(), Some(5 * SECOND));
    assert_eq!(began.elapsed(), 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_time_that_a_grpc_caller_waits_is_a_deadline() {
    let seen = Arc::default();
    let mut service = after(60 * SECOND).layer(backend(YEAR, &seen));
    let began = Instant::now();
    let error = call(&mut service, grpc("1500m")).await.unwrap_err();
    let rejected = error.rejected().unwrap();
    assert_eq!((rejected.reason(), rejected.limit()), (Reason::DeadlineExceeded, Some(1_500 * MS)));
    assert_eq!(began.elapsed(), 1_500 * MS);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_grpc_call_is_the_same_moment_for_all_layers() {
    let seen = Arc::default();
    let inner = after(60 * SECOND).layer(backend(MS, &seen));
    let mut service = after(60 * SECOND).layer(service_fn(move |request: Request<Full<Bytes>>| {
        let inner = inner.clone();
        async move {
            sleep(SECOND).await;
            inner.oneshot(request).await
        }
    }));
    let began = Instant::now();
    let _ = call(&mut service, grpc("3S")).await;
    let [seen] = &taken(&seen)[..] else { panic!("one call") };
    assert_eq!(seen.deadline, Some(Deadline::at(began + 3 * SECOND)));
    assert_eq!(seen.grpc_timeout.as_deref(), Some("2000000u"));
}

#[tokio::test(start_paused = true)]
async fn grpc_timeout_is_rewritten_and_never_longer() {
    let seen = Arc::default();
    let mut service = after(SECOND).layer(backend(MS, &seen));
    for (given, sent) in
        [("5S", "1000000u"), ("1S", "1000000u"), ("20m", "20000000n"), ("99999999H", "1000000u")]
    {
        let _ = call(&mut service, grpc(given)).await;
        assert_eq!(taken(&seen)[0].grpc_timeout.as_deref(), Some(sent), "{given}");
    }
    let error = call(&mut service, grpc("0n")).await.unwrap_err();
    assert!(!error.rejected().unwrap().reached_service());
    assert_eq!(taken(&seen), []);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_in_a_request_that_is_no_grpc_adds_no_header() {
    let seen = Arc::default();
    let mut service = after(SECOND).layer(backend(MS, &seen));
    let mut request = Request::new(Full::<Bytes>::default());
    let deadline = Deadline::after(SECOND / 2);
    request.extensions_mut().insert(deadline);
    let _ = call(&mut service, request).await;
    assert_eq!(taken(&seen), [Seen { deadline: Some(deadline), grpc_timeout: None }]);
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_told_what_is_left_of_what_the_grpc_caller_waits() {
    let seen = Arc::default();
    let config = RetryConfig::new().max_attempts(3).backoff(stanchion::Backoff::constant(500 * MS));
    let mut service = ServiceBuilder::new()
        .layer(after(60 * SECOND))
        .layer(RetryLayer::new(config).protocol(Http::new()))
        .layer(TimeoutLayer::per_attempt(50 * SECOND).protocol(Http::new()))
        .service(backend::<ReplayBody<Full<Bytes>>>(SECOND, &seen));
    let began = Instant::now();
    let mut request = grpc("30S");
    request.extensions_mut().insert(stanchion::http::Idempotent(true));
    let _ = call(&mut service, request).await;
    let seen = taken(&seen);
    assert_eq!(seen.len(), 3);
    let mut before = 31 * SECOND;
    for seen in seen {
        assert_eq!(seen.deadline, Some(Deadline::at(began + 30 * SECOND)));
        let left = seen.grpc_timeout.unwrap();
        let left = Duration::from_micros(left.strip_suffix('u').unwrap().parse().unwrap());
        assert!(left + SECOND <= before, "{left:?} after {before:?}");
        before = left;
    }
}

// Bodies.

/// The next step of a body.
#[derive(Clone, Copy, Debug)]
enum Step {
    Data,
    Wait(Duration),
    Fail,
    Trailers,
    /// Pending for ever.
    Stall,
    /// Endless data without a pause.
    Endless,
    /// Pending for ever, while it uses up the budget of its task.
    Spend,
}

#[derive(Debug)]
struct Paced {
    steps: VecDeque<Step>,
    pause: Option<Pin<Box<Sleep>>>,
    knows_its_end: bool,
    alive: Arc<()>,
}

impl Paced {
    fn new(steps: &[Step]) -> Self {
        Self {
            steps: steps.iter().copied().collect(),
            pause: None,
            knows_its_end: false,
            alive: Arc::default(),
        }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        loop {
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let data = Frame::data(Bytes::from_static(b"data"));
            return match self.steps.pop_front() {
                Some(Step::Data) => Poll::Ready(Some(Ok(data))),
                Some(Step::Fail) => Poll::Ready(Some(Err(Fault("cut off")))),
                Some(Step::Trailers) => Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::new())))),
                Some(Step::Wait(pause)) => {
                    self.pause = Some(Box::pin(sleep(pause)));
                    continue;
                }
                Some(step @ (Step::Stall | Step::Endless | Step::Spend)) => {
                    self.steps.push_front(step);
                    match step {
                        Step::Endless => Poll::Ready(Some(Ok(data))),
                        Step::Spend => {
                            while let Poll::Ready(()) = std::pin::pin!(tokio::task::consume_budget()).poll(cx)
                            {
                            }
                            Poll::Pending
                        }
                        _ => Poll::Pending,
                    }
                }
                None => Poll::Ready(None),
            };
        }
    }

    fn is_end_stream(&self) -> bool {
        self.knows_its_end && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(4 * self.steps.len() as u64);
        hint
    }
}

fn config() -> TimeoutConfig {
    TimeoutConfig::new().limit(Limit::Fixed(SECOND))
}

/// Limits the headers and the body together to a second.
fn whole() -> TimeoutConfig {
    config().covers(Covers::Body)
}

fn idle() -> TimeoutConfig {
    config().idle(SECOND)
}

/// Returns a response with this body after `head`.
async fn response(config: TimeoutConfig, head: Duration, body: Paced) -> Response<TimedBody<Paced>> {
    let layer = TimeoutLayer::new(config).name("outer").protocol(Http::new());
    let service = layer.layer(service_fn(move |_: Request<()>| {
        let body = Paced { steps: body.steps.clone(), alive: Arc::clone(&body.alive), pause: None, ..body };
        async move {
            sleep(head).await;
            Ok::<_, Failure>(Response::new(body))
        }
    }));
    service.oneshot(Request::new(())).await.unwrap()
}

async fn body_of(config: TimeoutConfig, steps: &[Step]) -> TimedBody<Paced> {
    response(config, Duration::ZERO, Paced::new(steps)).await.into_body()
}

/// Describes the boxed error: a rejection, or the error of the body itself.
fn unboxed(error: BoxError) -> Failure {
    match error.downcast::<Rejected>() {
        Ok(rejected) => Error::Rejected(*rejected),
        Err(error) => Error::Inner(*error.downcast().unwrap()),
    }
}

/// Returns the number of frames, the end of the body, and its moment.
async fn read<B: Body<Error = BoxError> + Unpin>(mut body: B) -> (usize, Result<(), Failure>, Duration) {
    let (began, mut frames) = (Instant::now(), 0);
    loop {
        match body.frame().await {
            Some(Ok(_)) => frames += 1,
            Some(Err(error)) => return (frames, Err(unboxed(error)), began.elapsed()),
            None => return (frames, Ok(()), began.elapsed()),
        }
    }
}

#[track_caller]
fn assert_over(end: &Result<(), Failure>, reason: Reason, limit: Duration) {
    let Err(Error::Rejected(rejected)) = end else { panic!("not given up: {end:?}") };
    let told = (rejected.layer(), rejected.reason(), rejected.limit(), rejected.reached_service());
    assert_eq!(told, ("outer", reason, Some(limit), true));
}

use Step::{Data, Endless, Fail, Spend, Stall, Trailers, Wait};

#[tokio::test(start_paused = true)]
async fn a_limit_on_the_headers_does_not_limit_the_body() {
    let body = body_of(config(), &[Wait(YEAR), Data, Wait(YEAR), Data]).await;
    assert_eq!(read(body).await, (2, Ok(()), 2 * YEAR));
}

#[tokio::test(start_paused = true)]
async fn a_limit_on_the_body_includes_the_headers() {
    let steps = [Wait(300 * MS), Data, Wait(300 * MS), Data, Wait(300 * MS), Data];
    let (frames, end, took) = read(response(whole(), 300 * MS, Paced::new(&steps)).await.into_body()).await;
    assert_over(&end, Reason::TotalTimeout, SECOND);
    assert_eq!((frames, took), (2, 700 * MS));
    assert_eq!(read(body_of(whole(), &steps).await).await, (3, Ok(()), 900 * MS));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_one_for_the_body_too() {
    let layer = TimeoutLayer::new(whole()).name("outer").protocol(Http::new());
    let service = layer.layer(service_fn(|_: Request<()>| async {
        Ok::<_, Failure>(Response::new(Paced::new(&[Data, Stall])))
    }));
    let mut request = Request::new(());
    request.extensions_mut().insert(Deadline::after(SECOND / 2));
    let (frames, end, took) = read(service.oneshot(request).await.unwrap().into_body()).await;
    assert_over(&end, Reason::DeadlineExceeded, SECOND / 2);
    assert_eq!((frames, took), (1, SECOND / 2));
}

#[tokio::test(start_paused = true)]
async fn a_body_may_take_as_long_as_it_likes_if_it_is_never_idle_for_long() {
    let steps = [Wait(SECOND - MS), Data].repeat(1_000);
    assert_eq!(read(body_of(idle(), &steps).await).await, (1_000, Ok(()), 999 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_given_up() {
    for before in 0..4 {
        let mut steps = [Wait(SECOND / 2), Data].repeat(before);
        steps.push(Stall);
        let (frames, end, took) = read(body_of(idle(), &steps).await).await;
        assert_over(&end, Reason::IdleTimeout, SECOND);
        assert_eq!(frames, before);
        assert_eq!(took, SECOND / 2 * u32::try_from(before).unwrap() + SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_is_there_when_idleness_ends_is_not_too_late() {
    let body = body_of(idle(), &[Wait(SECOND), Data]).await;
    assert_eq!(read(body).await, (1, Ok(()), SECOND));
}

#[tokio::test(start_paused = true)]
async fn time_without_a_reader_is_not_idle() {
    let mut body = body_of(idle(), &[Wait(SECOND / 2), Data, Wait(SECOND / 2), Data]).await;
    for _ in 0..2 {
        advance(3_600 * SECOND).await;
        assert!(body.frame().await.unwrap().is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn the_earlier_of_idle_and_total_timeout_is_named() {
    let (frames, end, took) =
        read(body_of(whole().idle(400 * MS), &[Wait(300 * MS), Data, Stall]).await).await;
    assert_over(&end, Reason::IdleTimeout, 400 * MS);
    assert_eq!((frames, took), (1, 700 * MS));
    for pause in [500 * MS, 600 * MS] {
        let (_, end, took) =
            read(body_of(whole().idle(SECOND / 2), &[Wait(pause - 100 * MS), Data, Stall]).await).await;
        let is_idle = pause == 500 * MS;
        let (reason, limit) =
            if is_idle { (Reason::IdleTimeout, SECOND / 2) } else { (Reason::TotalTimeout, SECOND) };
        assert_over(&end, reason, limit);
        assert_eq!(took, (pause + 400 * MS).min(SECOND));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_always_ready_ends_with_the_whole() {
    let mut body = body_of(whole(), &[Endless]).await;
    for _ in 0..10 {
        assert!(body.frame().await.unwrap().is_ok());
        advance(90 * MS).await;
    }
    advance(200 * MS).await;
    assert_over(&body.frame().await.unwrap().map(|_| ()).map_err(unboxed), Reason::TotalTimeout, SECOND);
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_always_ready_is_not_idle() {
    let mut body = body_of(idle(), &[Endless]).await;
    for _ in 0..10 {
        assert!(body.frame().await.unwrap().is_ok());
        advance(YEAR).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_body_that_is_there_is_not_too_late() {
    // Trailers are the last frame. So is the last data frame of a body of known length.
    for (step, knows_its_end) in [(Data, true), (Trailers, false)] {
        let body = Paced { knows_its_end, ..Paced::new(&[Wait(SECOND), step]) };
        let body = response(whole(), Duration::ZERO, body).await.into_body();
        assert_eq!(read(body).await, (1, Ok(()), SECOND), "{step:?}");
    }
    let mut body = body_of(whole(), &[Data]).await;
    assert!(body.frame().await.unwrap().is_ok());
    advance(YEAR).await;
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_body_passes_and_so_do_trailers() {
    let (frames, end, _) = read(body_of(whole().idle(SECOND), &[Data, Fail]).await).await;
    assert_eq!((frames, end), (1, Err(Error::Inner(Fault("cut off")))));
    let mut body = body_of(whole().idle(SECOND), &[Data, Wait(MS), Trailers]).await;
    assert!(body.frame().await.unwrap().unwrap().is_data());
    assert!(body.frame().await.unwrap().unwrap().is_trailers());
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_a_body_is_known_until_it_is_given_up() {
    let mut body = body_of(idle(), &[Data, Stall]).await;
    assert!(!body.is_end_stream());
    assert_eq!((body.size_hint().lower(), body.size_hint().upper()), (8, None));
    assert!(body.frame().await.unwrap().is_ok());
    assert_eq!(body.size_hint().lower(), 4);
    assert!(body.frame().await.unwrap().is_err());
    assert!(body.is_end_stream());
    assert_eq!(body.size_hint().exact(), Some(0));
    assert!(body.frame().await.is_none());
    let full = TimedBody::from(Full::<Bytes>::from("hello"));
    assert_eq!(full.size_hint().exact(), Some(5));
    assert!(TimedBody::<Full<Bytes>>::default().is_end_stream());
    assert_eq!(full.collect().await.unwrap().to_bytes(), "hello");
}

#[tokio::test(start_paused = true)]
async fn a_body_is_dropped_when_it_is_given_up() {
    let paced = Paced::new(&[Stall]);
    let alive = Arc::clone(&paced.alive);
    let mut body = response(idle(), Duration::ZERO, paced).await.into_body();
    let before = Arc::strong_count(&alive);
    let mut frame = task::spawn(body.frame());
    assert_pending!(frame.poll());
    advance(SECOND).await;
    assert!(frame.is_woken());
    assert!(assert_ready!(frame.poll()).unwrap().is_err());
    assert_eq!(Arc::strong_count(&alive), before - 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_spends_the_budget_of_its_task_is_given_up() {
    for config in [whole(), idle()] {
        let body = body_of(config, &[Spend]).await;
        let reading = tokio::spawn(read(body));
        for _ in 0..5 {
            tokio::task::yield_now().await;
            advance(SECOND).await;
        }
        assert!(reading.is_finished(), "the timer was not heard");
        assert!(reading.await.unwrap().1.is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_moves_to_another_task_is_given_up_there() {
    for config in [whole(), idle()] {
        let mut body = body_of(config, &[Stall]).await;
        let [mut first, mut last] = [(); 2].map(task::spawn);
        for task in [&mut first, &mut last] {
            assert_pending!(task.enter(|cx, _| Pin::new(&mut body).poll_frame(cx)));
        }
        advance(SECOND).await;
        assert!(last.is_woken());
        assert!(assert_ready!(last.enter(|cx, _| Pin::new(&mut body).poll_frame(cx))).unwrap().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn endless_limits_never_expire() {
    for config in [idle().idle(Duration::MAX), whole().limit(Limit::Fixed(Duration::MAX)).idle(30 * YEAR)] {
        let body = body_of(config, &[Wait(YEAR), Data, Wait(YEAR), Data]).await;
        assert_eq!(read(body).await, (2, Ok(()), 2 * YEAR));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_dropped_half_read_is_no_timeout_and_one_that_is_given_up_is_told_once() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let events = Arc::clone(&heard);
    let layer =
        TimeoutLayer::new(idle()).protocol(Http::new()).observer(move |_: &LayerId, event: &Event<'_>| {
            if let Event::Rejected(rejected) = event {
                events.lock().unwrap().push(rejected.reason());
            }
        });
    let service = layer.layer(service_fn(|_: Request<()>| async {
        Ok::<_, Failure>(Response::new(Paced::new(&[Data, Stall])))
    }));
    let mut body = service.clone().oneshot(Request::new(())).await.unwrap().into_body();
    assert!(body.frame().await.unwrap().is_ok());
    assert_pending!(task::spawn(body.frame()).poll());
    drop(body);
    advance(60 * SECOND).await;
    assert_eq!(*heard.lock().unwrap(), []);
    let body = service.oneshot(Request::new(())).await.unwrap().into_body();
    assert!(read(body).await.1.is_err());
    assert_eq!(*heard.lock().unwrap(), [Reason::IdleTimeout]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_given_up_is_a_failure_for_the_breaker_around_it() {
    let config = CircuitBreakerConfig::new().without_failure_ratio().consecutive_failures(1);
    let breaker = CircuitBreakerLayer::new(config);
    let mut service = ServiceBuilder::new()
        .layer(breaker.protocol(Http::new()))
        .layer(TimeoutLayer::new(idle()).protocol(Http::new()))
        .service(service_fn(|_: Request<()>| async {
            Ok::<_, Failure>(Response::new(Paced::new(&[Data, Stall])))
        }));
    let response = call(&mut service, Request::new(())).await.unwrap();
    assert!(read(response.into_body()).await.1.is_err());
    let error = call(&mut service, Request::new(())).await.unwrap_err();
    assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::CircuitOpen));
}

#[test]
fn a_timed_body_is_unpin_send_and_sync_as_the_body_inside_is() {
    const fn is<T: Unpin + Send + Sync + 'static>() {}
    is::<TimedBody<Full<Bytes>>>();
    is::<TimedBody<Paced>>();
}
