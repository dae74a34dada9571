//! The measures of a circuit when they are replaced, and after very long times.

use std::time::Duration;

use super::{Bench, ms};
use crate::base::clock::{Now, Timestamp};
use crate::middleware::circuit_breaker::config::{CircuitBreakerConfig, Settings};
use crate::middleware::circuit_breaker::orders::Order;
use crate::middleware::circuit_breaker::pass::Verdict;
use crate::middleware::circuit_breaker::transition::State;
use crate::primitives::window::Window;

fn config() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new().window(Window::time(ms(1_000))).open_jitter(0.0)
}

/// The thread that changes the configuration may be stopped after it has read the clock.
#[test]
fn calls_that_end_while_the_configuration_changes_are_kept() {
    let windows = [Window::calls(100), Window::time(ms(2_000)), Window::time(ms(1_000)).buckets(3)];
    for window in windows {
        let mut bench = Bench::new(config());
        bench.advance(ms(40));
        let read = bench.now;
        for _ in 0..5 {
            bench.advance(ms(100));
            bench.call(Verdict::Success);
            bench.call(Verdict::Failure);
        }
        let settings = Settings::new(&config().window(window)).expect("the configuration is valid");
        bench.circuit.reconfigure(&settings.into(), &Now::at(read, 0));
        let snapshot = bench.snapshot();
        assert_eq!((snapshot.calls, snapshot.failures), (10, 5), "{window:?}");
    }
}

#[test]
fn a_snapshot_of_a_moment_ago_counts_the_calls_that_have_ended_since() {
    let mut bench = Bench::new(config());
    let read = bench.now;
    bench.advance(ms(500));
    bench.call(Verdict::Failure);
    assert_eq!(bench.circuit.snapshot(read).calls, 1);
}

#[test]
fn calls_in_flight_survive_a_change_of_the_window() {
    let config = config().slow_after(ms(600)).min_calls(1_000);
    let mut bench = Bench::new(config.clone());
    let hanging = bench.admitted();
    bench.reconfigure(&config.window(Window::calls(50)));
    bench.advance(ms(800));
    assert_eq!(bench.snapshot().overdue, 1);
    bench.end(&hanging, Verdict::Success);
    assert_eq!((bench.snapshot().overdue, bench.snapshot().slow), (0, 1));
}

/// The number that tells one limit for slow calls from the next has 16 bits.
#[test]
fn a_call_outlives_65_536_changes_of_what_is_slow() {
    let slow_after = |limit| config().slow_after(ms(limit)).min_calls(1_000);
    let mut bench = Bench::new(slow_after(600));
    let old = bench.admitted();
    bench.advance(ms(10_000));
    for _ in 0..1 << 15 {
        bench.reconfigure(&slow_after(60));
        bench.reconfigure(&slow_after(600));
    }
    let _hanging = bench.admitted();
    // The cohorts go round, so that calls are known by how many are overdue.
    for _ in 0..9 {
        bench.advance(ms(100));
        bench.call(Verdict::Success);
    }
    assert_eq!(bench.snapshot().overdue, 2);
    bench.end(&old, Verdict::Success);
    assert_eq!(bench.snapshot().overdue, 1, "the other one still hangs");
}

#[test]
fn calls_that_have_just_begun_are_not_overdue_with_a_limit_of_nothing() {
    for limit in [Duration::ZERO, Duration::from_nanos(1), Duration::from_nanos(59)] {
        let mut bench = Bench::new(config().slow_after(limit).min_calls(2).slow_ratio(1.0));
        for seconds in [0, 1, 34, 35, 69, 70, 1_000, 365 * 86_400] {
            bench.advance(Duration::from_secs(seconds));
            let calls = [bench.admitted(), bench.admitted()];
            assert_eq!(bench.snapshot().overdue, 0, "{limit:?} after {seconds} s");
            for pass in &calls {
                bench.end(pass, Verdict::Success);
            }
        }
        assert_eq!(bench.state(), State::Closed);
    }
}

#[test]
fn each_state_that_is_entered_has_a_higher_generation() {
    let mut bench = Bench::new(config().probes(1).ramp(ms(1_000)));
    let mut last = bench.snapshot().generation;
    let mut grows = |bench: &Bench, state| {
        let snapshot = bench.snapshot();
        assert_eq!((snapshot.state, snapshot.generation), (state, last + 1));
        last = snapshot.generation;
    };
    for _ in 0..3 {
        bench.order(Order::Trip(None));
        grows(&bench, State::Open);
        bench.advance(ms(5_000));
        let probe = bench.admitted();
        grows(&bench, State::HalfOpen);
        bench.end(&probe, Verdict::Success);
        grows(&bench, State::Recovering);
        bench.advance(ms(1_000));
        bench.call(Verdict::Success);
        grows(&bench, State::Closed);
        bench.order(Order::Close);
        grows(&bench, State::Closed);
    }
    assert_eq!(bench.now, Timestamp(18_000_000_000));
}
