//! HTTP: failures, calls that last until the body ends, and the same over real sockets.

#![cfg(feature = "http")]
#![allow(clippy::disallowed_methods, reason = "a test moves the clock, and servers are tasks")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

#[allow(dead_code, reason = "it serves other tests as well")]
#[path = "support/server.rs"]
mod server;

use std::future::ready;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use httpdate::HttpDate;
use stanchion::circuit_breaker::{Cause, Permit, State};
use stanchion::classify::{CarryGuard, Class, Classify, Guard, Outcome};
use stanchion::http::{GuardedBody, Http};
use stanchion::{CircuitBreakerConfig, CircuitBreakerHandle, CircuitBreakerLayer, Error, Window};
use tokio::time::advance;
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceExt, service_fn};

use server::{Script, Step, frame};

const SECOND: Duration = Duration::from_secs(1);

// The classifier and its body, with a guard that records what is reported to it.

#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<Vec<End>>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    As(Class),
    AndWait(Class, Duration),
    Dropped,
}

use Class::{Failure, Ignored, Success};

impl Told {
    /// Returns what has been reported so far.
    fn ends(&self) -> Vec<End> {
        self.0.lock().unwrap().clone()
    }
}

#[derive(Debug)]
struct Spy(Option<Told>);

impl Spy {
    fn tell(&mut self, end: End) {
        if let Some(told) = self.0.take() {
            told.0.lock().unwrap().push(end);
        }
    }
}

impl Guard for Spy {
    fn finish(mut self, outcome: Outcome) {
        self.tell(match outcome.retry_after() {
            Some(wait) => End::AndWait(outcome.class, wait),
            None => End::As(outcome.class),
        });
    }
}

impl Drop for Spy {
    fn drop(&mut self) {
        self.tell(End::Dropped);
    }
}

/// Settles a response like a layer that needs the outcome as soon as it is known.
fn settle<B: Body>(
    http: Http,
    result: io::Result<Response<B>>,
) -> (io::Result<Response<GuardedBody<B, Spy>>>, Told) {
    let (told, outcome) = (Told::default(), http.classify(result.as_ref()));
    let spy = Spy(Some(told.clone()));
    let guard = if outcome.is_good() {
        Some((spy, outcome))
    } else {
        spy.finish(outcome);
        None
    };
    (result.map(|response| http.carry(response, guard)), told)
}

/// Returns a successful response with a body.
fn guarded<B: Body>(body: B) -> (GuardedBody<B, Spy>, Told) {
    let (response, told) = settle(Http::new(), Ok(Response::new(body)));
    (response.unwrap().into_body(), told)
}

fn respond(status: u16, retry_after: Option<&[u8]>) -> Response<Script> {
    let mut response = Response::new(Script::new([Step::Data("sorry")]));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if let Some(value) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_bytes(value).unwrap());
    }
    response
}

#[tokio::test]
async fn a_guarded_body_says_and_yields_what_its_inner_does() {
    let script = || Script::new([Step::Data("hel"), Step::Wait, Step::Data("lo"), Step::Trailers]);
    let (body, _) = guarded(script());
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (None, false));
    let collected = body.collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()[header::ETAG], "1");
    assert_eq!(collected.to_bytes(), "hello");

    let (mut body, _) = guarded(script().sized());
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(5), false));
    while frame(&mut body).await.is_some() {}
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));

    let body = GuardedBody::<Empty<&[u8]>, Spy>::default();
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(0), true));
    assert!(body.collect().await.unwrap().to_bytes().is_empty());
}

#[tokio::test]
async fn a_guarded_body_that_is_not_there_yet_wakes_its_reader() {
    let (body, told) = guarded(Script::new([Step::Wait, Step::Data("hello")]));
    let mut reader = task::spawn(body.collect());
    assert_pending!(reader.poll());
    assert!(reader.is_woken());
    assert_eq!(told.ends(), []);
    assert_eq!(assert_ready!(reader.poll()).unwrap().to_bytes(), "hello");
    assert_eq!(told.ends(), [End::As(Success)]);
}

#[tokio::test]
async fn a_body_that_comes_to_its_end_is_a_success() {
    for last in [Step::Data("lo"), Step::Trailers] {
        let (mut body, told) = guarded(Script::new([Step::Data("hel"), last]));
        frame(&mut body).await.unwrap().unwrap();
        frame(&mut body).await.unwrap().unwrap();
        assert_eq!(told.ends(), [], "there may be more");
        assert!(frame(&mut body).await.is_none());
        assert_eq!(told.ends(), [End::As(Success)]);
        drop(body);
        assert_eq!(told.ends(), [End::As(Success)], "told twice");
    }
}

/// Hyper's client and others do not poll a body of known length after its last byte.
#[tokio::test]
async fn a_body_of_known_length_has_ended_with_its_last_byte() {
    let (mut body, told) = guarded(Script::new([Step::Data("hel"), Step::Data("lo")]).sized());
    frame(&mut body).await.unwrap().unwrap();
    assert_eq!(told.ends(), []);
    frame(&mut body).await.unwrap().unwrap();
    assert_eq!(told.ends(), [End::As(Success)]);
}

#[tokio::test]
async fn a_body_that_breaks_is_a_failure_when_it_does() {
    let (mut body, told) = guarded(Script::new([Step::Data("hel"), Step::Fail]));
    frame(&mut body).await.unwrap().unwrap();
    assert_eq!(told.ends(), []);
    let error = frame(&mut body).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "body broke off");
    assert_eq!(told.ends(), [End::As(Failure)]);
    assert!(frame(&mut body).await.is_none());
    assert_eq!(told.ends(), [End::As(Failure)], "told twice");
}

#[tokio::test]
async fn a_body_that_panics_is_a_failure() {
    let (mut body, told) = guarded(Script::new([Step::Panic]));
    let poll = || task::spawn(()).enter(|cx, _| pin!(&mut body).poll_frame(cx).is_ready());
    assert!(catch_unwind(AssertUnwindSafe(poll)).is_err());
    drop(body);
    assert_eq!(told.ends(), [End::As(Failure)]);
}

#[tokio::test]
async fn a_body_dropped_before_its_end_is_a_cancelled_call() {
    let steps = [Step::Data("hel"), Step::Data("lo")];
    for script in [Script::new(steps), Script::new(steps).sized()] {
        let (mut body, told) = guarded(script);
        frame(&mut body).await.unwrap().unwrap();
        drop(body);
        assert_eq!(told.ends(), [End::Dropped]);
    }
    let (unread, told) = guarded(Script::new([Step::Data("hello")]));
    drop(unread);
    assert_eq!(told.ends(), [End::Dropped]);
    let (taken_out, told) = guarded(Script::new([Step::Data("hello")]));
    assert_eq!(taken_out.into_inner().collect().await.unwrap().to_bytes(), "hello");
    assert_eq!(told.ends(), [End::Dropped]);
}

/// As after `HEAD`, 204 and 304: no reader polls such a body.
#[test]
fn an_empty_body_ends_with_the_headers() {
    let (body, told) = guarded(Empty::<&[u8]>::new());
    assert_eq!(told.ends(), [End::As(Success)]);
    drop(body);
    assert_eq!(told.ends(), [End::As(Success)]);
}

#[tokio::test]
async fn a_failed_status_is_a_failure_at_once_and_its_body_can_still_be_read() {
    for status in [500, 502, 503, 504, 599] {
        let (response, told) = settle(Http::new(), Ok(respond(status, None)));
        assert_eq!(told.ends(), [End::As(Failure)], "{status}");
        let body = response.unwrap().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "sorry");
        assert_eq!(told.ends(), [End::As(Failure)], "told twice");
    }
}

#[tokio::test]
async fn every_other_status_is_what_becomes_of_its_body() {
    for status in [100, 200, 201, 206, 301, 307, 400, 401, 404, 409, 418, 499] {
        let (response, told) = settle(Http::new(), Ok(respond(status, Some(b"7"))));
        assert_eq!(told.ends(), [], "{status}");
        response.unwrap().into_body().collect().await.unwrap();
        assert_eq!(told.ends(), [End::As(Success)], "{status}");
    }
}

/// The caller has no result, so the body does not matter.
#[tokio::test]
async fn a_status_that_asks_for_another_attempt_is_a_success_at_once_and_its_body_can_still_be_read() {
    for status in [408, 425, 429] {
        let (response, told) = settle(Http::new(), Ok(respond(status, Some(b"7"))));
        let ends = [End::AndWait(Success, Duration::from_secs(7))];
        assert_eq!(told.ends(), ends, "{status}");
        let body = response.unwrap().into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "sorry");
        assert_eq!(told.ends(), ends, "told twice");
    }
}

#[tokio::test]
async fn an_error_instead_of_a_response_is_a_failure_and_passes_unchanged() {
    let (result, told) = settle::<Script>(Http::new(), Err(io::ErrorKind::ConnectionReset.into()));
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(told.ends(), [End::As(Failure)]);
}

#[tokio::test]
async fn what_a_429_and_a_503_say_can_be_chosen() {
    for class in [Success, Failure, Ignored] {
        let classifier = Http::new().too_many_requests(class).service_unavailable(class);
        for status in [429, 503] {
            let (response, told) = settle(classifier, Ok(respond(status, None)));
            response.unwrap().into_body().collect().await.unwrap();
            assert_eq!(told.ends(), [End::As(class)], "{status}");
        }
        let (_, told) = settle(classifier, Ok(respond(500, None)));
        assert_eq!(told.ends(), [End::As(Failure)]);
    }
    assert_eq!(Http::default(), Http::new());
}

#[test]
fn retry_after_is_passed_on_and_everything_else_is_let_be() {
    let most = Duration::from_secs(u64::MAX);
    let values: [(&[u8], Option<Duration>); 18] = [
        (b"0", Some(Duration::ZERO)),
        (b"7", Some(7 * SECOND)),
        (b" 7 ", Some(7 * SECOND)),
        (b"0007", Some(7 * SECOND)),
        (b"18446744073709551615", Some(most)),
        (b"18446744073709551616", Some(most)),
        (&[b'9'; 400], Some(most)),
        (b"", None),
        (b" ", None),
        (b"-1", None),
        (b"+1", None),
        (b"1.5", None),
        (b"1e9", None),
        (b"7, 8", None),
        (b"\xff\xfe", None),
        ("٧".as_bytes(), None),
        (b"Thu, 21 Oct 2099 07:28:00 GMT", None),
        (b"Wed, 21 Oct 2015 07:28:00 GMT", Some(Duration::ZERO)),
    ];
    for (value, wait) in values {
        let (_, told) = settle(Http::new(), Ok(respond(503, Some(value))));
        let expected = wait.map_or(End::As(Failure), |wait| End::AndWait(Failure, wait));
        assert_eq!(told.ends(), [expected], "{:?}", String::from_utf8_lossy(value));
    }
}

#[tokio::test]
async fn two_breakers_may_both_guard_a_body() {
    let (outer, inner) = (layer(config()), layer(config()));
    let backend = service_fn(|()| ready(Ok(Response::new(Script::new([Step::Data("hello"), Step::Fail])))));
    let mut service = outer.layer(inner.layer(backend));
    for _ in 0..3 {
        let answer: Result<_, Error<io::Error>> = service.ready().await.unwrap().call(()).await;
        assert!(answer.unwrap().into_body().collect().await.is_err());
    }
    assert_eq!([outer.handle().state(), inner.handle().state()], [State::Open; 2]);
}

// With a breaker.

/// Opens at the third failure in a row.
fn config() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new().consecutive_failures(3).open_for(5 * SECOND).open_jitter(0.0)
}

fn layer(config: CircuitBreakerConfig) -> CircuitBreakerLayer<Http> {
    CircuitBreakerLayer::new(config).name("payments").protocol(Http::new())
}

/// Calls a service behind the breaker that returns this response.
async fn call(
    layer: &CircuitBreakerLayer<Http>,
    response: Response<Script>,
) -> Result<Response<GuardedBody<Script, Permit>>, Error<io::Error>> {
    let response = Mutex::new(Some(response));
    let service = service_fn(|()| ready(Ok(response.lock().unwrap().take().unwrap())));
    layer.layer(service).oneshot(()).await
}

fn ok(steps: &[Step]) -> Response<Script> {
    Response::new(Script::new(steps.iter().copied()))
}

#[tokio::test(start_paused = true)]
async fn bodies_that_break_open_the_circuit() {
    let layer = layer(config());
    for _ in 0..3 {
        let response = call(&layer, ok(&[Step::Data("hel"), Step::Fail])).await.unwrap();
        assert_eq!(layer.handle().state(), State::Closed);
        response.into_body().collect().await.unwrap_err();
    }
    assert_eq!(layer.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn failed_statuses_open_the_circuit_without_their_bodies_being_read() {
    let layer = layer(config());
    for _ in 0..3 {
        drop(call(&layer, respond(500, None)).await.unwrap());
    }
    assert_eq!(layer.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn bodies_dropped_half_read_do_not_count() {
    let layer = layer(config());
    for _ in 0..100 {
        let mut response = call(&layer, ok(&[Step::Data("hel"), Step::Stall])).await.unwrap();
        frame(response.body_mut()).await.unwrap().unwrap();
    }
    assert_eq!(layer.handle().state(), State::Closed);
    assert_eq!(layer.handle().snapshot().calls, 0);
}

#[tokio::test(start_paused = true)]
async fn a_success_counts_when_the_body_ends_and_not_before() {
    let layer = layer(config());
    for status in [500, 500] {
        call(&layer, respond(status, None)).await.unwrap();
    }
    let good = call(&layer, ok(&[Step::Data("hello")])).await.unwrap();
    assert_eq!(layer.handle().snapshot().calls, 2);
    good.into_body().collect().await.unwrap();
    assert_eq!(layer.handle().snapshot().calls, 3);
    // The success interrupted the run of failures.
    call(&layer, respond(500, None)).await.unwrap();
    assert_eq!(layer.handle().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_trial_call_holds_its_slot_until_its_body_ends() {
    let layer = layer(config().probes(1));
    layer.handle().trip();
    layer.handle().probe();
    let trial = call(&layer, ok(&[Step::Data("hello")])).await.unwrap();
    let refused = call(&layer, ok(&[])).await.unwrap_err();
    assert!(refused.rejected().is_some());
    assert_eq!(layer.handle().state(), State::HalfOpen);
    trial.into_body().collect().await.unwrap();
    assert_eq!(layer.handle().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_trial_call_whose_body_is_dropped_gives_its_slot_back() {
    let layer = layer(config().probes(1).without_probe_timeout());
    layer.handle().trip();
    layer.handle().probe();
    for _ in 0..3 {
        drop(call(&layer, ok(&[Step::Data("hello")])).await.unwrap());
    }
    assert_eq!(layer.handle().state(), State::HalfOpen);
}

#[tokio::test(start_paused = true)]
async fn stalled_bodies_count_as_slow_while_they_stall() {
    let config = CircuitBreakerConfig::new().window(Window::calls(5)).slow_after(SECOND).slow_ratio(1.0);
    let layer = layer(config);
    let mut stalled = Vec::new();
    for _ in 0..5 {
        stalled.push(call(&layer, ok(&[Step::Data("hel"), Step::Stall])).await.unwrap());
    }
    advance(SECOND).await;
    let mut transitions = layer.handle().subscribe();
    advance(SECOND).await;
    assert_eq!(layer.handle().snapshot().overdue, 5);
    assert!(call(&layer, ok(&[])).await.unwrap_err().rejected().is_some());
    let Cause::SlowRatio { in_flight, calls, .. } = transitions.recv().await.unwrap().cause else {
        panic!("opened for another reason")
    };
    assert_eq!((in_flight, calls), (5, 5));
    drop(stalled);
    assert_eq!(layer.handle().state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_body_that_is_dropped_has_been_slow() {
    let config = CircuitBreakerConfig::new().slow_after(SECOND).slow_in_flight(false);
    let layer = layer(config);
    let stalled = call(&layer, ok(&[Step::Stall])).await.unwrap();
    advance(2 * SECOND).await;
    drop(stalled);
    let snapshot = layer.handle().snapshot();
    assert_eq!((snapshot.calls, snapshot.slow, snapshot.failures), (1, 1, 0));
}

async fn opened_by(config: CircuitBreakerConfig, retry_after: &[u8]) -> (CircuitBreakerHandle, Duration) {
    let layer = layer(config);
    let mut transitions = layer.handle().subscribe();
    for _ in 0..3 {
        call(&layer, respond(503, Some(retry_after))).await.unwrap();
    }
    (layer.handle(), transitions.recv().await.unwrap().open_for.unwrap())
}

#[tokio::test(start_paused = true)]
async fn retry_after_lengthens_the_opening_up_to_what_is_allowed_and_never_shortens_it() {
    for (retry_after, seconds) in
        [(&b"30"[..], 30), (b"1", 5), (b"0", 5), (b"100", 60), (&[b'9'; 400], 60), (b"soon", 5)]
    {
        let (handle, open_for) = opened_by(config(), retry_after).await;
        assert_eq!(open_for, seconds * SECOND, "{:?}", String::from_utf8_lossy(retry_after));
        let rejected = handle.try_acquire().unwrap_err();
        assert_eq!(rejected.retry_after(), Some(seconds * SECOND));
        advance(seconds * SECOND - Duration::from_nanos(1)).await;
        assert!(handle.try_acquire().is_err(), "too early");
        advance(Duration::from_nanos(1)).await;
        assert!(handle.try_acquire().is_ok(), "too late");
    }
}

/// The date follows the machine's clock, which paused time does not stop. The clock is therefore
/// read before and after.
#[tokio::test(start_paused = true)]
async fn a_retry_after_that_is_a_date_lengthens_the_opening_until_then() {
    let before = SystemTime::now();
    let date = HttpDate::from(before + 40 * SECOND);
    let (handle, open_for) = opened_by(config(), date.to_string().as_bytes()).await;
    let until = SystemTime::from(date);
    let wait = |from| until.duration_since(from).unwrap();
    let (most, least) = (wait(before), wait(SystemTime::now()));
    assert!((least..=most).contains(&open_for), "{open_for:?} is not in {least:?}..={most:?}");

    advance(open_for - Duration::from_nanos(1)).await;
    assert!(handle.try_acquire().is_err(), "too early");
    advance(Duration::from_nanos(1)).await;
    assert!(handle.try_acquire().is_ok(), "too late");
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_that_is_a_date_is_limited_like_any_other() {
    for (date, seconds) in [("Wed, 21 Oct 2015 07:28:00 GMT", 5), ("Fri, 31 Dec 9999 23:59:59 GMT", 60)] {
        let (_, open_for) = opened_by(config(), date.as_bytes()).await;
        assert_eq!(open_for, seconds * SECOND, "{date}");
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_counts_from_the_response_that_said_it() {
    let layer = layer(config());
    call(&layer, respond(503, Some(b"30"))).await.unwrap();
    advance(10 * SECOND).await;
    for _ in 0..2 {
        call(&layer, respond(500, None)).await.unwrap();
    }
    let rejected = layer.handle().try_acquire().unwrap_err();
    assert_eq!(rejected.retry_after(), Some(20 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn retry_after_of_a_trial_call_lengthens_the_next_opening() {
    let layer = layer(config().probes(1));
    layer.handle().trip();
    layer.handle().probe();
    call(&layer, respond(503, Some(b"30"))).await.unwrap();
    let rejected = layer.handle().try_acquire().unwrap_err();
    assert_eq!(rejected.retry_after(), Some(30 * SECOND));
}

/// A real client and a real server on real sockets. Time is paused, and moves only where a test
/// advances it: nothing here arms a timer.
mod over_sockets {
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use http::{Request, Uri};
    use hyper_util::client::legacy::connect::HttpConnector;
    use hyper_util::client::legacy::{self, Client};
    use hyper_util::rt::TokioExecutor;
    use stanchion::{CircuitBreaker, Rejected};
    use tokio::task::JoinSet;
    use tower::util::MapErr;
    use tower::{BoxError, ServiceBuilder};

    use super::server::{Down, Mode, Server};
    use super::*;

    /// Counts connection attempts.
    #[derive(Clone, Debug)]
    struct Connects {
        inner: HttpConnector,
        attempts: Arc<AtomicUsize>,
    }

    impl Service<Uri> for Connects {
        type Response = <HttpConnector as Service<Uri>>::Response;
        type Error = <HttpConnector as Service<Uri>>::Error;
        type Future = <HttpConnector as Service<Uri>>::Future;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            self.inner.poll_ready(cx)
        }

        fn call(&mut self, uri: Uri) -> Self::Future {
            self.attempts.fetch_add(1, Ordering::Relaxed);
            self.inner.call(uri)
        }
    }

    type Inner = MapErr<Client<Connects, Empty<Bytes>>, fn(legacy::Error) -> BoxError>;
    type Answer = Response<GuardedBody<hyper::body::Incoming, Permit>>;

    /// A client behind a breaker.
    #[derive(Clone)]
    struct Guarded {
        service: CircuitBreaker<Inner, Http>,
        handle: CircuitBreakerHandle,
        attempts: Arc<AtomicUsize>,
        address: SocketAddr,
    }

    impl Guarded {
        fn new(address: SocketAddr, config: CircuitBreakerConfig) -> Self {
            let attempts = Arc::new(AtomicUsize::new(0));
            let connects = Connects { inner: HttpConnector::new(), attempts: Arc::clone(&attempts) };
            let client = Client::builder(TokioExecutor::new()).build(connects);
            let layer = layer(config);
            let boxed: fn(legacy::Error) -> BoxError = BoxError::from;
            let service = ServiceBuilder::new().layer(&layer).map_err(boxed).service(client);
            Self { service, handle: layer.handle(), attempts, address }
        }

        async fn send(&mut self) -> Result<Answer, BoxError> {
            let request = Request::get(format!("http://{}/", self.address)).body(Empty::new()).unwrap();
            self.service.ready().await?.call(request).await
        }

        /// Makes a whole call, including the body.
        async fn get(&mut self) -> Result<Bytes, BoxError> {
            Ok(self.send().await?.into_body().collect().await?.to_bytes())
        }

        /// Asserts that calls are rejected and do not reach the server.
        async fn assert_refuses(&mut self) {
            assert_eq!(self.handle.state(), State::Open);
            let before = self.attempts();
            for _ in 0..20 {
                let error = self.get().await.unwrap_err();
                assert!(is_refusal(&error), "{error:?}");
            }
            assert_eq!(self.attempts(), before, "attempts to connect behind an open circuit");
        }

        fn attempts(&self) -> usize {
            self.attempts.load(Ordering::Relaxed)
        }
    }

    fn is_refusal(error: &BoxError) -> bool {
        Rejected::find(&**error).is_some()
    }

    /// Three calls to a server in this mode open the circuit, and then no connection reaches the
    /// server. Once the server is well again, three trial calls close the circuit.
    async fn opens_and_recovers(mode: Mode) {
        let server = Server::start(mode);
        let mut client = Guarded::new(server.address(), config());
        for _ in 0..3 {
            assert_eq!(client.handle.state(), State::Closed);
            match client.get().await {
                Ok(_) => assert_eq!(mode, Mode::Unavailable),
                Err(error) => assert!(!is_refusal(&error), "{error:?}"),
            }
        }
        let before = server.connections().await;
        assert!(before > 0);
        client.assert_refuses().await;
        assert_eq!(server.connections().await, before, "connections behind an open circuit");

        server.mode(Mode::Healthy);
        advance(5 * SECOND).await;
        for _ in 0..3 {
            assert_eq!(client.get().await.unwrap(), "hello");
        }
        assert_eq!(client.handle.state(), State::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn reset_connections_open_the_circuit() {
        opens_and_recovers(Mode::Resets).await;
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_cut_off_open_the_circuit() {
        opens_and_recovers(Mode::CutsBodies).await;
    }

    #[tokio::test(start_paused = true)]
    async fn failed_statuses_open_the_circuit() {
        opens_and_recovers(Mode::Unavailable).await;
    }

    #[tokio::test(start_paused = true)]
    async fn refused_connections_open_the_circuit() {
        let down = Down::new();
        let mut client = Guarded::new(down.address(), config());
        for _ in 0..3 {
            let error = client.get().await.unwrap_err();
            assert!(error.downcast_ref::<legacy::Error>().unwrap().is_connect(), "{error:?}");
        }
        client.assert_refuses().await;
        assert_eq!(client.attempts(), 3);

        let server = down.up(Mode::Healthy);
        client.assert_refuses().await;
        assert_eq!(server.connections().await, 0);
        advance(5 * SECOND).await;
        for _ in 0..3 {
            assert_eq!(client.get().await.unwrap(), "hello");
        }
        assert_eq!(client.handle.state(), State::Closed);
    }

    /// Opens when five calls have been in flight for more than a second.
    fn impatient() -> CircuitBreakerConfig {
        CircuitBreakerConfig::new().window(Window::calls(5)).slow_after(SECOND)
    }

    #[tokio::test(start_paused = true)]
    async fn stalled_bodies_open_the_circuit_while_all_of_them_stall() {
        let server = Server::start(Mode::StallsBodies);
        let mut client = Guarded::new(server.address(), impatient());
        let mut stalled = Vec::new();
        for _ in 0..5 {
            let mut body = client.send().await.unwrap().into_body();
            assert_eq!(frame(&mut body).await.unwrap().unwrap().into_data().unwrap(), "hel");
            stalled.push(body);
        }
        advance(2 * SECOND).await;
        let before = server.connections().await;
        assert!(is_refusal(&client.get().await.unwrap_err()));
        client.assert_refuses().await;
        assert_eq!(server.connections().await, before);
        drop(stalled);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_without_a_response_open_the_circuit_while_they_wait() {
        let server = Server::start(Mode::StallsHeads);
        let mut client = Guarded::new(server.address(), impatient());
        let mut waiting = JoinSet::new();
        for _ in 0..5 {
            let mut client = client.clone();
            waiting.spawn(async move { client.get().await });
        }
        server.has_requests(5).await;
        advance(2 * SECOND).await;
        let before = server.connections().await;
        assert!(is_refusal(&client.get().await.unwrap_err()));
        client.assert_refuses().await;
        assert_eq!(server.connections().await, before);
        assert!(waiting.try_join_next().is_none(), "one of them has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn cancelled_calls_do_not_count() {
        let server = Server::start(Mode::StallsHeads);
        let client = Guarded::new(server.address(), config());
        let mut waiting = JoinSet::new();
        for _ in 0..10 {
            let mut client = client.clone();
            waiting.spawn(async move { client.get().await });
        }
        server.has_requests(10).await;
        waiting.shutdown().await;
        assert_eq!(client.handle.state(), State::Closed);
        assert_eq!(client.handle.snapshot().calls, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_recovering_server_sees_no_more_trial_calls_than_configured() {
        let server = Server::start(Mode::Held);
        let client = Guarded::new(server.address(), config().probes(3));
        client.handle.trip();
        advance(5 * SECOND).await;
        let mut calls = JoinSet::new();
        for _ in 0..50 {
            let mut client = client.clone();
            calls.spawn(async move { client.get().await });
        }
        for _ in 0..47 {
            assert!(is_refusal(&calls.join_next().await.unwrap().unwrap().unwrap_err()));
        }
        server.has_requests(3).await;
        assert_eq!(server.connections().await, 3);
        assert_eq!(client.handle.state(), State::HalfOpen);
        server.let_go();
        while let Some(call) = calls.join_next().await {
            assert_eq!(call.unwrap().unwrap(), "hello");
        }
        assert_eq!(server.requests(), 3);
        assert_eq!(client.handle.state(), State::Closed);
    }
}
