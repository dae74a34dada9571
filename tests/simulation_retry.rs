//! Retry storms in a moment: what clients with retries do to a virtual server, under paused time.
//!
//! Naive clients must fail, so that each figure is known to bite. tower's retries and budget are driven as well,
//! since they read tokio's clock.

#![allow(clippy::unwrap_used, reason = "helpers of a test")]

#[path = "support/fault.rs"]
mod fault;
#[path = "support/naive_retry.rs"]
mod naive_retry;
#[path = "support/virtual_server.rs"]
mod virtual_server;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use naive_retry::{Impatient, Naive};
use stanchion::{Budget as OurBudget, BudgetConfig, Retry, RetryConfig, RetryLayer, Timeout, TimeoutLayer};
use tower::retry::Policy;
use tower::retry::backoff::{Backoff, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff};
use tower::retry::budget::{Budget, TpsBudget};
use tower::util::rng::Rng;
use tower::{Layer, Service};
use virtual_server::{
    Answer, Failed, Latency, MILLISECOND, Mode, Orphans, Random, Request, SECOND, Server, Traffic, seed,
    simulate,
};

const RETRIES: u32 = 3;
/// Of the retries over the calls, for those that have a budget which is not set here.
const RATIO: f64 = 0.2;

/// What is measured, once for each client.
trait Figures: Debug {
    /// Names of what is not good enough.
    fn misses(&self) -> Vec<&'static str>;
}

/// The names whose numbers are out of bounds.
fn out_of_bounds<const N: usize>(figures: [(&'static str, bool); N]) -> Vec<&'static str> {
    figures.into_iter().filter_map(|(name, is_good)| (!is_good).then_some(name)).collect()
}

/// Requests per call while a server is down for 40 s.
#[derive(Debug)]
struct Outage {
    /// Of the retries over the calls, by the budget.
    ratio: f64,
    mean: f64,
    worst_second: f64,
    /// Of a hundred clients that make ten calls per second each, in the mean.
    of_small_clients: f64,
}

impl Outage {
    fn of<S>(ratio: f64, client: impl Fn(Server) -> S) -> Self
    where
        S: Service<Request, Response = Answer, Error: 'static> + Clone + 'static,
    {
        let run = |clients: u32| {
            simulate(async {
                let server = Server::without_queue(Latency::Exponential { mean: 10 * MILLISECOND })
                    .weather([(20 * SECOND, Mode::Down)]);
                let clients: Vec<_> = (0..clients).map(|_| client(server.clone())).collect();
                let calls = Traffic::random(1_000, 60 * SECOND).drive(&server, &clients).await;
                let mean = calls.amplification(&server, 20 * SECOND..60 * SECOND);
                (mean, calls.worst(&server, 21 * SECOND..60 * SECOND, 1))
            })
        };
        let (mean, worst_second) = run(1);
        Self { ratio, mean, worst_second, of_small_clients: run(100).0 }
    }
}

impl Figures for Outage {
    fn misses(&self) -> Vec<&'static str> {
        out_of_bounds([
            ("mean", self.mean <= 1.02 + self.ratio),
            ("worst_second", self.worst_second <= 1.25),
            ("of_small_clients", self.of_small_clients <= 1.35),
        ])
    }
}

/// A tenth of the requests fails for a minute.
#[derive(Debug)]
struct Chance {
    success: f64,
    amplification: f64,
}

impl Chance {
    fn of<S>(client: impl Fn(Server) -> S) -> Self
    where
        S: Service<Request, Response = Answer, Error: 'static> + Clone + 'static,
    {
        const MINUTE: Duration = Duration::from_secs(60);
        simulate(async {
            let server = Server::without_queue(Latency::Exponential { mean: 10 * MILLISECOND })
                .weather([(Duration::ZERO, Mode::Fails(0.1))]);
            let clients = [client(server.clone())];
            let calls = Traffic::random(1_000, MINUTE).drive(&server, &clients).await;
            let amplification = calls.amplification(&server, Duration::ZERO..MINUTE);
            Self { success: calls.success(Duration::ZERO..MINUTE), amplification }
        })
    }
}

impl Figures for Chance {
    fn misses(&self) -> Vec<&'static str> {
        out_of_bounds([("success", self.success >= 0.998), ("amplification", self.amplification <= 1.12)])
    }
}

/// A server that takes five times as long for 10 s, and what happens in the 40 s after them.
#[derive(Debug)]
struct Metastable {
    /// Until 95 % of the calls of each second are answered.
    recovery: Option<Duration>,
    /// Requests per call, from two seconds after the trouble.
    afterwards: f64,
}

impl Metastable {
    /// `rate`: of a server that can serve 1,000 calls per second.
    fn of<S>(client: impl Fn(Server) -> S, rate: u32, orphans: Orphans) -> Self
    where
        S: Service<Request, Response = Answer, Error: 'static> + Clone + 'static,
    {
        let trouble = 10 * SECOND..20 * SECOND;
        let end = trouble.end + 40 * SECOND;
        simulate(async {
            let server = Server::of_ten_workers()
                .orphans(orphans)
                .weather([(trouble.start, Mode::Slow(5.0)), (trouble.end, Mode::Well)]);
            let clients = [client(server.clone())];
            let calls = Traffic::random(rate, end).drive(&server, &clients).await;
            Self {
                recovery: calls.recovery(trouble.end, end, 0.95),
                afterwards: calls.amplification(&server, trouble.end + 2 * SECOND..end),
            }
        })
    }
}

impl Figures for Metastable {
    fn misses(&self) -> Vec<&'static str> {
        out_of_bounds([
            ("recovery", self.recovery.is_some_and(|recovery| recovery <= 2 * SECOND)),
            ("afterwards", self.afterwards <= 1.05),
        ])
    }
}

// The clients.

fn without_retries(server: Server) -> Impatient<Server> {
    Impatient(server, 100 * MILLISECOND)
}

fn naive(server: Server) -> Naive<Impatient<Server>> {
    Naive::at_once(without_retries(server), RETRIES)
}

fn naive_with_jitter(server: Server) -> Naive<Impatient<Server>> {
    Naive::with_full_jitter(without_retries(server), RETRIES)
}

fn towers(server: Server) -> tower::retry::Retry<Towers, Impatient<Server>> {
    tower::retry::Retry::new(Towers::new(), without_retries(server))
}

/// The policy of tower's documentation, but that it makes its deposits for calls, as Finagle does, and not for
/// answers: a budget that runs dry in an outage is no test for its bursts.
#[derive(Clone, Debug)]
struct Towers {
    retries: u32,
    budget: Arc<TpsBudget>,
    backoff: ExponentialBackoff<TowersRandom>,
}

impl Towers {
    fn new() -> Self {
        let random = TowersRandom(Random::of("tower"));
        let mut backoff = ExponentialBackoffMaker::new(50 * MILLISECOND, SECOND, 0.99, random).unwrap();
        Self { retries: RETRIES, budget: Arc::default(), backoff: backoff.make_backoff() }
    }
}

impl Policy<Request, Answer, Failed> for Towers {
    type Future = <ExponentialBackoff as Backoff>::Future;

    fn retry(&mut self, _: &mut Request, result: &mut Result<Answer, Failed>) -> Option<Self::Future> {
        if result.is_ok() || self.retries == 0 || !self.budget.withdraw() {
            return None;
        }
        self.retries -= 1;
        Some(self.backoff.next_backoff())
    }

    fn clone_request(&mut self, request: &Request) -> Option<Request> {
        if self.retries == RETRIES {
            self.budget.deposit();
        }
        Some(request.clone())
    }
}

#[derive(Clone, Debug)]
struct TowersRandom(Random);

impl Rng for TowersRandom {
    fn next_u64(&mut self) -> u64 {
        self.0.number()
    }
}

/// With the defaults, but that there are as many retries as the others make, and a budget of this ratio.
fn ours(ratio: f64) -> impl Fn(Server) -> Retry<Timeout<Server>> {
    fastrand::seed(seed());
    move |server| {
        let budget = OurBudget::new(BudgetConfig::new().ratio(ratio));
        let retry = RetryLayer::new(RetryConfig::new().max_attempts(1 + RETRIES)).budget(budget);
        retry.layer(TimeoutLayer::per_attempt(100 * MILLISECOND).layer(server))
    }
}

/// Says how a client does, and what it misses.
fn show(client: &str, figures: &impl Figures) -> Vec<&'static str> {
    println!("{client}: {figures:.3?}; misses {:?} (seed {})", figures.misses(), seed());
    figures.misses()
}

#[test]
fn an_outage_is_a_storm_of_naive_retries() {
    let misses = show("naive", &Outage::of(RATIO, naive));
    assert_eq!(misses, ["mean", "worst_second", "of_small_clients"]);
}

#[test]
fn towers_retries_come_in_bursts_and_are_no_budget_for_small_clients() {
    let misses = show("tower", &Outage::of(RATIO, towers));
    assert!(misses.ends_with(&["worst_second", "of_small_clients"]));
}

#[test]
fn a_tenth_of_failures_is_hidden() {
    assert_eq!(show("without retries", &Chance::of(without_retries)), ["success"]);
    // The one thing that naive retries are good for.
    assert!(show("naive", &Chance::of(naive)).is_empty());
    assert!(show("tower", &Chance::of(towers)).is_empty());
}

#[test]
fn naive_retries_keep_a_server_down_that_is_well_again() {
    for rate in [700, 800] {
        let misses = show("naive", &Metastable::of(naive, rate, Orphans::Skipped));
        assert_eq!(misses, ["recovery", "afterwards"]);
    }
    let misses = show("with full jitter", &Metastable::of(naive_with_jitter, 700, Orphans::Skipped));
    assert_eq!(misses, ["recovery", "afterwards"]);
}

#[test]
fn towers_retries_keep_a_server_down_that_works_for_clients_that_have_gone() {
    let misses = show("without retries", &Metastable::of(without_retries, 700, Orphans::Served));
    assert_eq!(misses, ["recovery"]);
    let misses = show("tower", &Metastable::of(towers, 700, Orphans::Served));
    assert_eq!(misses, ["recovery", "afterwards"]);
    for rate in [700, 800] {
        let misses = show("tower", &Metastable::of(towers, rate, Orphans::Skipped));
        assert!(!misses.contains(&"afterwards"));
    }
}

/// The part of each budget that the clients have earned is all that an outage costs.
#[test]
fn an_outage_is_no_storm_of_ours() {
    for ratio in [0.1, 0.2] {
        assert!(show(&format!("ours, {ratio}"), &Outage::of(ratio, ours(ratio))).is_empty());
    }
}

#[test]
fn a_tenth_of_failures_is_hidden_by_ours() {
    assert!(show("ours", &Chance::of(ours(RATIO))).is_empty());
}

#[test]
fn a_server_that_is_well_again_is_left_so_by_ours() {
    for ratio in [0.1, 0.2] {
        for rate in [700, 800] {
            for orphans in [Orphans::Skipped, Orphans::Stopped] {
                let client = format!("ours, {ratio}, {rate} per second, {orphans:?}");
                assert!(show(&client, &Metastable::of(ours(ratio), rate, orphans)).is_empty());
            }
        }
    }
}
