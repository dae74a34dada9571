//! Layers around real clients and servers with their own types: what a user writes without a box.

#![cfg(feature = "http")]
#![allow(clippy::disallowed_methods, reason = "servers and callers are tasks")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

#[allow(dead_code, reason = "it serves other tests as well")]
#[path = "support/server.rs"]
mod server;

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::TokioExecutor;
use stanchion::circuit_breaker::State;
use stanchion::http::{Http, TimedBody, is_unprocessed};
use stanchion::{
    AdaptiveLimitConfig, AdaptiveLimitLayer, Backoff, CircuitBreakerConfig, CircuitBreakerHandle,
    CircuitBreakerLayer, Error, HedgeConfig, HedgeLayer, Reason, Rejected, RetryConfig, RetryLayer,
    ThrottleConfig, ThrottleLayer, TimeoutLayer, respond,
};
use tokio::net::TcpListener;
use tower::buffer::BufferLayer;
use tower::util::{BoxCloneService, BoxCloneSyncService};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};

use server::{Down, Mode, Server};

const LONG: Duration = Duration::from_secs(3_600);

type Outgoing = Request<Full<Bytes>>;

/// All layers around the client of hyper-util, and what they make of its types.
fn typed() -> (
    impl Service<
        Outgoing,
        Response = Response<impl http_body::Body<Data = Bytes, Error = BoxError> + Send + use<>>,
        Error = Error<legacy::Error>,
        Future: Send,
    > + Clone
    + Send
    + Sync
    + use<>,
    CircuitBreakerHandle,
) {
    let http = Http::new().unprocessed(|error: &Error<legacy::Error>| {
        error.inner().is_some_and(|error| error.is_connect() || is_unprocessed(error))
    });
    let breaker = CircuitBreakerLayer::new(CircuitBreakerConfig::new()).protocol(Http::new());
    let handle = breaker.handle();
    let retry = RetryLayer::new(RetryConfig::new().backoff(Backoff::constant(Duration::ZERO)));
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::after(LONG).protocol(http))
        .layer(retry.protocol(http))
        .layer(HedgeLayer::new(HedgeConfig::new()).protocol(http))
        .layer(breaker)
        .layer(TimeoutLayer::per_attempt(LONG).protocol(http))
        .map_err(Error::Inner)
        .service(Client::builder(TokioExecutor::new()).build_http());
    (service, handle)
}

fn to(server: &Server) -> Outgoing {
    Request::get(format!("http://{}/", server.address())).body(Full::default()).unwrap()
}

/// In a call by `oneshot` everything is in the task: the service, its clones, the request and the answer.
#[tokio::test]
async fn calls_may_be_made_on_other_tasks() {
    let server = Server::start(Mode::Healthy);
    let (service, _) = typed();
    let (request, clone) = (to(&server), service.clone());
    let call = async move {
        let answer = clone.oneshot(request).await?;
        Ok::<_, Error<legacy::Error>>(answer.into_body().collect().await.map(|body| body.to_bytes()))
    };
    assert_eq!(tokio::spawn(call).await.unwrap().unwrap().unwrap(), "hello");
}

/// The compiler has to know of every layer that it holds for a box of any lifetime.
#[tokio::test]
async fn calls_that_end_in_boxed_errors_may_be_made_on_other_tasks() {
    let (server, down) = (Server::start(Mode::Healthy), Down::new());
    let http = Http::new();
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::after(LONG).protocol(http))
        .layer(RetryLayer::new(RetryConfig::new().backoff(Backoff::constant(Duration::ZERO))).protocol(http))
        .layer(HedgeLayer::new(HedgeConfig::new()).protocol(http))
        .layer(CircuitBreakerLayer::new(CircuitBreakerConfig::new()).protocol(http))
        .layer(AdaptiveLimitLayer::new(AdaptiveLimitConfig::new()).protocol(http))
        .layer(ThrottleLayer::new(ThrottleConfig::new()).protocol(http))
        .layer(TimeoutLayer::per_attempt(LONG).protocol(http))
        .map_err(BoxError::from)
        .service(Client::builder(TokioExecutor::new()).build_http());
    let (request, mut client) = (to(&server), service.clone());
    let status = tokio::spawn(async move {
        let answer = client.ready().await?.call(request).await?;
        Ok::<_, BoxError>(answer.status())
    });
    assert_eq!(status.await.unwrap().unwrap(), StatusCode::OK);

    let request = Request::post(format!("http://{}/", down.address())).body(Full::default()).unwrap();
    let error = tokio::spawn(service.oneshot(request)).await.unwrap().err().unwrap();
    assert!(error.downcast_ref::<legacy::Error>().unwrap().is_connect());
}

#[tokio::test]
async fn a_stack_may_be_put_into_a_box() {
    let server = Server::start(Mode::Healthy);
    let (service, _) = typed();
    let in_sync = BoxCloneSyncService::new(service.clone());
    let in_box = BoxCloneService::new(service);
    assert_eq!(in_sync.oneshot(to(&server)).await.unwrap().status(), StatusCode::OK);
    assert_eq!(in_box.oneshot(to(&server)).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_stack_may_be_called_through_a_buffer_and_its_refusals_are_found() {
    let server = Server::start(Mode::Healthy);
    let (service, breaker) = typed();
    let buffered = ServiceBuilder::new().layer(BufferLayer::new(4)).service(service);
    assert_eq!(buffered.clone().oneshot(to(&server)).await.unwrap().status(), StatusCode::OK);
    breaker.force_open();
    let error = buffered.oneshot(to(&server)).await.err().unwrap();
    assert_eq!(Rejected::find(&*error).unwrap().reason(), Reason::CircuitOpen);
}

#[tokio::test]
async fn an_error_keeps_its_type() {
    let down = Down::new();
    let (service, breaker) = typed();
    let request = Request::post(format!("http://{}/", down.address())).body(Full::default()).unwrap();
    let error = service.oneshot(request).await.err().unwrap();
    assert!(error.inner().unwrap().is_connect());
    // A POST as well: it was surely not processed.
    assert_eq!(breaker.snapshot().failures, 2);
}

/// A server in axum whose handlers have a limit and a breaker, and which answers all refusals.
#[tokio::test(start_paused = true)]
async fn a_server_answers_what_its_layers_refuse_or_give_up() {
    let unavailable = |rejected: Rejected| {
        let mut response: Response<TimedBody<Body>> =
            Response::new(Body::from(rejected.reason().as_str()).into());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
    };
    let breaker = CircuitBreakerLayer::new(CircuitBreakerConfig::new().consecutive_failures(1));
    let handle = breaker.handle();
    let router: Router = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/stalls", get(std::future::pending::<&str>))
        .layer(
            ServiceBuilder::new()
                .layer(respond(unavailable))
                .layer(breaker)
                .layer(TimeoutLayer::after(Duration::from_secs(1)).protocol(Http::new()))
                .map_err(Error::<Infallible>::Inner),
        );
    let read = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    };
    assert_eq!(read("/").await, "hello");
    assert_eq!(read("/stalls").await, "total_timeout");
    assert_eq!(read("/").await, "circuit_open");
    assert_eq!(handle.state(), State::Open);
}

/// A server that passes requests on, with the body that it has been sent, is a client as well.
#[tokio::test]
async fn a_body_that_is_passed_on_is_sent_again() {
    let upstream = Server::start(Mode::Healthy);
    upstream.plan(|request| if request == 0 { Mode::Unavailable } else { Mode::Healthy });
    let address = upstream.address();
    let retry = RetryLayer::new(RetryConfig::new().backoff(Backoff::constant(Duration::ZERO)));
    let client = ServiceBuilder::new()
        .layer(retry.protocol(Http::new()))
        .map_err(BoxError::from)
        .service(Client::builder(TokioExecutor::new()).build_http());
    // The future of a stack whose errors are in boxes is not `Send` within another one, a compiler's limit; this is.
    let client = BoxCloneSyncService::new(client);
    let pass_on = service_fn(move |mut request: Request<Body>| {
        *request.uri_mut() = format!("http://{address}/").parse().unwrap();
        let answer = client.clone().oneshot(request);
        async move { Ok::<_, Infallible>(answer.await.unwrap().map(Body::new)) }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    let router = Router::new().fallback_service(pass_on);
    let serving = tokio::spawn(axum::serve(listener, router).into_future());
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = Request::put(format!("http://{proxy}/")).body(Full::new(Bytes::from("one cup"))).unwrap();
    assert_eq!(client.request(request).await.unwrap().status(), StatusCode::OK);
    serving.abort();
    let bodies: Vec<_> = upstream.received().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, ["one cup", "one cup"]);
}
