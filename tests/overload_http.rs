//! A server of HTTP that is sent more than it can do, over real sockets and in real time.
//!
//! What is asserted holds on a slow machine too: it compares servers under the same load, and counts. The figures are
//! printed: `cargo test --all-features --test overload_http -- --nocapture`.

#![cfg(feature = "http")]
#![allow(clippy::disallowed_methods, reason = "servers and callers are tasks, and time is real")]
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "helpers of tests, and small numbers"
)]

#[path = "support/load.rs"]
mod load;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http::{Request, Response, StatusCode};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use stanchion::http::Http;
use stanchion::rate_limit::Quota;
use stanchion::respond::http_response;
use stanchion::{
    AdaptiveLimitConfig, AdaptiveLimitLayer, BulkheadConfig, BulkheadLayer, Error, RateLimitLayer, respond,
};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tower::{ServiceBuilder, service_fn};

use load::{Answer, Load};

const WORKERS: u32 = 4;
const SERVICE_TIME: Duration = Duration::from_millis(100);
/// Calls per second.
const CAPACITY: u32 = 40;
/// Callers have no use for what comes later.
const DEADLINE: Duration = Duration::from_millis(500);
/// By then queues are longer than callers wait.
const WARM: Duration = Duration::from_millis(800);
/// What counts are the calls from [`WARM`] to here. After the last call everything is answered at once, which these
/// cannot profit from: they are late by then.
const COUNTED: Duration = Duration::from_millis(1_600);
const LASTING: Duration = Duration::from_millis(2_200);

/// The work, whichever server does it.
#[derive(Clone)]
struct Work {
    workers: Arc<Semaphore>,
    begun: Arc<AtomicUsize>,
    under_way: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Work {
    fn new() -> Self {
        let workers = Arc::new(Semaphore::new(WORKERS as usize));
        Self { workers, begun: Arc::default(), under_way: Arc::default(), most: Arc::default() }
    }

    async fn one(self) -> &'static str {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(under_way, Ordering::SeqCst);
        let worker = self.workers.acquire().await.unwrap();
        sleep(SERVICE_TIME).await;
        drop(worker);
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        "done"
    }

    fn router(&self) -> Router {
        let work = self.clone();
        Router::new().route("/work", get(move || work.one()))
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    /// How many calls were in the handler at a time, at most.
    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

fn naive(router: Router) -> Router {
    router
}

/// Refuses when all workers have something to do.
fn refusing(router: Router) -> Router {
    let config = BulkheadConfig::new().max_in_flight(WORKERS);
    router.layer(
        ServiceBuilder::new()
            .layer(respond(http_response))
            .layer(BulkheadLayer::new(config).protocol(Http::new()).hold_until_body_end())
            .map_err(Error::<Infallible>::Inner),
    )
}

/// Lets as many wait as are at work, for as long as leaves them time.
fn waiting(router: Router) -> Router {
    let config = BulkheadConfig::new().max_in_flight(WORKERS).max_queued(WORKERS as usize);
    let layer = BulkheadLayer::waiting(config.max_wait(DEADLINE / 2));
    router.layer(
        ServiceBuilder::new()
            .layer(respond(http_response))
            .layer(layer.protocol(Http::new()).hold_until_body_end())
            .map_err(Error::<Infallible>::Inner),
    )
}

/// Finds out how many calls at a time are good for it, from about three times as many as there are workers.
fn finding(router: Router) -> Router {
    let config = AdaptiveLimitConfig::new().initial_limit(3 * WORKERS).min_calls(10);
    router.layer(
        ServiceBuilder::new()
            .layer(respond(http_response))
            .layer(AdaptiveLimitLayer::new(config).protocol(Http::new()))
            .map_err(Error::<Infallible>::Inner),
    )
}

/// What came of a load.
struct Run {
    answers: Vec<Answer>,
    work: Work,
}

impl Run {
    async fn of(load: Load, layers: fn(Router) -> Router) -> Self {
        let work = Work::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(axum::serve(listener, layers(work.router())).into_future());
        let all_at_once = || work.workers.add_permits(load.calls());
        let answers = timeout(Duration::from_secs(60), load.put(address, all_at_once)).await;
        server.abort();
        let run = Self { answers: answers.expect("every call is answered"), work };
        assert_eq!(run.answers.len(), load.calls());
        run
    }

    /// What begins when the queues are as long as they get to be.
    fn counted(&self) -> impl Iterator<Item = &Answer> {
        self.answers.iter().filter(|answer| (WARM..COUNTED).contains(&answer.at))
    }

    fn in_time(&self) -> usize {
        self.counted().filter(|answer| answer.status == StatusCode::OK && answer.took <= DEADLINE).count()
    }

    fn refused(&self) -> usize {
        self.answers.iter().filter(|answer| answer.status != StatusCode::OK).count()
    }

    /// Whoever was refused was told when to come again, and reached nobody; everybody else was served.
    fn assert_refused_with(&self, status: StatusCode) {
        for answer in self.answers.iter().filter(|answer| answer.status != StatusCode::OK) {
            assert_eq!(answer.status, status);
            assert_eq!(answer.retry_after.as_ref().unwrap(), "1");
        }
        assert_eq!(self.work.begun(), self.answers.len() - self.refused());
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let good = |answer: &&Answer| answer.status == StatusCode::OK;
        let mut times: Vec<_> = self.counted().filter(good).map(|answer| answer.took.as_millis()).collect();
        times.sort_unstable();
        let at = |percent: usize| times.get(times.len().saturating_sub(1) * percent / 100).unwrap_or(&0);
        let possible = f64::from(CAPACITY) * (COUNTED - WARM).as_secs_f64();
        write!(
            f,
            "goodput {:.2} of capacity; of {} calls {} refused; those accepted took p50 {} ms, p99 {} ms",
            self.in_time() as f64 / possible,
            self.answers.len(),
            self.refused(),
            at(50),
            at(99),
        )
    }
}

async fn overload(times: u32) {
    let load = Load { rate: times * CAPACITY, lasting: LASTING };
    // A machine that has other things to do may be late for its own reasons. Without a limit none of these would do.
    for _ in 0..5 {
        let (naive, refusing, waiting, finding) = tokio::join!(
            Run::of(load, naive),
            Run::of(load, refusing),
            Run::of(load, waiting),
            Run::of(load, finding)
        );
        println!("at {times}x, no layers:         {naive}");
        println!("at {times}x, bulkhead, refuses: {refusing}");
        println!("at {times}x, bulkhead, waits:   {waiting}");
        println!("at {times}x, adaptive limit:    {finding}");

        assert_eq!((naive.refused(), naive.work.begun()), (0, load.calls()));
        for guarded in [&refusing, &waiting, &finding] {
            guarded.assert_refused_with(StatusCode::SERVICE_UNAVAILABLE);
            assert!(guarded.refused() > 0, "it was no overload");
        }
        for bulkhead in [&refusing, &waiting] {
            assert!(bulkhead.work.most() <= WORKERS as usize, "{} at a time", bulkhead.work.most());
        }
        if [refusing, waiting, finding].iter().all(|run| run.in_time() >= 10 + 3 * naive.in_time()) {
            return;
        }
    }
    panic!("the layers are of no use");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_twice_its_capacity_a_server_that_refuses_is_in_time() {
    overload(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_five_times_its_capacity_a_server_that_refuses_is_in_time() {
    overload(5).await;
}

/// The layers may be right below hyper as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_the_quota_is_told_when_to_come_again() {
    const BURST: u32 = 8;
    let work = Work::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let worker = work.clone();
    let service = ServiceBuilder::new()
        .layer(respond(http_response))
        .layer(RateLimitLayer::new(Quota::per_second(CAPACITY).burst(BURST)))
        .map_err(Error::<Infallible>::Inner)
        .service(service_fn(move |_: Request<hyper::body::Incoming>| {
            let work = worker.clone().one();
            async { Ok(Response::new(Body::from(work.await))) }
        }));
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(service.clone());
            let serving = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(serving.serve_connection(TokioIo::new(stream), service));
        }
    });
    let load = Load { rate: 5 * CAPACITY, lasting: Duration::from_millis(700) };
    let began = tokio::time::Instant::now();
    let answers = load.put(address, || ()).await;
    let most = f64::from(BURST) + f64::from(CAPACITY) * began.elapsed().as_secs_f64();
    server.abort();
    let run = Run { answers, work };
    println!("at 5x, a quota: {} of {} calls refused", run.refused(), run.answers.len());
    run.assert_refused_with(StatusCode::TOO_MANY_REQUESTS);
    assert!(run.refused() > 0, "it was no overload");
    let begun = run.work.begun();
    assert!((f64::from(BURST)..=most).contains(&(begun as f64)), "{begun} of {most:.1}");
}
