//! Limits that find themselves, of several crates, before a server that is asked for too much: simulated, under tokio's
//! paused clock.
//!
//!     cargo run --release --bin overload          STANCHION_SEED=2, STANCHION_LONG=1: as in tests/simulation_overload.rs
//!
//! The server and the figures are those of stanchion's own simulations. Crates whose layers read the system's clock are
//! driven by their algorithms alone, behind the simplest of services: it refuses what is above the limit, and tells the
//! algorithm of each call when it ends.

#[path = "../../../../tests/support/fault.rs"]
mod fault;
#[path = "../../../../tests/support/overload.rs"]
mod overload;
#[path = "../../../../tests/support/virtual_server.rs"]
mod virtual_server;

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use congestion_limiter::aggregation::Percentile;
use congestion_limiter::limiter::{DefaultLimiter, Limiter, Outcome};
use congestion_limiter::limits::{LimitAlgorithm, Vegas, Windowed};
use fault::Fault;
use overload::{BrownOut, Figures, behind, deadline};
use stanchion::{AdaptiveLimitConfig, AdaptiveLimitLayer, BulkheadConfig, Error, QueueDiscipline};
use tower::{BoxError, Layer, Service, ServiceBuilder};
use tower_resilience_adaptive::ConcurrencyAlgorithm;
use virtual_server::{Answer, Failed, Request, Server, seed};

const REFUSED: Failed = Error::Inner(Fault("rejected"));

/// An algorithm that is told of each call.
trait Algorithm {
    fn limit(&self) -> usize;
    fn ended(&mut self, took: Duration, in_flight: usize);
}

impl<A: ConcurrencyAlgorithm> Algorithm for Told<A> {
    fn limit(&self) -> usize {
        self.0.limit()
    }

    fn ended(&mut self, took: Duration, in_flight: usize) {
        self.0.record_success_with_load(took, in_flight);
    }
}

/// One of `tower_resilience_adaptive`.
struct Told<A>(A);

/// One of `tower_acc`.
struct Acc<A>(A);

impl<A: tower_acc::Algorithm> Algorithm for Acc<A> {
    fn limit(&self) -> usize {
        self.0.max_concurrency()
    }

    fn ended(&mut self, took: Duration, in_flight: usize) {
        self.0.update(took, in_flight, false, false);
    }
}

type Call = Pin<Box<dyn Future<Output = Result<Answer, Failed>>>>;

/// A server behind an algorithm.
#[derive(Clone)]
struct Guarded {
    server: Server,
    state: Rc<RefCell<(Box<dyn Algorithm>, usize)>>,
}

impl Guarded {
    fn new(server: Server, algorithm: impl Algorithm + 'static) -> Self {
        Self { server, state: Rc::new(RefCell::new((Box::new(algorithm), 0))) }
    }
}

impl Service<Request> for Guarded {
    type Response = Answer;
    type Error = Failed;
    type Future = Call;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Call {
        {
            let (algorithm, in_flight) = &mut *self.state.borrow_mut();
            if *in_flight >= algorithm.limit() {
                return Box::pin(std::future::ready(Err(REFUSED)));
            }
            *in_flight += 1;
        }
        let (call, server, state) = (self.server.call(request), self.server.clone(), Rc::clone(&self.state));
        let began = server.now();
        Box::pin(async move {
            let answer = call.await;
            let (algorithm, in_flight) = &mut *state.borrow_mut();
            algorithm.ended(server.now() - began, *in_flight);
            *in_flight -= 1;
            answer
        })
    }
}

/// A server behind a limiter of `congestion_limiter`, which reads tokio's clock.
struct Congested<A> {
    server: Server,
    limiter: Arc<DefaultLimiter<A>>,
}

impl<A> Clone for Congested<A> {
    fn clone(&self) -> Self {
        Self { server: self.server.clone(), limiter: Arc::clone(&self.limiter) }
    }
}

impl<A: LimitAlgorithm + std::fmt::Debug + Send + Sync + 'static> Service<Request> for Congested<A> {
    type Response = Answer;
    type Error = Failed;
    type Future = Call;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Call {
        let (mut server, limiter) = (self.server.clone(), Arc::clone(&self.limiter));
        Box::pin(async move {
            let Some(token) = limiter.try_acquire().await else { return Err(REFUSED) };
            let answer = server.call(request).await;
            limiter.release(token, Some(Outcome::Success)).await;
            answer
        })
    }
}

fn row<S>(name: &str, guard: impl Fn(Server) -> S)
where
    S: Service<Request, Response = Answer, Error = Failed, Future: 'static> + Clone + 'static,
{
    let mut misses = Vec::new();
    let mut cells = String::new();
    let (mut p99, mut late) = (Duration::ZERO, 0.0_f64);
    for load in [0.8, 2.0, 5.0, 10.0] {
        let figures = Figures::of(load, &guard);
        for goodput in &figures.goodput {
            cells += &format!("{goodput:.2} ");
        }
        cells += "| ";
        (p99, late) = (p99.max(figures.p99), late.max(figures.late));
        misses.extend(figures.misses());
    }
    let brown_out = BrownOut::of(&guard);
    misses.extend(brown_out.misses());
    misses.sort_unstable();
    misses.dedup();
    let recovery = brown_out.recovery.map_or("never".to_owned(), |time| format!("{} s", time.as_secs()));
    let verdict =
        if misses.is_empty() { "passes".to_owned() } else { format!("misses {}", misses.join(", ")) };
    println!(
        "| {name} | {cells}{:.0} | {:.1} % | {:.2} | {recovery} | {verdict} |",
        p99.as_secs_f64() * 1_000.0,
        late * 100.0,
        brown_out.goodput
    );
}

fn main() {
    println!("goodput at each load, as a share of what the server can do; seed {}", seed());
    println!("| limit | 0.8x | 2x | 5x | 10x | p99 ms | late | brown-out | recovery | |");
    println!("|---|---|---|---|---|---|---|---|---|---|");
    row("none", |server| server);
    row("tower ConcurrencyLimit 200 + load_shed", |server| {
        let layers = ServiceBuilder::new().map_err(|_: BoxError| REFUSED).load_shed().concurrency_limit(200);
        layers.service(server)
    });
    use tower_resilience_adaptive as resilience;
    row("tower-resilience-adaptive Aimd", |server| {
        Guarded::new(server, Told(resilience::Aimd::builder().build().expect("the defaults are valid")))
    });
    row("tower-resilience-adaptive Vegas", |server| {
        Guarded::new(server, Told(resilience::Vegas::builder().build().expect("the defaults are valid")))
    });
    row("tower-resilience-adaptive Gradient2", |server| {
        Guarded::new(server, Told(resilience::Gradient2::builder().build().expect("the defaults are valid")))
    });
    row("tower-acc Aimd", |server| Guarded::new(server, Acc(tower_acc::Aimd::builder().build())));
    row("tower-acc Vegas", |server| Guarded::new(server, Acc(tower_acc::Vegas::builder().build())));
    row("tower-acc Gradient2", |server| Guarded::new(server, Acc(tower_acc::Gradient2::builder().build())));
    // Its `Gradient` panics here, with windows or without: it subtracts an average from a shorter time.
    row("congestion-limiter Vegas, windowed p50", |server| {
        let algorithm = Windowed::new(Vegas::new_with_initial_limit(20), Percentile::new(0.5));
        Congested { server, limiter: Arc::new(DefaultLimiter::new(algorithm)) }
    });
    row("stanchion AdaptiveLimit", |server| {
        AdaptiveLimitLayer::new(AdaptiveLimitConfig::new()).layer(server)
    });
    let queue = BulkheadConfig::new().max_in_flight(12).max_queued(10_000);
    row(
        "stanchion Bulkhead 12, adaptive LIFO",
        behind(queue.clone().discipline(QueueDiscipline::adaptive_lifo()), deadline),
    );
    row(
        "stanchion Bulkhead 12, controlled delay",
        behind(queue.discipline(QueueDiscipline::controlled_delay()), deadline),
    );
}
