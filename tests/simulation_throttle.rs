//! Throttling in a moment: what a service that refuses is still sent, and how fast all calls pass again, under paused time.
//!
//! Ours must pass. The textbook's throttle, and none, must fail, so that each figure is known to bite.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "time is paused; helpers of a test")]
#![allow(clippy::cast_precision_loss, reason = "numbers of calls are small")]

#[path = "support/fault.rs"]
mod fault;
#[path = "support/virtual_server.rs"]
mod virtual_server;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::slice::from_ref;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::fault::Fault;
use stanchion::{Error, ThrottleConfig, ThrottleLayer};
use tower::{Layer, Service};
use virtual_server::{
    Answer, Event, Failed, Latency, MILLISECOND, Mode, Random, Request, SECOND, Server, Traffic, seed,
    simulate,
};

/// The backend accepts so many requests per second, and refuses all others at once.
#[derive(Clone, Debug)]
struct Limited {
    server: Server,
    rate: u32,
    /// When the next request is accepted.
    next: Rc<Cell<Duration>>,
    refused: Rc<Cell<u64>>,
}

impl Limited {
    fn new(server: Server, rate: u32) -> Self {
        Self { server, rate, next: Rc::default(), refused: Rc::default() }
    }
}

impl Service<Request> for Limited {
    type Response = Answer;
    type Error = Failed;
    type Future = Either;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.server.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Either {
        let (now, between) = (self.server.now(), SECOND / self.rate);
        // A backlog of a tenth of a second, or chance would leave some of the rate unused.
        if self.next.get() > now + 100 * MILLISECOND {
            self.refused.set(self.refused.get() + 1);
            return Either::Refused(ready(Err(Error::Inner(Fault("overloaded")))));
        }
        self.next.set(self.next.get().max(now) + between);
        Either::Accepted(self.server.call(request))
    }
}

enum Either {
    Accepted(virtual_server::Call),
    Refused(Ready<Result<Answer, Failed>>),
}

impl Future for Either {
    type Output = Result<Answer, Failed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Accepted(call) => Pin::new(call).poll(cx),
            Self::Refused(refused) => Pin::new(refused).poll(cx),
        }
    }
}

fn server() -> Server {
    Server::without_queue(Latency::Exponential { mean: 10 * MILLISECOND })
}

/// Requests per second that a backend is sent that accepts `accepts` of `offered`, from the 20th second to the 50th.
fn passes<S>(offered: u32, accepts: u32, client: impl Fn(Limited) -> S) -> f64
where
    S: Service<Request, Response = Answer, Error = Failed> + Clone + 'static,
{
    fastrand::seed(seed());
    simulate(async {
        let server = server();
        let limited = Limited::new(server.clone(), accepts);
        let client = client(limited.clone());
        Traffic::random(offered, 20 * SECOND).drive(&server, from_ref(&client)).await;
        let before = limited.refused.get() as f64;
        let from = server.now();
        Traffic::random(offered, 30 * SECOND).drive(&server, from_ref(&client)).await;
        let accepted = server.arrived(from..server.now()) as f64;
        (accepted + limited.refused.get() as f64 - before) / 30.0
    })
}

/// What is made of an outage of 60 s at 100 calls per second.
#[derive(Debug)]
struct Outage {
    /// Requests sent during it.
    sent: usize,
    /// After it, until 95 % of the calls are answered.
    recovery: Option<Duration>,
    /// The share of calls that is answered before it.
    before: f64,
}

impl Outage {
    fn of<S>(during: Mode, client: impl Fn(Server) -> S) -> Self
    where
        S: Service<Request, Response = Answer, Error = Failed> + Clone + 'static,
    {
        fastrand::seed(seed());
        simulate(async {
            let server = server().weather([(60 * SECOND, during), (120 * SECOND, Mode::Well)]);
            let client = client(server.clone());
            let calls = Traffic::random(100, 300 * SECOND).drive(&server, from_ref(&client)).await;
            Self {
                sent: server.arrived(60 * SECOND..120 * SECOND),
                recovery: calls.recovery(120 * SECOND, 300 * SECOND, 0.95),
                before: calls.success(Duration::ZERO..60 * SECOND),
            }
        })
    }

    /// Names of what is not good enough.
    fn misses(&self, client: &str) -> Vec<&'static str> {
        let good = [
            ("sent", self.sent <= 1_100),
            ("recovery", self.recovery.is_some_and(|recovery| recovery <= 3 * SECOND)),
            ("before", self.before >= 1.0),
        ];
        let misses: Vec<_> =
            good.into_iter().filter_map(|(name, is_good)| (!is_good).then_some(name)).collect();
        println!("{client}: {self:?}, misses {misses:?} (seed {})", seed());
        misses
    }
}

fn ours<S>(inner: S) -> <ThrottleLayer as Layer<S>>::Service {
    ThrottleLayer::new(ThrottleConfig::new()).layer(inner)
}

fn counting<S>(inner: S) -> <ThrottleLayer as Layer<S>>::Service {
    ThrottleLayer::new(ThrottleConfig::new().counts_refusals(true)).layer(inner)
}

/// The throttle as it is told in the book, over the last 30 s: attempts and accepts, each in a list.
#[derive(Clone, Debug)]
struct Textbook {
    server: Server,
    calls: Rc<RefCell<Lists>>,
}

/// When calls were attempted, and accepted.
type Lists = (VecDeque<Duration>, VecDeque<Duration>, Random);

impl Textbook {
    fn new(server: Server) -> Self {
        Self { server, calls: Rc::new(RefCell::new((VecDeque::new(), VecDeque::new(), Random::of("naive")))) }
    }

    fn refuses(&self) -> bool {
        let now = self.server.now();
        let (attempts, accepts, random) = &mut *self.calls.borrow_mut();
        for list in [&mut *attempts, accepts] {
            while list.front().is_some_and(|at| *at + 30 * SECOND < now) {
                list.pop_front();
            }
        }
        let (requests, accepted) = (attempts.len() as f64, accepts.len() as f64);
        attempts.push_back(now);
        // Otherwise those that begin together are refused while the first has no answer.
        requests >= 10.0 && random.chance(((requests - 2.0 * accepted) / (requests + 1.0)).max(0.0))
    }
}

impl Service<Request> for Textbook {
    type Response = Answer;
    type Error = Failed;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Failed>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        self.server.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        if self.refuses() {
            return Box::pin(ready(Err(Error::Inner(Fault("throttled")))));
        }
        let (call, server, calls) = (self.server.call(request), self.server.clone(), Rc::clone(&self.calls));
        Box::pin(async move {
            let result = call.await;
            if result.is_ok() {
                calls.borrow_mut().1.push_back(server.now());
            }
            result
        })
    }
}

#[track_caller]
fn assert_near(found: f64, theory: f64) {
    println!("passes {found:.1} per second, theory {theory:.1} (seed {})", seed());
    assert!((found / theory - 1.0).abs() <= 0.1, "{found:.1} per second, and not {theory:.1}");
}

#[test]
fn under_steady_overload_it_sends_the_root_of_what_is_offered_and_accepted() {
    assert_near(passes(1_000, 100, ours), (2.0_f64 * 1_000.0 * 100.0).sqrt());
}

#[test]
fn with_refusals_counted_it_sends_twice_what_is_accepted() {
    assert_near(passes(1_000, 100, counting), 200.0);
}

#[test]
fn a_little_overload_passes_whole() {
    assert_near(passes(150, 100, ours), 150.0);
    assert_near(passes(150, 100, counting), 150.0);
}

#[test]
fn an_outage_is_sent_little_and_is_over_when_it_is_over() {
    assert_eq!(Outage::of(Mode::Down, ours).misses("ours"), [""; 0]);
}

/// The share that is left to find out that it is over costs a hundred requests.
#[test]
fn without_a_largest_share_an_outage_is_sent_less() {
    let layer = ThrottleLayer::new(ThrottleConfig::new().max_ratio(1.0));
    let outage = Outage::of(Mode::Down, |server| layer.layer(server));
    assert_eq!(outage.misses("ours, max_ratio 1"), [""; 0]);
    assert!(outage.sent <= 960, "{outage:?}");
}

#[test]
fn the_textbook_takes_minutes_to_recover() {
    assert_eq!(Outage::of(Mode::Down, Textbook::new).misses("textbook, 30 s"), ["sent", "recovery"]);
}

#[test]
fn with_refusals_counted_the_recovery_takes_longer() {
    assert_eq!(Outage::of(Mode::Down, counting).misses("counting"), ["recovery"]);
}

#[test]
fn without_a_throttle_everything_is_sent() {
    assert_eq!(Outage::of(Mode::Down, |server| server).misses("none"), ["sent"]);
}

/// Nothing ends while it lasts: what counts is what is in flight.
#[test]
fn a_service_that_hangs_is_throttled_before_its_first_call_ends() {
    let outage = Outage::of(Mode::Hangs(50 * SECOND), ours);
    println!("hangs: {outage:?} (seed {})", seed());
    assert!(outage.sent <= 1_300, "{outage:?}");
}

#[test]
fn a_service_with_some_errors_is_sent_everything() {
    simulate(async {
        let server = server().weather([(10 * SECOND, Mode::Fails(0.3))]);
        let client = ours(server.clone());
        let calls = Traffic::random(100, 60 * SECOND).drive(&server, from_ref(&client)).await;
        assert!(calls.amplification(&server, Duration::ZERO..60 * SECOND) >= 1.0);
        assert!(server.count(Event::Failed, Duration::ZERO..60 * SECOND) > 1_200);
    });
}

/// However slow it is: calls that begin together have no answer yet, which is no refusal.
#[test]
fn calls_that_begin_together_at_a_slow_service_all_pass() {
    simulate(async {
        let server = Server::without_queue(Latency::Exponential { mean: SECOND / 2 });
        let client = ours(server.clone());
        let calls = Traffic::steady(1_000, 2 * SECOND).drive(&server, from_ref(&client)).await;
        assert!((calls.success(Duration::ZERO..2 * SECOND) - 1.0).abs() < 1e-9);
    });
}
