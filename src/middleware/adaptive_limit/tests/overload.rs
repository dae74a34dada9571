//! How much of what a server can do is done under overload: the limits of this module, and what is done without.

use std::time::Duration;

use super::super::algorithm::{Aimd, Algorithm, Gradient, Gradient2, Sample, Vegas};
use super::super::config::AdaptiveLimitConfig;
use super::MS;
use super::simulation::{Fixed, Limiter, Metered, Report, SECOND, Simulation};
use crate::classify::Class;
use crate::middleware::admission::Ended;

/// Netflix's `VegasLimit` with each call a sample.
struct VegasPerCall {
    vegas: Vegas,
    limit: f64,
}

impl Limiter for VegasPerCall {
    fn limit(&self) -> u32 {
        self.limit as u32
    }

    fn ended(&mut self, call: &Ended) {
        let failures = u64::from(call.class != Some(Class::Success));
        let sample = Sample::new(call.now.since(call.began), call.in_flight, 1).failures(failures);
        self.limit = self.vegas.next(self.limit, &sample).limit.clamp(1.0, 1_000.0);
    }
}

fn gradient() -> Metered {
    Metered::new(&AdaptiveLimitConfig::new(), Gradient::new())
}

/// Ten seconds after the beginning, and five minutes later.
fn overload<L: Limiter>(limiter: L, load: f64, seed: u64) -> [Report; 2] {
    fastrand::seed(seed);
    let mut simulation = Simulation::new(limiter, seed);
    simulation.run_until(330 * SECOND, load, 1.0);
    [10, 300].map(|from| simulation.report(from * SECOND, (from + 30) * SECOND))
}

/// The share that is done of what the server can do while it is five times slower, from the third second on; and of
/// what is offered from the third second after that on.
fn brown_out<L: Limiter>(limiter: L, seed: u64) -> [f64; 2] {
    fastrand::seed(seed);
    let mut simulation = Simulation::new(limiter, seed);
    simulation.run_until(20 * SECOND, 0.7, 1.0);
    simulation.run_until(30 * SECOND, 0.7, 5.0);
    simulation.run_until(33 * SECOND, 0.7, 1.0);
    let before = simulation.offered;
    simulation.run_until(36 * SECOND, 0.7, 1.0);
    let offered = (simulation.offered - before) as f64;
    let during = simulation.report(22 * SECOND, 30 * SECOND).goodput * 5.0;
    let after = simulation.report(33 * SECOND, 36 * SECOND).goodput * 3_000.0 / offered;
    [during, after]
}

const SEEDS: [u64; 3] = [1, 2, 3];

fn the_gradient_does(least: f64, load: f64) {
    for seed in SEEDS {
        for report in overload(gradient(), load, seed) {
            let passes = report.goodput >= least && report.p99 <= 95.0 && report.late <= 0.02;
            assert!(passes, "{report:?} at {load}, seed {seed}");
        }
    }
}

#[test]
fn the_gradient_lets_pass_what_the_server_can_do() {
    the_gradient_does(0.77, 0.8);
}

#[test]
fn the_gradient_does_what_the_server_can_under_twice_the_load() {
    the_gradient_does(0.93, 2.0);
}

#[test]
fn the_gradient_does_what_the_server_can_under_five_times_the_load() {
    the_gradient_does(0.93, 5.0);
}

#[test]
fn the_gradient_does_what_the_server_can_under_ten_times_the_load() {
    the_gradient_does(0.93, 10.0);
}

#[test]
fn the_gradient_follows_a_server_that_is_slow_for_ten_seconds() {
    for seed in SEEDS {
        let [during, after] = brown_out(gradient(), seed);
        assert!(during >= 0.55 && after >= 0.95, "{during}, {after}, seed {seed}");
    }
}

#[test]
fn the_gradient_does_as_well_with_a_service_that_takes_a_second() {
    // Windows as short, measured by what calls take, as those over a service that is a hundred times slower.
    let config = AdaptiveLimitConfig::new().window(10 * MS);
    for seed in SEEDS {
        for report in overload(Metered::new(&config, Gradient::new()), 2.0, seed) {
            assert!(report.goodput >= 0.9 && report.late <= 0.02, "{report:?}, seed {seed}");
        }
    }
}

#[test]
fn the_gradient_follows_a_server_that_is_half_as_fast_for_good() {
    for seed in SEEDS {
        fastrand::seed(seed);
        let mut simulation = Simulation::new(gradient(), seed);
        simulation.run_until(20 * SECOND, 0.4, 1.0);
        simulation.run_until(60 * SECOND, 1.0, 2.0);
        let report = simulation.report(22 * SECOND, 60 * SECOND);
        assert!(report.goodput >= 0.93 / 2.0, "{report:?}, seed {seed}");
    }
}

#[test]
fn with_no_limit_or_a_large_one_or_one_found_call_by_call_little_is_done() {
    for report in overload(Fixed(1_000), 2.0, 1) {
        assert!(report.goodput < 0.1 && report.late > 0.9, "{report:?}");
    }
    for report in overload(VegasPerCall { vegas: Vegas::new(), limit: 20.0 }, 2.0, 1) {
        assert!(report.goodput < 0.8, "{report:?}");
    }
}

#[test]
fn each_algorithm_does_most_of_what_the_server_can() {
    let config = AdaptiveLimitConfig::new();
    let aimd = Aimd::new().max_latency(Duration::from_millis(50));
    for report in overload(Metered::new(&config, aimd), 10.0, 1) {
        assert!(report.goodput >= 0.93, "{report:?}");
    }
    for report in overload(Metered::new(&config, Gradient2::new()), 10.0, 1) {
        assert!(report.goodput >= 0.9, "{report:?}");
    }
    for report in overload(Metered::new(&config, Vegas::new()), 10.0, 1) {
        assert!(report.goodput >= 0.6, "{report:?}");
    }
}
