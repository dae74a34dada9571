//! An HTTP client that copes: timeouts, retries and hedges within a budget, a circuit breaker, a fallback.
//!
//! ```text
//! cargo run --example http_client --features http
//! ```
//!
//! Takes less than two seconds. The server is in this program, on a loopback port, and each path of it is sick in a way of
//! its own.
//!
//! What to look for: `client`, which is what to copy; and how many requests reached the server for each call. What
//! is of the moment is hidden from the caller, an order is sent twice only if it has a key, and a server that hangs
//! is left alone for a while.

#![allow(clippy::disallowed_methods, reason = "a program may wait, spawn and read the clock")]
#![allow(
    clippy::result_large_err,
    reason = "a failure that is handed back may be an answer of HTTP, which is large"
)]

use std::collections::HashMap;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use stanchion::circuit_breaker::{CircuitBreakerHandle, State};
use stanchion::fallback::Failure;
use stanchion::hedge::HedgeDelay;
use stanchion::http::Http;
use stanchion::{
    Backoff, Budget, BudgetConfig, CircuitBreakerConfig, CircuitBreakerLayer, FallbackLayer, HedgeConfig,
    HedgeLayer, Rejected, RetryConfig, RetryLayer, TimeoutLayer,
};
use tokio::net::TcpListener;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder, ServiceExt};

type Outgoing = Request<Full<Bytes>>;
type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

const MILLISECOND: Duration = Duration::from_millis(1);

/// The client, to be cloned for each call, and the handle of its circuit. There is one for each server.
fn client() -> (BoxCloneSyncService<Outgoing, Answer, BoxError>, CircuitBreakerHandle) {
    // Retries and hedges are a share of the calls, however many fail: what each of the two layers pays in.
    let budget = Budget::new(BudgetConfig::new().ratio(0.05));
    let retry = RetryConfig::new().max_attempts(3).backoff(Backoff::exponential(20 * MILLISECOND));
    // By default the delay is what 95 % of the calls take. That takes some traffic to know.
    let hedge = HedgeConfig::new().delay(HedgeDelay::Fixed(50 * MILLISECOND));
    // By default the share of failures decides, of at least 20 calls.
    let circuit = CircuitBreakerConfig::new().consecutive_failures(5).open_for(500 * MILLISECOND);
    let breaker = CircuitBreakerLayer::new(circuit).name("shop").protocol(Http::new());
    let circuit = breaker.handle();

    // Without recommendations there are bestsellers; for all else there is nothing that would do as well.
    let fallback = FallbackLayer::with(|is_for_recommendations: bool, _: &Failure<Answer, BoxError>| {
        is_for_recommendations.then(|| boxed(Response::new(Full::from("bestsellers"))))
    })
    .keep(|request: &Outgoing| request.uri().path() == "/recommended");

    let stack = ServiceBuilder::new()
        .map_response(boxed)
        // The call as a whole: no caller waits any longer.
        .layer(TimeoutLayer::after(1_000 * MILLISECOND).name("shop").protocol(Http::new()))
        .layer(fallback)
        .map_response(boxed)
        .layer(RetryLayer::new(retry).name("shop").protocol(Http::new()).budget(budget.clone()))
        .layer(HedgeLayer::new(hedge).name("shop").protocol(Http::new()).budget(budget))
        .layer(breaker)
        // Each attempt.
        .layer(TimeoutLayer::per_attempt(150 * MILLISECOND).name("shop").protocol(Http::new()))
        // Any error type will do that can be made of a `Rejected`.
        .map_err(BoxError::from)
        .service(Client::builder(TokioExecutor::new()).build_http());
    (BoxCloneSyncService::new(stack), circuit)
}

/// The bodies of the client and of the fallback, as one type.
fn boxed<B>(answer: Response<B>) -> Answer
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    answer.map(|body| body.map_err(Into::into).boxed_unsync())
}

/// What the server does with the `nth` request for a path.
async fn serve(path: &str, nth: usize) -> (StatusCode, &'static str) {
    match (path, nth) {
        ("/hangs", _) | ("/hangs-once", 1) => pending().await,
        ("/fails-once" | "/order" | "/order-with-key", 1) => (StatusCode::SERVICE_UNAVAILABLE, "try again"),
        _ => (StatusCode::OK, "done"),
    }
}

/// The server, and how many requests have reached it for each path.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<HashMap<String, usize>>>);

impl Server {
    async fn start() -> std::io::Result<(Self, SocketAddr)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = Self::default();
        tokio::spawn(server.clone().accept(listener));
        Ok((server, address))
    }

    async fn accept(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let server = self.clone();
            let service = service_fn(move |request| server.clone().answer(request));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    }

    async fn answer(self, request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
        let path = request.uri().path().to_owned();
        request.into_body().collect().await?;
        let nth = {
            let mut reached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let nth = reached.entry(path.clone()).or_default();
            *nth += 1;
            *nth
        };
        let (status, text) = serve(&path, nth).await;
        let mut answer = Response::new(Full::from(text));
        *answer.status_mut() = status;
        Ok(answer)
    }

    fn reached(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

/// What came of a call, and how many requests it took.
async fn call(
    client: &BoxCloneSyncService<Outgoing, Answer, BoxError>,
    server: &Server,
    request: Outgoing,
) -> anyhow::Result<(String, usize)> {
    let name = format!("{} {}", request.method(), request.uri().path());
    let (began, before) = (Instant::now(), server.reached());
    let outcome = match client.clone().oneshot(request).await {
        Ok(answer) => {
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await.map_err(anyhow::Error::from_boxed)?.to_bytes();
            format!("{status} {}", String::from_utf8_lossy(&body))
        }
        Err(error) => match Rejected::find(&*error) {
            Some(rejected) => rejected.to_string(),
            None => format!("failed: {error}"),
        },
    };
    let requests = server.reached() - before;
    println!("{name:24} {requests:8} {:8} ms   {outcome}", began.elapsed().as_millis());
    Ok((outcome, requests))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let (server, address) = Server::start().await?;
    let (client, circuit) = client();
    let get = |path| Request::get(format!("http://{address}{path}")).body(Full::default());
    let post = |path| Request::post(format!("http://{address}{path}"));
    let order = || Full::from("one cup");

    println!("{:24} {:>8} {:>8}", "", "requests", "took");
    call(&client, &server, get("/stock")?).await?;
    call(&client, &server, get("/fails-once")?).await?;
    call(&client, &server, get("/hangs-once")?).await?;
    let (_, orders) = call(&client, &server, post("/order").body(order())?).await?;
    ensure!(orders == 1, "an order without a key is not repeated");
    let keyed = post("/order-with-key").header("idempotency-key", "7").body(order())?;
    let (outcome, orders) = call(&client, &server, keyed).await?;
    ensure!(outcome == "200 done" && orders >= 2, "an order with a key is repeated");

    call(&client, &server, get("/hangs")?).await?;
    println!("-- the circuit is {}", circuit.state());
    let (_, requests) = call(&client, &server, get("/stock")?).await?;
    ensure!(requests == 0, "an open circuit lets nobody through");
    let (outcome, _) = call(&client, &server, get("/recommended")?).await?;
    ensure!(outcome == "200 bestsellers", "the fallback answers");

    tokio::time::sleep(circuit.snapshot().retry_after.unwrap_or_default()).await;
    println!("-- a while later");
    while circuit.state() != State::Closed {
        let (outcome, _) = call(&client, &server, get("/stock")?).await?;
        ensure!(outcome == "200 done", "the circuit closes again");
    }
    println!("-- the circuit is {}; {} requests reached the server", circuit.state(), server.reached());
    Ok(())
}
