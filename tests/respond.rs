//! Responses in place of rejections: the adapter alone, and under axum.

#![allow(clippy::disallowed_methods, reason = "a server is a task")]
#![allow(clippy::panic, clippy::unwrap_used, clippy::needless_pass_by_value, reason = "helpers of tests")]

#[path = "support/fault.rs"]
mod fault;

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, Ready, ready};
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::fault::Fault;
use stanchion::circuit_breaker::Readiness;
use stanchion::respond::{Respond, RespondLayer};
use stanchion::{CircuitBreakerConfig, CircuitBreakerLayer, Error, Rejected, respond};
use tokio_test::{assert_pending, assert_ready, task};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

fn breaker() -> CircuitBreakerLayer {
    CircuitBreakerLayer::new(CircuitBreakerConfig::new().consecutive_failures(1)).name("payments")
}

fn say(rejected: Rejected) -> String {
    format!("{} says {}", rejected.layer(), rejected.reason())
}

#[tokio::test(start_paused = true)]
async fn responses_and_errors_pass_and_a_rejection_becomes_a_response() {
    let layer = breaker();
    let mut service = ServiceBuilder::new()
        .layer(respond(say))
        .layer(&layer)
        .map_err(Error::Inner)
        .service(service_fn(|text: Result<&'static str, Fault>| ready(text.map(str::to_owned))));
    let mut call = async |request| service.ready().await.unwrap().call(request).await;
    assert_eq!(call(Ok("hello")).await, Ok("hello".to_owned()));
    assert_eq!(
        call(Err(Fault("broken"))).await,
        Err(Fault("broken")),
        "the error type from below the layers"
    );
    assert_eq!(call(Ok("hello")).await, Ok("payments says circuit is open".to_owned()));
    layer.handle().reset();
    assert_eq!(call(Ok("hello")).await, Ok("hello".to_owned()));
}

/// An inner service whose `poll_ready` returns a given result.
#[derive(Clone, Debug)]
struct Says(Option<Error<Fault>>);

impl Service<()> for Says {
    type Response = String;
    type Error = Error<Fault>;
    type Future = Ready<Result<String, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(self.0.clone().map_or(Ok(()), Err))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        assert!(self.0.is_none(), "called without being ready");
        ready(Ok("called".to_owned()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejection_in_poll_ready_becomes_the_response_to_the_call() {
    let layer = breaker();
    layer.handle().force_open();
    let rejected = layer.handle().try_acquire().unwrap_err();
    let mut service = respond(say).layer(Says(Some(Error::Rejected(rejected))));
    for _ in 0..3 {
        service.ready().await.unwrap();
    }
    // The clone has not been polled.
    let clone = service.clone();
    assert_eq!(service.call(()).await, Ok("payments says circuit is open".to_owned()));
    service.get_mut().0 = None;
    assert_eq!(service.ready().await.unwrap().call(()).await, Ok("called".to_owned()));
    assert!(clone.into_inner().0.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_failed_poll_ready_passes() {
    let mut service = respond(say).layer(Says(Some(Error::Inner(Fault("cannot connect")))));
    assert_eq!(service.ready().await.unwrap_err(), Fault("cannot connect"));
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_is_waited_for_is_still_waited_for() {
    let layer = breaker().readiness(Readiness::Pending);
    let mut service = respond(say)
        .layer(layer.layer(service_fn(|(): ()| ready(Ok::<_, Error<Infallible>>(String::new())))));
    layer.handle().force_open();
    let mut waiting = task::spawn(());
    assert_pending!(waiting.enter(|cx, _| service.poll_ready(cx)));
    layer.handle().reset();
    assert!(waiting.is_woken());
    assert_eq!(assert_ready!(waiting.enter(|cx, _| service.poll_ready(cx))), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn neither_the_service_nor_the_function_need_be_send_or_live_for_ever() {
    #[derive(Debug)]
    struct Local(Rc<str>);

    impl fmt::Display for Local {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.0)
        }
    }

    impl std::error::Error for Local {}

    let greeting = String::from("sorry");
    let count = Rc::new(());
    let layer = breaker();
    let service = layer.layer(service_fn(|(): ()| {
        let count = Rc::clone(&count);
        async move { Ok::<_, Error<Local>>(Rc::strong_count(&count).to_string()) }
    }));
    let mut service = respond(|_| greeting.clone()).layer(service);
    assert_eq!(service.ready().await.unwrap().call(()).await.unwrap(), "2");
    layer.handle().force_open();
    assert_eq!(service.ready().await.unwrap().call(()).await.unwrap(), "sorry");
}

#[test]
fn everything_is_send_and_sync_if_the_inner_is() {
    fn all<T: Clone + Send + Sync + Unpin + std::fmt::Debug + 'static>(_: &T) {}
    fn future<T: Future + Send + Sync + 'static>(_: &T) {}

    let layer: RespondLayer<fn(Rejected) -> String> = respond(say);
    all(&layer);
    let mut service: Respond<Says, _> = layer.layer(Says(None));
    all(&service);
    future(&service.call(()));
}

#[cfg(feature = "http")]
mod under_axum {
    use std::time::Duration;

    use axum::Router;
    use axum::body::Body;
    use axum::extract::Path;
    use axum::response::{IntoResponse, Response};
    use axum::routing::get;
    use http::{Request, StatusCode, header};
    use http_body_util::BodyExt;
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;
    use stanchion::classify::Class;
    use stanchion::protocol::{AnyRequest, Classified};
    use tokio::net::TcpListener;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The function of a typical web service.
    fn unavailable(rejected: Rejected) -> Response {
        let wait = rejected.retry_after().unwrap_or(SECOND).as_secs_f64().ceil();
        let headers = [(header::RETRY_AFTER, wait.to_string())];
        (StatusCode::SERVICE_UNAVAILABLE, headers, format!("{} is down", rejected.layer())).into_response()
    }

    /// A server error is a failure, though axum's handlers never fail.
    fn classify(result: Result<&Response, &Error<Infallible>>) -> Class {
        match result {
            Ok(response) if response.status().is_server_error() => Class::Failure,
            _ => Class::Success,
        }
    }

    fn routes() -> Router {
        Router::new()
            .route("/a", get(|| async { "a" }))
            .route("/b", get(|| async { "b" }))
            .route(
                "/status/{code}",
                get(|Path(code): Path<u16>| async move { StatusCode::from_u16(code).unwrap() }),
            )
            .fallback(|| async { (StatusCode::NOT_FOUND, "nothing here") })
    }

    type Classifier = Classified<AnyRequest, fn(Result<&Response, &Error<Infallible>>) -> Class>;

    fn layer() -> CircuitBreakerLayer<Classifier> {
        breaker().classify(classify as fn(Result<&Response, &Error<Infallible>>) -> Class)
    }

    fn guarded(layer: &CircuitBreakerLayer<Classifier>) -> Router {
        let map_err = Error::<Infallible>::Inner;
        routes()
            .layer(ServiceBuilder::new().layer(respond(unavailable)).layer(layer.clone()).map_err(map_err))
    }

    async fn get_from(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        read(router.clone().oneshot(request).await.unwrap()).await
    }

    async fn read<B: http_body::Body<Error: std::fmt::Debug>>(
        response: http::Response<B>,
    ) -> (StatusCode, String) {
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_router_responds_to_rejections_and_its_routes_share_the_circuit() {
        let layer = layer();
        let router = guarded(&layer);
        assert_eq!(get_from(&router, "/a").await, (StatusCode::OK, "a".to_owned()));
        assert_eq!(get_from(&router, "/status/500").await.0, StatusCode::INTERNAL_SERVER_ERROR);
        // axum applies the layer to each route, and here again for each request.
        for path in ["/a", "/b", "/status/200", "/nothing"] {
            let refused = (StatusCode::SERVICE_UNAVAILABLE, "payments is down".to_owned());
            assert_eq!(get_from(&router, path).await, refused, "{path}");
        }
        layer.handle().reset();
        assert_eq!(get_from(&router, "/b").await, (StatusCode::OK, "b".to_owned()));
        assert_eq!(get_from(&router, "/nothing").await, (StatusCode::NOT_FOUND, "nothing here".to_owned()));
        assert_eq!(layer.handle().snapshot().calls, 2);
    }

    #[tokio::test]
    async fn a_server_responds_to_rejections_over_the_wire() {
        let layer = layer();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(axum::serve(listener, guarded(&layer)).into_future());
        let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
        let get = async |path: &str| {
            let uri = format!("http://{address}{path}").parse().unwrap();
            client.get(uri).await.unwrap()
        };
        assert_eq!(read(get("/a").await).await, (StatusCode::OK, "a".to_owned()));
        layer.handle().trip_for(3_600 * SECOND);
        let refused = get("/b").await;
        assert_eq!(refused.headers()[header::RETRY_AFTER], "3600");
        assert_eq!(read(refused).await, (StatusCode::SERVICE_UNAVAILABLE, "payments is down".to_owned()));
        layer.handle().reset();
        assert_eq!(read(get("/b").await).await, (StatusCode::OK, "b".to_owned()));
        server.abort();
    }

    /// The call lasts until the client has the whole response.
    #[tokio::test(start_paused = true)]
    async fn a_router_may_carry_the_permit_in_its_bodies() {
        use stanchion::circuit_breaker::Permit;
        use stanchion::http::{GuardedBody, Http};

        type Guarded = http::Response<GuardedBody<Body, Permit>>;

        let layer = breaker().protocol(Http::new());
        let unavailable = |_| {
            let mut response = Guarded::default();
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        };
        let router = routes().layer(
            ServiceBuilder::new()
                .layer(respond(unavailable))
                .layer(layer.clone())
                .map_err(Error::<Infallible>::Inner),
        );
        let response = router.clone().oneshot(Request::get("/a").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(layer.handle().snapshot().calls, 0, "the body has not been read");
        assert_eq!(read(response).await, (StatusCode::OK, "a".to_owned()));
        assert_eq!(layer.handle().snapshot().calls, 1);
        layer.handle().force_open();
        assert_eq!(get_from(&router, "/a").await, (StatusCode::SERVICE_UNAVAILABLE, String::new()));
    }
}
