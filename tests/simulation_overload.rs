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

#[path = "support/fault.rs"]
mod fault;
#[path = "support/overload.rs"]
mod overload;
#[path = "support/virtual_server.rs"]
mod virtual_server;

use crate::fault::Fault;
use overload::{BrownOut, Figures, behind, deadline};
use stanchion::admission::MinRemaining;
use stanchion::{AdaptiveLimitConfig, AdaptiveLimitLayer, BulkheadConfig, Error, QueueDiscipline};
use tower::{BoxError, Layer, Service, ServiceBuilder};
use virtual_server::{Answer, Failed, MILLISECOND, Request, Server, seed};

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
            .map_err(|_: BoxError| -> Failed { Error::Inner(Fault("overloaded")) })
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
    let config = queue().discipline(QueueDiscipline::adaptive_lifo());
    assert_eq!(misses("adaptive lifo", behind(config, deadline)), [""; 0]);
}

#[test]
fn delay_is_controlled() {
    let config = queue().discipline(QueueDiscipline::controlled_delay());
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
