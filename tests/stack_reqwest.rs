//! Requests of reqwest: a protocol that a user writes for types that this crate does not know.

#![cfg(feature = "http")]
#![allow(clippy::disallowed_methods, reason = "a server is a task")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

#[allow(dead_code, reason = "it serves other tests as well")]
#[path = "support/server.rs"]
mod server;

use std::time::Duration;

use http_body_util::Full;
use reqwest::{Body, Client, Method, Request, Response, Url};
use stanchion::circuit_breaker::State;
use stanchion::classify::{Class, Classify, Outcome};
use stanchion::http::{Http, is_unprocessed};
use stanchion::protocol::{BodyTimer, Replay, RequestContext, Timeouts, WrapBody};
use stanchion::{
    Backoff, CircuitBreakerConfig, CircuitBreakerHandle, CircuitBreakerLayer, Error, Reason, Rejected,
    RetryConfig, RetryLayer, TimeoutLayer,
};
use tower::{Service, ServiceBuilder, ServiceExt};

use server::{Mode, Server};

#[derive(Clone, Copy, Debug)]
struct OverReqwest;

/// A request has no place for a deadline and the number of the attempt.
impl RequestContext<Request> for OverReqwest {
    fn timeouts(&self, request: &Request) -> Timeouts {
        Timeouts::new().total(request.timeout().copied())
    }

    fn is_idempotent(&self, request: &Request) -> bool {
        request.method().is_idempotent() || request.headers().contains_key("idempotency-key")
    }
}

/// A body that is a stream is sent once.
impl Replay<Request> for OverReqwest {
    type Request = Request;
    type Saved = Request;

    fn save(&self, request: Request, is_wanted: bool) -> (Request, Option<Request>) {
        let kept = if is_wanted { request.try_clone() } else { None };
        (request, kept)
    }

    fn replay(&self, kept: &mut Request) -> Option<Request> {
        kept.try_clone()
    }
}

impl Classify<Response, Error<reqwest::Error>> for OverReqwest {
    fn classify(&self, result: Result<&Response, &Error<reqwest::Error>>) -> Outcome {
        match result {
            Ok(response) => {
                let mut head = http::Response::new(());
                *head.status_mut() = response.status();
                *head.headers_mut() = response.headers().clone();
                Classify::<_, Rejected>::classify(&Http::new(), Ok(&head))
            }
            Err(Error::Inner(error)) if error.is_connect() || is_unprocessed(error) => Outcome::unprocessed(),
            Err(_) => Outcome::failure(),
        }
    }
}

/// There are no limits on bodies.
impl WrapBody<Response> for OverReqwest {
    type Wrapped = Response;

    fn wrap_body(&self, answer: Response, _: Option<BodyTimer>) -> Response {
        answer
    }
}

fn stack() -> (impl Service<Request, Response = Response, Error = Error<reqwest::Error>>, CircuitBreakerHandle)
{
    let classify = |result: Result<&Response, &Error<reqwest::Error>>| match result {
        Ok(response) if !response.status().is_server_error() => Class::Success,
        _ => Class::Failure,
    };
    let config = CircuitBreakerConfig::new().consecutive_failures(3);
    let breaker = CircuitBreakerLayer::new(config).classify(classify);
    let handle = breaker.handle();
    let retry = RetryLayer::new(RetryConfig::new().backoff(Backoff::constant(Duration::ZERO)));
    let client = Client::builder().no_proxy().retry(reqwest::retry::never()).build().unwrap();
    let service = ServiceBuilder::new()
        .layer(TimeoutLayer::after(Duration::from_secs(3_600)).protocol(OverReqwest))
        .layer(retry.protocol(OverReqwest))
        .layer(breaker)
        .layer(TimeoutLayer::per_attempt(Duration::from_secs(3_600)).protocol(OverReqwest))
        .map_err(Error::Inner)
        .service(client);
    (service, handle)
}

fn request(server: &Server, method: Method, body: impl Into<Body>) -> Request {
    let mut request = Request::new(method, Url::parse(&format!("http://{}/", server.address())).unwrap());
    *request.body_mut() = Some(body.into());
    request
}

/// A server that answers the first request with a `503`.
fn server() -> Server {
    let server = Server::start(Mode::Healthy);
    server.plan(|request| if request == 0 { Mode::Asks(0) } else { Mode::Healthy });
    server
}

#[tokio::test]
async fn a_request_that_does_no_harm_twice_is_tried_again() {
    let (put, post) = (server(), server());
    let keyed = {
        let mut request = request(&post, Method::POST, "one cup");
        request.headers_mut().insert("idempotency-key", "\"8e03978e\"".parse().unwrap());
        request
    };
    for (server, request) in [(&put, request(&put, Method::PUT, "one cup")), (&post, keyed)] {
        assert_eq!(stack().0.oneshot(request).await.unwrap().text().await.unwrap(), "hello");
        let received = server.received();
        assert_eq!(received.len(), 2);
        assert_eq!((&received[0].body, &received[0].headers), (&received[1].body, &received[1].headers));
    }
}

#[tokio::test]
async fn a_request_that_may_do_harm_or_is_a_stream_is_made_once() {
    let stream = || Body::wrap(Full::new(bytes::Bytes::from("one cup")));
    for (method, body) in [(Method::POST, "one cup".into()), (Method::PUT, stream())] {
        let server = server();
        let answer = stack().0.oneshot(request(&server, method, body)).await.unwrap();
        assert_eq!((answer.status().as_u16(), server.requests()), (503, 1));
        assert_eq!(server.received()[0].body, "one cup");
    }
}

#[tokio::test]
async fn a_post_that_was_refused_a_connection_is_tried_once_more() {
    let down = server::Down::new();
    let url = Url::parse(&format!("http://{}/", down.address())).unwrap();
    let (service, breaker) = stack();
    let error = service.oneshot(Request::new(Method::POST, url)).await.unwrap_err();
    assert!(error.inner().unwrap().is_connect());
    assert_eq!(breaker.snapshot().failures, 2);
}

#[tokio::test]
async fn a_request_that_is_refused_by_a_layer_never_leaves() {
    let server = Server::start(Mode::Unavailable);
    let (mut service, breaker) = stack();
    let first = service.ready().await.unwrap().call(request(&server, Method::GET, "")).await;
    assert_eq!((first.unwrap().status().as_u16(), breaker.state()), (503, State::Open));
    let refused = service.ready().await.unwrap().call(request(&server, Method::GET, "")).await.unwrap_err();
    assert_eq!(refused.rejected().unwrap().reason(), Reason::CircuitOpen);
    assert_eq!(server.requests(), 3);
}
