//! Requests and responses of HTTP, and of gRPC over HTTP.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full};
use proptest::prelude::*;
use stanchion::Deadline;
use stanchion::http::headers::{grpc_timeout, retry_after};
use stanchion::http::replay_body::ReplayBody;
use stanchion::http::{Http, Idempotent};
use stanchion::protocol::Attempt;
use tokio_test::assert_ready;
use tower::BoxError;

use super::*;

type Result<T> = std::result::Result<T, BoxError>;

/// A server that responds to each request with the next of these.
#[derive(Clone)]
struct Server {
    answers: Arc<Vec<Response<()>>>,
    starts: Starts,
    seen: Arc<Mutex<Vec<HeaderMap>>>,
    numbers: Arc<Mutex<Vec<u32>>>,
}

impl Server {
    fn new(answers: impl IntoIterator<Item = Response<()>>) -> Self {
        let answers = Arc::new(answers.into_iter().collect());
        Self { answers, starts: Starts::new(), seen: Arc::default(), numbers: Arc::default() }
    }
}

impl<B> Service<Request<ReplayBody<B>>> for Server {
    type Response = Response<()>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Response<()>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReplayBody<B>>) -> Self::Future {
        let number = self.starts.begin() as usize;
        self.seen.lock().unwrap().push(request.headers().clone());
        self.numbers.lock().unwrap().push(request.extensions().get::<Attempt>().unwrap().number);
        let answer = self.answers.get(number - 1).unwrap_or(&self.answers[self.answers.len() - 1]);
        std::future::ready(Ok(answer.clone()))
    }
}

fn answer(status: u16, headers: &[(&'static str, &str)]) -> Response<()> {
    let mut answer = Response::new(());
    *answer.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        answer.headers_mut().append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    answer
}

fn get() -> Request<Empty<Bytes>> {
    Request::new(Empty::new())
}

fn with(method: Method) -> Request<Empty<Bytes>> {
    Request::builder().method(method).body(Empty::new()).unwrap()
}

async fn send(layer: RetryLayer, server: &Server, request: Request<Empty<Bytes>>) -> StatusCode {
    layer.protocol(Http::new()).layer(server.clone()).oneshot(request).await.unwrap().status()
}

// Waits that servers ask for.

/// .NET's retries were up to 11 ms too early.
#[tokio::test(start_paused = true)]
async fn a_retry_is_never_earlier_than_the_server_asked_for() {
    for (seconds, status) in [("0", 503), ("1", 503), ("7", 429), ("30", 503), ("31", 503)] {
        let server = Server::new([answer(status, &[("retry-after", seconds)]), answer(200, &[])]);
        let status = send(layer(), &server, get()).await;
        let seconds: u32 = seconds.parse().unwrap();
        if seconds > 30 {
            assert!(!status.is_success());
            server.starts.assert_at(&[0]);
        } else {
            assert_eq!(status, StatusCode::OK);
            server.starts.assert_at(&[0, (1_000 * seconds).max(100)]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_date_is_waited_for_as_well() {
    let date = httpdate::fmt_http_date(std::time::SystemTime::now() + 5 * SECOND);
    let server = Server::new([answer(503, &[("retry-after", &date)]), answer(200, &[])]);
    let call = send(layer(), &server, get()).await;
    assert_eq!(call, StatusCode::OK);
    let waited = server.starts.at.lock().unwrap()[1];
    assert!(waited > 3 * SECOND && waited <= 5 * SECOND + MS, "{waited:?}: a date has whole seconds");
}

fn values() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => "[0-9]{1,3}",
        1 => "[ \t]?[0-9]{1,25}[ \t]?",
        1 => "-?[0-9]{1,4}(\\.[0-9]+)?",
        1 => "(Mon|Wed|Sun), [0-3][0-9] (Oct|Nov) (20[0-9]{2}) [0-2][0-9]:[0-5][0-9]:[0-5][0-9] GMT",
        1 => "[ -~]{0,40}",
    ]
    .prop_map(String::into_bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_server_says_no_attempt_is_early_and_none_waits_beyond_the_limit(
        value in values(),
        jitter in any::<bool>(),
        limit in 0_u64..200,
    ) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut unavailable = answer(503, &[]);
            let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
            unavailable.headers_mut().insert(header::RETRY_AFTER, value);
            let before = std::time::SystemTime::now();
            let asked = retry_after(unavailable.headers(), before).unwrap_or_default();
            let server = Server::new([unavailable.clone(), answer(200, &[])]);
            let backoff = Backoff::exponential(100 * MS);
            let backoff = if jitter { backoff } else { backoff.jitter(Jitter::None) };
            let limit = Duration::from_secs(limit);
            let config = RetryConfig::new().backoff(backoff).max_server_wait(limit);
            let status = send(RetryLayer::new(config), &server, get()).await;
            let made = server.starts.at.lock().unwrap().clone();
            // The time until a date shrinks while the test runs.
            let slack = retry_after(unavailable.headers(), std::time::SystemTime::now()).unwrap_or_default();
            let slack = asked - slack;
            if asked > limit + slack {
                prop_assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
                prop_assert_eq!(made.len(), 1);
                prop_assert_eq!(server.starts.origin.elapsed(), Duration::ZERO);
            } else if asked <= limit {
                prop_assert_eq!(status, StatusCode::OK);
                prop_assert!(made[1] + slack >= asked, "{:?} for {:?}", made[1], asked);
                prop_assert!(made[1] <= asked.max(100 * MS) + MS, "{:?} for {:?}", made[1], asked);
            }
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn pushback_is_exact_and_restarts_the_backoff() {
    let unavailable = |pushback: Option<&str>| {
        let status = ("grpc-status", "14");
        match pushback {
            Some(pushback) => answer(200, &[status, ("grpc-retry-pushback-ms", pushback)]),
            None => answer(200, &[status]),
        }
    };
    let patient = || RetryLayer::new(config().max_attempts(5));
    let server = Server::new([None, Some("3"), Some("0"), None].map(unavailable));
    send(patient(), &server, get()).await;
    server.starts.assert_at(&[0, 100, 103, 103, 203]);
    for stop in ["-1", "abc", "1.5", "99999999999", "31000"] {
        let server = Server::new([unavailable(Some(stop))]);
        send(patient(), &server, get()).await;
        server.starts.assert_at(&[0]);
    }
    // Pushback also allows retries of other failures, but not of requests that are not idempotent.
    let internal = answer(200, &[("grpc-status", "13"), ("grpc-retry-pushback-ms", "7")]);
    let server = Server::new([internal.clone(), answer(200, &[("grpc-status", "0")])]);
    send(patient(), &server, get()).await;
    server.starts.assert_at(&[0, 7]);
    let server = Server::new([internal]);
    send(patient(), &server, with(Method::POST)).await;
    server.starts.assert_at(&[0]);
}

// Requests that may be retried.

/// Other libraries retry a POST by default, and created tickets twice.
#[tokio::test(start_paused = true)]
async fn only_idempotent_requests_are_retried() {
    let attempts = |request| async move {
        let server = Server::new([answer(503, &[])]);
        send(layer(), &server, request).await;
        server.starts.count()
    };
    for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE] {
        assert_eq!(attempts(with(method)).await, 3);
    }
    for method in [Method::POST, Method::PATCH, Method::CONNECT] {
        assert_eq!(attempts(with(method)).await, 1);
    }
    let mut keyed = with(Method::POST);
    keyed.headers_mut().insert("idempotency-key", HeaderValue::from_static("1"));
    assert_eq!(attempts(keyed).await, 3);
    for (method, is_idempotent) in [(Method::POST, true), (Method::GET, false)] {
        let mut marked = with(method);
        marked.extensions_mut().insert(Idempotent(is_idempotent));
        assert_eq!(attempts(marked).await, if is_idempotent { 3 } else { 1 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_that_did_not_get_through_is_repeated_once() {
    let refused = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    for (cut, attempts) in [(false, 2), (true, 1)] {
        let starts = Starts::new();
        let log = starts.clone();
        let client = service_fn(move |_: Request<ReplayBody<Empty<Bytes>>>| {
            log.begin();
            let error = if cut { std::io::ErrorKind::ConnectionReset.into() } else { refused() };
            async move { Err::<Response<()>, std::io::Error>(error) }
        });
        let service = layer().protocol(Http::new()).layer(client);
        service.clone().oneshot(with(Method::POST)).await.unwrap_err();
        assert_eq!(starts.count(), attempts);
        service.oneshot(get()).await.unwrap_err();
        assert_eq!(starts.count(), attempts + 3);
    }
}

/// The server may have executed the request.
#[tokio::test(start_paused = true)]
async fn a_post_that_timed_out_is_not_repeated() {
    for (method, attempts) in [(Method::POST, 1), (Method::GET, 3)] {
        let starts = Starts::new();
        let log = starts.clone();
        let client = service_fn(move |_: Request<ReplayBody<Empty<Bytes>>>| {
            log.begin();
            pending::<Result<Response<Empty<Bytes>>>>()
        });
        let service = ServiceBuilder::new()
            .layer(layer().protocol(Http::new()))
            .layer(TimeoutLayer::per_attempt(SECOND).protocol(Http::new()))
            .service(client);
        service.oneshot(with(method)).await.map(drop).unwrap_err();
        assert_eq!(starts.count(), attempts);
    }
}

#[tokio::test(start_paused = true)]
async fn statuses_that_may_pass_are_repeated_and_others_are_handed_out() {
    for status in (100..600).filter_map(|status| StatusCode::from_u16(status).ok()) {
        let server = Server::new([answer(status.as_u16(), &[])]);
        assert_eq!(send(layer(), &server, get()).await, status);
        let is_passing = [408, 425, 429, 500, 502, 503, 504].contains(&status.as_u16());
        assert_eq!(server.starts.count(), if is_passing { 3 } else { 1 }, "{status}");
    }
}

// What attempts carry.

#[tokio::test(start_paused = true)]
async fn each_attempt_has_its_number() {
    let server = Server::new([answer(503, &[])]);
    send(layer(), &server, get()).await;
    assert_eq!(*server.numbers.lock().unwrap(), [1, 2, 3]);
    assert!(server.seen.lock().unwrap().iter().all(HeaderMap::is_empty), "it is no call of gRPC");
}

fn grpc() -> Request<Empty<Bytes>> {
    let mut request = get();
    request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
    request
}

/// Returns the remaining time that each attempt carried, in milliseconds, and the number of earlier
/// attempts.
async fn told(request: Request<Empty<Bytes>>) -> Vec<(Option<u128>, Option<String>)> {
    let server = Server::new([answer(503, &[])]);
    send(layer(), &server, request).await;
    let seen = server.seen.lock().unwrap();
    let tell = |headers: &HeaderMap| {
        let before = headers.get("grpc-previous-rpc-attempts");
        let before = before.map(|before| before.to_str().unwrap().to_owned());
        (grpc_timeout(headers).map(|time| time.as_millis()), before)
    };
    seen.iter().map(tell).collect()
}

#[tokio::test(start_paused = true)]
async fn a_call_of_grpc_tells_the_server_how_often_it_was_tried_and_how_much_time_is_left() {
    let numbers = [None, Some("1".to_owned()), Some("2".to_owned())];
    let expect = |times: [Option<u128>; 3]| times.into_iter().zip(numbers.clone()).collect::<Vec<_>>();
    assert_eq!(told(grpc()).await, expect([None; 3]));

    let mut header = grpc();
    header.headers_mut().insert("grpc-timeout", HeaderValue::from_static("1000m"));
    assert_eq!(told(header).await, expect([Some(1_000), Some(900), Some(700)]));

    let mut both = grpc();
    both.headers_mut().insert("grpc-timeout", HeaderValue::from_static("1000m"));
    both.extensions_mut().insert(Deadline::after(SECOND));
    assert_eq!(told(both).await, expect([Some(1_000), Some(900), Some(700)]));
}

#[tokio::test(start_paused = true)]
async fn a_header_is_a_deadline_too() {
    let server = Server::new([answer(503, &[])]);
    let mut request = grpc();
    request.headers_mut().insert("grpc-timeout", HeaderValue::from_static("300m"));
    send(layer(), &server, request).await;
    server.starts.assert_at(&[0, 100]);
    assert_eq!(server.starts.origin.elapsed(), 100 * MS);
}

#[tokio::test(start_paused = true)]
async fn a_retry_within_a_retry_is_found_by_the_number_in_the_request() {
    let (outer, inner) = (Heard::default(), Heard::default());
    let server = Server::new([answer(503, &[])]);
    let services = ServiceBuilder::new()
        .layer(outer.by(layer().protocol(Http::new())))
        .layer(inner.by(layer().protocol(Http::new())))
        .map_request(|request: Request<ReplayBody<ReplayBody<Empty<Bytes>>>>| request)
        .service(server.clone());
    services.oneshot(get()).await.unwrap();
    assert_eq!(server.starts.count(), 9);
    assert_eq!((outer.count("nested"), inner.count("nested")), (0, 6));
}

// Bodies.

/// Calls a server that reads this many frames of each body before it fails, and returns what it
/// read.
async fn reads<B>(layer: RetryLayer, request: Request<B>, frames: usize) -> Vec<(Bytes, Option<HeaderMap>)>
where
    B: Body<Data = Bytes, Error = Infallible> + Unpin,
{
    let read = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&read);
    let server = service_fn(move |request: Request<ReplayBody<B>>| {
        let log = Arc::clone(&log);
        async move {
            let mut body = request.into_body();
            let (mut data, mut trailers) = (Vec::new(), None);
            for _ in 0..frames {
                let Some(Ok(frame)) = body.frame().await else { break };
                match frame.into_data() {
                    Ok(more) => data.extend_from_slice(&more),
                    Err(frame) => trailers = frame.into_trailers().ok(),
                }
            }
            log.lock().unwrap().push((Bytes::from(data), trailers));
            Ok::<_, BoxError>(answer(503, &[]))
        }
    });
    layer.protocol(Http::new().max_replayed(10)).layer(server).oneshot(request).await.unwrap();
    Arc::into_inner(read).map_or_else(Vec::new, |read| read.into_inner().unwrap())
}

fn put<B>(body: B) -> Request<B> {
    Request::builder().method(Method::PUT).body(body).unwrap()
}

/// A body in several pieces, with trailers.
struct Pieces(std::vec::IntoIter<Frame<Bytes>>);

impl Pieces {
    fn new() -> Self {
        let mut trailers = HeaderMap::new();
        trailers.insert("digest", HeaderValue::from_static("1"));
        let pieces = ["hel", "lo", " you"].map(|piece| Frame::data(Bytes::from(piece)));
        let frames: Vec<_> = pieces.into_iter().chain([Frame::trailers(trailers)]).collect();
        Self(frames.into_iter())
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(Ok))
    }
}

#[tokio::test(start_paused = true)]
async fn each_attempt_sends_the_whole_body_and_its_trailers() {
    let read = reads(layer(), put(Pieces::new()), usize::MAX).await;
    assert_eq!(read.len(), 3);
    for (data, trailers) in read {
        assert_eq!(data, "hello you");
        assert_eq!(trailers.unwrap()["digest"], "1");
    }
    // Even if the previous attempt was cut off.
    let read = reads(layer(), put(Pieces::new()), 2).await;
    assert!(read.len() == 3 && read.iter().all(|(data, _)| data.starts_with(b"hello")), "{read:?}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_long_to_be_kept_is_sent_once_and_that_is_told_each_time() {
    let heard = Heard::default();
    let budget = two_tokens();
    let layer = heard.by(layer().budget(budget.clone()));
    for _ in 0..3 {
        let announced = reads(layer.clone(), put(Full::new(Bytes::from("hello, hello"))), usize::MAX).await;
        assert_eq!(announced, [(Bytes::from("hello, hello"), None)]);
    }
    assert_eq!(heard.count("not_replayable after 1"), 3);
    assert_eq!(budget.balance(), 2.0);
}

/// A request that is still being sent on a connection that stays open.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_still_being_read_is_not_sent_beside_itself() {
    let heard = Heard::default();
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&bodies);
    let server = service_fn(move |request: Request<ReplayBody<Full<Bytes>>>| {
        log.lock().unwrap().push(request.into_body());
        async { Ok::<_, BoxError>(answer(503, &[])) }
    });
    let service = heard.by(layer().protocol(Http::new())).layer(server);
    let mut call = task::spawn(service.oneshot(put(Full::new(Bytes::from("hello")))));
    assert!(assert_ready!(call.poll()).is_ok());
    assert_eq!(bodies.lock().unwrap().len(), 1);
    assert_eq!(heard.take(), ["1 failure", "not_replayable after 1"]);
}
