//! What a limit costs a service that has no need of it, and what it saves of one that is overloaded, for many distributions
//! of the service time, means and sizes.
//!
//! `cargo test --lib adaptive_limit::tests::laws -- --nocapture` prints the table. `STANCHION_LONG`, which is for `--release`, adds
//! larger services and seeds.

use std::time::Duration;

use super::server::{Law, Server, goodput};
use super::simulation::{Fixed, Metered};
use crate::middleware::adaptive_limit::{AdaptiveLimitConfig, Gradient};

const LAWS: [Law; 7] = [
    Law::Fixed,
    Law::Exponential,
    Law::Lognormal(1.0),
    Law::Lognormal(1.5),
    Law::Bimodal,
    Law::Pareto(2.2),
    Law::Pareto(1.5),
];

fn is_long() -> bool {
    std::env::var_os("STANCHION_LONG").is_some()
}

fn gradient() -> Metered {
    Metered::new(&AdaptiveLimitConfig::new(), Gradient::new())
}

/// A service, and how long it is looked at.
#[derive(Clone, Copy, Debug)]
struct Size {
    mean: Duration,
    workers: usize,
    seconds: f64,
    seeds: u64,
}

const fn size(mean: Duration, workers: usize, seconds: f64, seeds: u64) -> Size {
    Size { mean, workers, seconds, seeds }
}

const fn us(micros: u64) -> Duration {
    Duration::from_micros(micros)
}

fn sizes() -> Vec<Size> {
    let mut sizes = vec![
        size(us(200), 1, 6.0, 1),
        size(us(200), 10, 2.5, 1),
        size(us(10_000), 1, 60.0, 2),
        size(us(10_000), 3, 60.0, 2),
        size(us(10_000), 10, 60.0, 2),
        size(us(10_000), 100, 10.0, 1),
        size(us(1_000_000), 1, 150.0, 4),
        size(us(1_000_000), 10, 150.0, 8),
        size(us(1_000_000), 100, 150.0, 1),
    ];
    if is_long() {
        sizes.extend([
            size(us(200), 100, 6.0, 2),
            size(us(10_000), 1_000, 12.0, 2),
            size(us(1_000_000), 1_000, 150.0, 2),
        ]);
        for size in &mut sizes {
            size.seeds *= 4;
        }
    }
    sizes
}

impl Size {
    /// The share of the capacity that is done in time, once the limit has been found: after 5 s of fast services, and after 30
    /// service times.
    fn goodput(&self, law: Law, load: f64, is_limited: bool) -> f64 {
        let from = (self.seconds / 4.0).min(5.0).max(30.0 * self.mean.as_secs_f64());
        let of = |seed| {
            let server = Server { law, mean: self.mean.as_secs_f64(), seed };
            let during = |_| (load, 1.0, self.workers);
            let done = if is_limited {
                server.run(gradient(), self.seconds, during)
            } else {
                server.run(Fixed(u32::MAX), self.seconds, during)
            };
            goodput(&done, from..self.seconds) * server.mean / self.workers as f64
        };
        (1..=self.seeds).map(of).sum::<f64>() / self.seeds as f64
    }
}

#[test]
fn at_eight_tenths_of_the_capacity_a_limit_costs_two_hundredths_at_most() {
    let mut misses = Vec::new();
    for size in sizes() {
        for law in LAWS {
            let (without, with) = (size.goodput(law, 0.8, false), size.goodput(law, 0.8, true));
            println!("{:6.1?} x {:4} {law:15?}: {without:.3} -> {with:.3}", size.mean, size.workers);
            if with < without - 0.02 {
                misses.push((size, law, without, with));
            }
        }
    }
    assert!(misses.is_empty(), "{misses:#?}");
}

#[test]
fn under_overload_nearly_all_that_can_be_done_in_time_is_done() {
    let mut misses = Vec::new();
    // One worker of another law than these cannot do as much in time, whatever the limit.
    for size in sizes().into_iter().filter(|size| size.workers >= 10) {
        for law in LAWS {
            let done = [2.0, 10.0].map(|load| size.goodput(law, load, true));
            println!(
                "{:6.1?} x {:4} {law:15?}: 2x {:.3}, 10x {:.3}",
                size.mean, size.workers, done[0], done[1]
            );
            // A limit over calls of a second is found in some tens of seconds.
            let least = if size.mean < Duration::from_secs(1) { 0.93 } else { 0.85 };
            if done.iter().any(|done| *done < least) {
                misses.push((size, law, done));
            }
        }
    }
    assert!(misses.is_empty(), "{misses:#?}");
}

#[test]
fn the_first_second_of_a_healthy_service_rejects_nothing() {
    for law in LAWS {
        let server = Server { law, mean: 0.01, seed: 1 };
        let first = |done: Vec<f64>| goodput(&done, 0.0..1.0) / 1_000.0;
        let with = first(server.run(gradient(), 1.0, |_| (0.8, 1.0, 10)));
        let without = first(server.run(Fixed(u32::MAX), 1.0, |_| (0.8, 1.0, 10)));
        assert!(with >= without - 0.02, "{law:?}: {with} of {without}");
    }
}

#[test]
fn workers_that_vanish_and_come_back_are_followed() {
    for law in LAWS {
        let server = Server { law, mean: 0.01, seed: 3 };
        let workers = |now| (0.8, 1.0, if (20.0..40.0).contains(&now) { 5 } else { 10 });
        let done = server.run(gradient(), 60.0, |now| {
            let (load, slower, workers) = workers(now);
            // Of the ten.
            (load * 10.0 / workers as f64, slower, workers)
        });
        let [gone, back] = [22.0..40.0, 43.0..60.0].map(|time| goodput(&done, time) / 1_000.0);
        println!("{law:?}: half of the workers {gone:.3} of .5, all of them again {back:.3}");
        assert!(gone >= 0.42 && back >= 0.74, "{law:?}: {gone}, {back}");
    }
}

#[test]
fn at_just_the_capacity_the_limit_does_not_run_away() {
    let server = Server { law: Law::Exponential, mean: 0.01, seed: 1 };
    let done = server.run(gradient(), 120.0, |_| (1.0, 1.0, 10));
    let last = goodput(&done, 90.0..120.0) / 1_000.0;
    assert!(last >= 0.92, "{last}");
}
