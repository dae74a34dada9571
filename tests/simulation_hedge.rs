//! Hedging in a moment: how much of a long tail it cuts off, and what it costs, under paused time.
//!
//! Ours must pass. Naive clients must fail, so that each figure is known to bite. tower's hedging is driven as well, since it
//! reads tokio's clock.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "time is paused; helpers of a test")]

#[path = "support/fault.rs"]
mod fault;
#[path = "support/naive_hedge.rs"]
mod naive;
#[path = "support/virtual_server.rs"]
mod virtual_server;

use std::cell::RefCell;
use std::fmt;
use std::pin::pin;
use std::rc::Rc;
use std::slice::from_ref;
use std::task::{Context, Poll};
use std::time::Duration;

use naive::Naive;
use stanchion::{HedgeConfig, HedgeLayer};
use tokio::time::timeout;
use tower::hedge::{Hedge, Policy};
use tower::{BoxError, Layer, Service, ServiceExt};
use virtual_server::{Answer, Latency, MILLISECOND, Mode, Request, SECOND, Server, Traffic, seed, simulate};

const RATE: u32 = 500;
/// Of [`Latency::Stragglers`]: 5 ms and 5 ms times the logarithm of 0.98 over 0.48.
const MEDIAN: Duration = Duration::from_micros(8_569);

/// What a client makes of a server, for 120 s with [`Latency::Stragglers`] and for 60 s with others.
#[derive(Debug)]
struct Figures {
    median: Duration,
    p99: Duration,
    stragglers: Extra,
    lognormal: Extra,
    slowdown: Extra,
    manners: Manners,
}

/// Requests over calls, less one.
#[derive(Debug)]
struct Extra {
    mean: f64,
    worst_5s: f64,
}

impl fmt::Display for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} % {:.1} %", 100.0 * self.mean, 100.0 * self.worst_5s)
    }
}

impl Extra {
    fn is_bounded(&self) -> bool {
        self.mean <= 0.05 && self.worst_5s <= 0.06
    }
}

impl Figures {
    fn of<S>(client: impl Fn(Server) -> S) -> Self
    where
        S: Service<Request, Response = Answer, Error: 'static> + Clone + 'static,
    {
        let run = |latency, slow, seconds: u32| {
            simulate(async {
                let server = Server::without_queue(latency);
                let server = server.weather([(20 * SECOND, Mode::Slow(slow)), (40 * SECOND, Mode::Well)]);
                let all = Duration::ZERO..seconds * SECOND;
                let clients = [client(server.clone())];
                let calls = Traffic::random(RATE, all.end).drive(&server, &clients).await;
                let extra = Extra {
                    mean: calls.amplification(&server, all.clone()) - 1.0,
                    worst_5s: calls.worst(&server, all.clone(), 5) - 1.0,
                };
                (extra, calls.quantile(all.clone(), 0.5), calls.quantile(all, 0.99))
            })
        };
        let lognormal = Latency::Lognormal { median: 10 * MILLISECOND, sigma: 1.0 };
        let (stragglers, median, p99) = run(Latency::Stragglers, 1.0, 120);
        Self {
            median,
            p99,
            stragglers,
            lognormal: run(lognormal, 1.0, 60).0,
            slowdown: run(Latency::Stragglers, 10.0, 60).0,
            manners: Manners::of(&client),
        }
    }

    /// Names of what is not good enough.
    fn misses(&self) -> Vec<&'static str> {
        let good = [
            ("median", self.median.abs_diff(MEDIAN) <= MEDIAN / 50),
            ("p99", self.p99 <= 40 * MILLISECOND),
            ("stragglers", self.stragglers.is_bounded()),
            ("lognormal", self.lognormal.is_bounded()),
            ("slowdown", self.slowdown.worst_5s <= 0.06),
            ("hedges", self.manners.hedges),
            ("failed_hedge_waits", self.manners.failed_hedge_waits),
            ("loser_is_dropped", self.manners.loser_is_dropped),
        ];
        good.into_iter().filter_map(|(name, is_good)| (!is_good).then_some(name)).collect()
    }

    fn show(self, client: &str) -> Self {
        let Self { median, p99, stragglers, lognormal, slowdown, .. } = &self;
        println!(
            "{client}: median {median:.1?}, p99 {p99:.1?}; more requests, and most in 5 s: stragglers {stragglers}, \
             lognormal {lognormal}, slowdown {slowdown}; misses {:?} (seed {})",
            self.misses(),
            seed()
        );
        self
    }
}

/// How single calls go, of a client that knows the usual latencies.
#[derive(Debug)]
struct Manners {
    /// Otherwise the others say nothing.
    hedges: bool,
    /// A hedge that fails does not beat the answer that comes later.
    failed_hedge_waits: bool,
    /// The loser is dropped before the winner is returned, not with the call.
    loser_is_dropped: bool,
}

impl Manners {
    fn of<S>(client: &impl Fn(Server) -> S) -> Self
    where
        S: Service<Request, Response = Answer, Error: 'static> + Clone + 'static,
    {
        simulate(async {
            let server = Server::without_queue(Latency::Stragglers);
            let client = client(server.clone());
            Traffic::random(RATE, 20 * SECOND).drive(&server, from_ref(&client)).await;
            let one = async |hedge: Mode| {
                // So that there is a budget for it.
                server.set(Mode::Slow(0.01));
                Traffic::random(RATE, SECOND).drive(&server, from_ref(&client)).await;

                let start = server.now();
                server.set(Mode::Slow(100.0));
                let mut client = client.clone();
                assert!(client.ready().await.is_ok());
                let mut call = pin!(client.call(Request::new(0)));
                assert!(timeout(MILLISECOND, call.as_mut()).await.is_err());
                server.set(hedge);
                let is_answered = call.as_mut().await.is_ok();
                let losers = server.awaited();
                (server.arrived(start..server.now() + SECOND) > 1, is_answered, losers == 0)
            };
            let (hedges, failed_hedge_waits, _) = one(Mode::Down).await;
            let (hedges_again, _, loser_is_dropped) = one(Mode::Well).await;
            Self { hedges: hedges && hedges_again, failed_hedge_waits, loser_is_dropped }
        })
    }
}

// The clients.

fn without_hedges(server: Server) -> Server {
    server
}

fn naive(server: Server) -> Naive<Server> {
    Naive::after(server, 30 * MILLISECOND)
}

fn naive_at_quantile(server: Server) -> Naive<Server> {
    Naive::at_quantile(server, 0.95)
}

/// With its defaults: the 0.95 quantile, and a budget of a twentieth.
fn ours(server: Server) -> impl Service<Request, Response = Answer, Error: 'static> + Clone {
    HedgeLayer::new(HedgeConfig::new()).layer(server)
}

fn towers(server: Server) -> Towers {
    Towers(Rc::new(RefCell::new(Hedge::new(server, Always, 100, 0.95, 10 * SECOND))))
}

/// tower's `Hedge` is not `Clone`.
#[derive(Clone, Debug)]
struct Towers(Rc<RefCell<Hedge<Server, Always>>>);

impl Service<Request> for Towers {
    type Response = Answer;
    type Error = BoxError;
    type Future = <Hedge<Server, Always> as Service<Request>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.borrow_mut().poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.0.borrow_mut().call(request)
    }
}

#[derive(Clone, Debug)]
struct Always;

impl Policy<Request> for Always {
    fn clone_request(&self, request: &Request) -> Option<Request> {
        Some(request.clone())
    }

    fn can_retry(&self, _: &Request) -> bool {
        true
    }
}

#[test]
fn hedging_cuts_the_tail_off_at_a_bounded_cost() {
    assert_eq!(Figures::of(ours).show("ours").misses(), [""; 0]);
}

#[test]
fn no_hedging_leaves_the_tail() {
    assert_eq!(Figures::of(without_hedges).show("without hedges").misses(), ["p99", "hedges"]);
}

#[test]
fn naive_hedging_doubles_the_load_when_all_is_slow() {
    let misses = Figures::of(naive).show("naive").misses();
    assert_eq!(misses, ["lognormal", "slowdown", "failed_hedge_waits", "loser_is_dropped"]);
}

#[test]
fn hedging_at_a_quantile_of_the_winners_overshoots() {
    let misses = Figures::of(naive_at_quantile).show("naive at a quantile").misses();
    assert_eq!(misses, ["stragglers", "lognormal", "slowdown", "failed_hedge_waits", "loser_is_dropped"]);
}

#[test]
fn towers_hedging_overshoots() {
    let misses = Figures::of(towers).show("tower").misses();
    assert_eq!(misses, ["stragglers", "lognormal", "slowdown", "failed_hedge_waits", "loser_is_dropped"]);
}
