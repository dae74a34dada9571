//! Overload in a moment: what a server is good for that is asked for more than it can do, under paused time.
//!
//! Ten workers take 10 ms for a call on average, callers leave after 100 ms, and the server does not notice. What is random
//! follows from `STANCHION_SEED`. A run takes 20 s, of which the last ten count. With `STANCHION_LONG` set, which is for
//! `--release`, it takes 330 s, of which those from the 10th to the 40th and the last 30 count.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "time is paused; helpers of a test")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "numbers are small"
)]

#[path = "support/overload.rs"]
mod overload;
#[path = "support/virtual_server.rs"]
mod virtual_server;

use std::ops::Range;
use std::slice::from_ref;
use std::time::Duration;

use overload::{CAPACITY, Callers, Outcome, behind, deadline};
use stanchion::admission::MinRemaining;
use stanchion::{AdaptiveLimitConfig, AdaptiveLimitLayer, BulkheadConfig, Discipline, Error};
use tower::{BoxError, Layer, Service, ServiceBuilder};
use virtual_server::{Answer, Failed, MILLISECOND, Mode, Request, SECOND, Server, Traffic, seed, simulate};

/// What must be good enough.
#[derive(Debug)]
struct Figures {
    load: f64,
    /// Answers in time as a share of what the server can do, in each of the windows that count.
    goodput: Vec<f64>,
    late: f64,
    p99: Duration,
}

const fn seconds(range: Range<u64>) -> Range<Duration> {
    Duration::from_secs(range.start)..Duration::from_secs(range.end)
}

fn is_long() -> bool {
    std::env::var_os("STANCHION_LONG").is_some()
}

impl Figures {
    fn of<S>(load: f64, guard: impl FnOnce(Server) -> S) -> Self
    where
        S: Service<Request, Response = Answer, Error = Failed, Future: 'static> + Clone + 'static,
    {
        let windows =
            if is_long() { vec![seconds(10..40), seconds(300..330)] } else { vec![seconds(10..20)] };
        let lasting = windows.last().unwrap().end;
        fastrand::seed(seed());
        simulate(async {
            let server = Server::of_ten_workers();
            let callers = Callers::new(guard(server.clone()));
            let rate = (load * f64::from(CAPACITY)) as u32;
            let calls = Traffic::random(rate, lasting).drive(&server, from_ref(&callers)).await;
            let outcomes: Vec<_> = windows.iter().map(|window| Outcome::of(&[&calls], window)).collect();
            let counted = lasting - windows.last().unwrap().start;
            let possible = f64::from(CAPACITY) * counted.as_secs_f64();
            Self {
                load,
                goodput: outcomes.iter().map(|outcome| outcome.in_time() as f64 / possible).collect(),
                late: outcomes.iter().map(Outcome::late).fold(0.0, f64::max),
                p99: outcomes.iter().filter_map(Outcome::p99).max().unwrap(),
            }
        })
    }
}

impl Figures {
    fn misses(&self) -> Vec<&'static str> {
        let least = if self.load < 1.0 { 0.77 } else { 0.93 };
        out_of_bounds([
            ("goodput", self.goodput.iter().all(|goodput| *goodput >= least)),
            ("late", self.late <= 0.02),
            ("p99", self.p99 <= 95 * MILLISECOND),
        ])
    }
}

/// The server takes five times as long for ten seconds, while seven tenths of what it usually can do is asked for.
#[derive(Debug)]
struct BrownOut {
    /// Answers in time, as a share of what it can do then, in the last eight of these seconds.
    goodput: f64,
    /// After it, until 95 % of the calls are answered in time.
    recovery: Option<Duration>,
}

impl BrownOut {
    fn of<S>(guard: impl FnOnce(Server) -> S) -> Self
    where
        S: Service<Request, Response = Answer, Error = Failed, Future: 'static> + Clone + 'static,
    {
        fastrand::seed(seed());
        simulate(async {
            let (slow, end) = (seconds(30..40), 60 * SECOND);
            let server =
                Server::of_ten_workers().weather([(slow.start, Mode::Slow(5.0)), (slow.end, Mode::Well)]);
            let callers = Callers::new(guard(server.clone()));
            let calls = Traffic::random(CAPACITY * 7 / 10, end).drive(&server, from_ref(&callers)).await;
            let last = Outcome::of(&[&calls], &seconds(32..40));
            Self {
                goodput: last.in_time() as f64 / (f64::from(CAPACITY) / 5.0 * 8.0),
                recovery: calls.recovery(slow.end, end, 0.95),
            }
        })
    }

    fn misses(&self) -> Vec<&'static str> {
        out_of_bounds([
            ("brown-out", self.goodput >= 0.55),
            ("recovery", self.recovery.is_some_and(|recovery| recovery <= 3 * SECOND)),
        ])
    }
}

/// The names whose numbers are out of bounds.
fn out_of_bounds<const N: usize>(figures: [(&'static str, bool); N]) -> Vec<&'static str> {
    figures.into_iter().filter_map(|(name, is_good)| (!is_good).then_some(name)).collect()
}

/// Runs all of it, and says what is not good enough.
fn misses<S>(name: &str, guard: impl Fn(Server) -> S) -> Vec<&'static str>
where
    S: Service<Request, Response = Answer, Error = Failed, Future: 'static> + Clone + 'static,
{
    misses_at(name, &[0.8, 2.0, 5.0, 10.0], guard)
}

/// The same, for these loads only.
fn misses_at<S>(name: &str, loads: &[f64], guard: impl Fn(Server) -> S) -> Vec<&'static str>
where
    S: Service<Request, Response = Answer, Error = Failed, Future: 'static> + Clone + 'static,
{
    let mut misses = Vec::new();
    for load in loads {
        let figures = Figures::of(*load, &guard);
        println!("{name}: {figures:?} (seed {})", seed());
        misses.extend(figures.misses());
    }
    let brown_out = BrownOut::of(&guard);
    println!("{name}: {brown_out:?} (seed {})", seed());
    misses.extend(brown_out.misses());
    misses.sort_unstable();
    misses.dedup();
    misses
}

/// A few more calls at a time than there are workers: these would have nothing to do for the part of a millisecond in which
/// the virtual clock has not told yet that they are done. And a queue of any length.
fn queue() -> BulkheadConfig {
    BulkheadConfig::new().max_in_flight(12).max_queued(10_000)
}

const ALL_LATE: [&str; 4] = ["brown-out", "goodput", "late", "p99"];

#[test]
fn without_a_limit_all_answers_are_late_and_go_on_to_be() {
    let misses = misses_at("no limit", &[2.0], |server| server);
    assert_eq!(misses, ["brown-out", "goodput", "late", "p99", "recovery"]);
}

/// With a limit that is a guess, the queue is where it was.
#[test]
fn behind_a_limit_of_towers_all_answers_are_late() {
    let limit = |server| {
        let layers = ServiceBuilder::new()
            .map_err(|_: BoxError| -> Failed { Error::Inner("overloaded") })
            .load_shed()
            .concurrency_limit(200);
        layers.service(server)
    };
    assert_eq!(misses_at("tower, 200", &[2.0], limit), ALL_LATE);
}

#[test]
fn who_waits_in_order_is_late() {
    assert_eq!(misses_at("oldest first", &[2.0], behind(queue(), deadline)), ALL_LATE);
}

/// Calls begin when they are about to have too little time, so that one in a hundred has: p99 is the deadline.
#[test]
fn what_cannot_finish_is_dropped() {
    let config = queue().min_remaining(MinRemaining::Measured(0.99));
    let misses = misses("no time left", behind(config, deadline));
    assert!(!misses.iter().any(|miss| ["goodput", "late", "recovery"].contains(miss)), "{misses:?}");
}

#[test]
fn the_newest_come_first_while_all_are_late() {
    let config = queue().discipline(Discipline::adaptive_lifo());
    assert_eq!(misses("adaptive lifo", behind(config, deadline)), [""; 0]);
}

#[test]
fn delay_is_controlled() {
    let config = queue().discipline(Discipline::controlled_delay());
    assert_eq!(misses("controlled delay", behind(config, deadline)), [""; 0]);
}

/// What is found is a limit that leaves some calls waiting at the server.
#[test]
fn a_limit_that_finds_itself_is_as_good() {
    let limit = |server| AdaptiveLimitLayer::new(AdaptiveLimitConfig::new()).layer(server);
    assert_eq!(misses("gradient", limit), [""; 0]);
}

/// The queue is there for bursts, and is short: what waits at the server already is long enough.
#[test]
fn a_limit_that_finds_itself_goes_with_a_queue() {
    let config = AdaptiveLimitConfig::new().max_queued(100).max_wait(20 * MILLISECOND);
    let limit = |server| AdaptiveLimitLayer::waiting(config.clone()).layer(server);
    assert_eq!(misses("gradient, queue", limit), [""; 0]);
}
