//! What a tonic client sees of rejections by layers around a tonic server, over real sockets.

#![cfg(feature = "http")]
#![allow(clippy::disallowed_methods, reason = "a server is a task")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use stanchion::http::{Http, Idempotent};
use stanchion::rate_limit::Quota;
use stanchion::respond::grpc_response;
use stanchion::{
    BulkheadConfig, BulkheadLayer, CircuitBreakerConfig, CircuitBreakerLayer, Deadline, Error,
    RateLimitLayer, RetryConfig, RetryLayer, TimeoutLayer, respond,
};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{NamedService, UnaryService};
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status};
use tower::{BoxError, Layer, Service, ServiceBuilder};

const HELLO: &str = "/test.Greeter/Hello";
const HOUR: Duration = Duration::from_secs(3_600);

/// Messages are text.
#[derive(Clone, Copy, Default)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, text: String, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(text.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let text = buffer.copy_to_bytes(buffer.remaining());
        String::from_utf8(text.to_vec()).map(Some).map_err(|_| Status::invalid_argument("no text"))
    }
}

/// A service that responds once it has a permit.
#[derive(Clone)]
struct Greeter {
    calls: Arc<AtomicUsize>,
    may: Arc<Semaphore>,
}

type Boxed<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl NamedService for Greeter {
    const NAME: &'static str = "test.Greeter";
}

impl Service<http::Request<Body>> for Greeter {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Boxed<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let this = self.clone();
        Box::pin(async { Ok(tonic::server::Grpc::new(Text).unary(this, request).await) })
    }
}

impl UnaryService<String> for Greeter {
    type Response = String;
    type Future = Boxed<Response<String>, Status>;

    fn call(&mut self, request: Request<String>) -> Self::Future {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let may = Arc::clone(&self.may);
        Box::pin(async move {
            may.acquire().await.unwrap().forget();
            Ok(Response::new(format!("hello {}", request.into_inner())))
        })
    }
}

/// A tonic server behind layers.
struct Served {
    address: SocketAddr,
    greeter: Greeter,
    server: JoinHandle<()>,
}

impl Served {
    /// Lets the first `answers` calls respond.
    async fn behind<L, B>(layer: L, answers: usize) -> Self
    where
        L: Layer<Routes> + Clone + Send + 'static,
        L::Service:
            Service<http::Request<Body>, Response = http::Response<B>, Error = Infallible> + Clone + Send,
        L::Service: Service<http::Request<Body>, Future: Send> + 'static,
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let greeter = Greeter { calls: Arc::default(), may: Arc::new(Semaphore::new(answers)) };
        let router = Server::builder().layer(layer).add_service(greeter.clone());
        let serving = router.serve_with_incoming(TcpIncoming::from(listener));
        let server = tokio::spawn(async { serving.await.unwrap() });
        Self { address, greeter, server }
    }

    fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect_lazy()
    }

    async fn hello(&self) -> Result<String, Status> {
        hello(self.channel(), Request::new("you".to_owned())).await
    }

    fn calls(&self) -> usize {
        self.greeter.calls.load(Ordering::SeqCst)
    }

    async fn has_calls(&self, calls: usize) {
        while self.calls() < calls {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Calls the server through a tonic client over `service`.
async fn hello<S, B>(service: S, request: Request<String>) -> Result<String, Status>
where
    S: Service<http::Request<Body>, Response = http::Response<B>, Error: Into<BoxError>>,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let mut client = tonic::client::Grpc::new(service);
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    client.unary(request, PathAndQuery::from_static(HELLO), Text).await.map(Response::into_inner)
}

fn pushback(status: &Status) -> Option<u64> {
    let value = status.metadata().get("grpc-retry-pushback-ms")?;
    Some(value.to_str().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_full_bulkhead_is_resource_exhausted() {
    let layer = BulkheadLayer::new(BulkheadConfig::new().max_in_flight(1))
        .name("greeter")
        .protocol(Http::new())
        .hold_until_body_end();
    let bulkhead = layer.handle();
    let served = Served::behind(
        ServiceBuilder::new().layer(respond(grpc_response)).layer(layer).map_err(Error::<Infallible>::Inner),
        0,
    )
    .await;
    let first = tokio::spawn(hello(served.channel(), Request::new("me".to_owned())));
    served.has_calls(1).await;
    let refused = served.hello().await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::ResourceExhausted, "rejected by greeter: bulkhead is full")
    );
    assert_eq!((served.calls(), bulkhead.snapshot().in_flight), (1, 1));

    served.greeter.may.add_permits(2);
    assert_eq!(first.await.unwrap().unwrap(), "hello me");
    while bulkhead.snapshot().in_flight > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(served.hello().await.unwrap(), "hello you");
}

#[tokio::test]
async fn an_exhausted_quota_is_resource_exhausted_with_pushback() {
    let layer = RateLimitLayer::new(Quota::per(1, HOUR)).name("größe");
    let layers =
        ServiceBuilder::new().layer(respond(grpc_response)).layer(layer).map_err(Error::<Infallible>::Inner);
    let served = Served::behind(layers, 1).await;
    assert_eq!(served.hello().await.unwrap(), "hello you");
    let refused = served.hello().await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().starts_with("rejected by größe: rate limit reached"), "{refused:?}");
    let wait = pushback(&refused).expect("it is known");
    assert!((3_000_000..=3_600_000).contains(&wait), "{wait}");
    assert_eq!(served.calls(), 1);
}

#[tokio::test]
async fn an_open_circuit_is_unavailable_with_pushback() {
    let layer = CircuitBreakerLayer::new(CircuitBreakerConfig::new());
    let circuit = layer.handle();
    let layers =
        ServiceBuilder::new().layer(respond(grpc_response)).layer(layer).map_err(Error::<Infallible>::Inner);
    let served = Served::behind(layers, 1).await;
    circuit.trip_for(HOUR);
    let refused = served.hello().await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    let wait = pushback(&refused).expect("it is known");
    assert!((3_000_000..=3_600_000).contains(&wait), "{wait}");
    // A circuit held open by an operator has no pushback.
    circuit.force_open();
    let refused = served.hello().await.unwrap_err();
    assert_eq!((refused.code(), pushback(&refused), served.calls()), (Code::Unavailable, None, 0));
    circuit.reset();
    assert_eq!(served.hello().await.unwrap(), "hello you");
}

#[tokio::test]
async fn a_call_that_is_given_up_has_exceeded_its_deadline() {
    let layer = TimeoutLayer::after(Duration::from_millis(20)).protocol(Http::new());
    let layers =
        ServiceBuilder::new().layer(respond(grpc_response)).layer(layer).map_err(Error::<Infallible>::Inner);
    let served = Served::behind(layers, 0).await;
    let given_up = served.hello().await.unwrap_err();
    assert_eq!((given_up.code(), pushback(&given_up)), (Code::DeadlineExceeded, None));
}

#[tokio::test]
async fn a_call_whose_deadline_has_passed_does_not_reach_the_service() {
    let layers = ServiceBuilder::new()
        .layer(respond(grpc_response))
        .map_request(|mut request: http::Request<Body>| {
            request.extensions_mut().insert(Deadline::after(Duration::ZERO));
            request
        })
        .layer(TimeoutLayer::after(HOUR).protocol(Http::new()))
        .map_err(Error::<Infallible>::Inner);
    let served = Served::behind(layers, 1).await;
    let refused = served.hello().await.unwrap_err();
    assert_eq!((refused.code(), pushback(&refused)), (Code::DeadlineExceeded, None));
    assert!(refused.message().starts_with("rejected by timeout: deadline exceeded"), "{refused:?}");
    assert_eq!(served.calls(), 0);
}

/// Client and server are ours, with a real connection between them.
#[tokio::test]
async fn a_client_retries_after_the_pushback() {
    const WAIT: Duration = Duration::from_millis(100);
    let layer = RateLimitLayer::new(Quota::per(1, WAIT));
    let layers =
        ServiceBuilder::new().layer(respond(grpc_response)).layer(layer).map_err(Error::<Infallible>::Inner);
    let served = Served::behind(layers, 2).await;
    let began = tokio::time::Instant::now();
    assert_eq!(served.hello().await.unwrap(), "hello you");

    let client = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryConfig::new()).protocol(Http::new()))
        .map_err(Error::Inner)
        .map_request(|request: http::Request<_>| request.map(Body::new))
        .service(served.channel());
    let mut request = Request::new("you again".to_owned());
    request.extensions_mut().insert(Idempotent(true));
    assert_eq!(hello(client, request).await.unwrap(), "hello you again");
    assert!(began.elapsed() >= WAIT);
    assert_eq!(served.calls(), 2);
}
