//! How long a server wants to be left alone: a hint expires, and a success forgets it.

use std::time::Duration;

use super::{Bench, ms};
use crate::base::clock::Now;
use crate::middleware::circuit_breaker::config::CircuitBreakerConfig;
use crate::middleware::circuit_breaker::orders::Order;
use crate::middleware::circuit_breaker::pass::Verdict;
use crate::middleware::circuit_breaker::snapshot::PersistedState;
use crate::middleware::circuit_breaker::transition::State;
use crate::primitives::window::Window;

const DAY: Duration = Duration::from_secs(86_400);

fn config() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new().open_jitter(0.0).probes(1)
}

impl Bench {
    /// A call fails, and the server asks for `wait`.
    #[track_caller]
    fn fail_with(&self, wait: Duration) {
        let pass = self.admitted();
        self.circuit.settle(&pass, Verdict::Failure, Some(wait), &Now::at(self.now, 0));
    }

    fn wait(&self) -> Duration {
        assert_eq!(self.state(), State::Open);
        self.snapshot().retry_after.expect("it is open for a time")
    }
}

#[test]
fn hours_of_successes_forget_a_hint_of_a_day() {
    for window in [Window::time(ms(10_000)), Window::calls(100)] {
        let mut bench = Bench::new(config().window(window).min_calls(100));
        bench.fail_with(DAY);
        for _ in 0..21_600 {
            bench.advance(ms(1_000));
            bench.call(Verdict::Success);
        }
        bench.fail_until_open();
        assert_eq!(bench.wait(), ms(5_000), "{window:?}");
    }
}

/// Also where good calls are not looked at one by one, and where the hint came while they were not.
#[test]
fn one_success_forgets_a_hint() {
    for rule in [config(), config().consecutive_failures(50), config().slow_after(ms(100))] {
        for window in [Window::time(ms(10_000)), Window::calls(100)] {
            let bench = Bench::new(rule.clone().window(window).min_calls(10));
            bench.calls(40, Verdict::Success);
            bench.fail_with(ms(30_000));
            bench.call(Verdict::Success);
            bench.fail_until_open();
            assert_eq!(bench.wait(), ms(5_000), "{window:?}");
        }
    }
}

#[test]
fn what_is_no_success_does_not_forget_a_hint() {
    for verdict in [Verdict::Failure, Verdict::Ignored, Verdict::Cancelled] {
        let bench = Bench::new(config().min_calls(30));
        bench.fail_with(ms(30_000));
        bench.call(verdict);
        bench.fail_until_open();
        assert_eq!(bench.wait(), ms(30_000), "{verdict:?}");
    }
}

/// A wait is never longer than `max_open_for`, so what was asked for longer ago says nothing.
#[test]
fn a_hint_expires_after_the_longest_wait_that_is_allowed() {
    for (idle, expected) in [(ms(20_000), ms(40_000)), (ms(59_000), ms(5_000)), (ms(21_600_000), ms(5_000))] {
        let mut bench = Bench::new(config().consecutive_failures(2));
        bench.fail_with(DAY);
        bench.advance(idle);
        bench.call(Verdict::Failure);
        assert_eq!(bench.wait(), expected, "after {idle:?}");
    }
}

#[test]
fn of_two_hints_the_one_that_ends_later_holds() {
    let mut bench = Bench::new(config().consecutive_failures(3));
    bench.fail_with(ms(30_000));
    bench.advance(ms(1_000));
    bench.fail_with(ms(1_000));
    bench.advance(ms(1_000));
    bench.call(Verdict::Failure);
    assert_eq!(bench.wait(), ms(28_000));
}

#[test]
fn a_hint_of_one_state_says_nothing_in_the_next() {
    let opened = || {
        let bench = Bench::new(config().open_factor(1.0).consecutive_failures(1));
        bench.fail_with(DAY);
        assert_eq!(bench.wait(), ms(60_000));
        bench
    };
    // An operator who probes earlier than the server asked for knows better.
    let bench = opened();
    bench.order(Order::Probe);
    bench.call(Verdict::Failure);
    assert_eq!(bench.wait(), ms(5_000), "half-open");
    let bench = opened();
    bench.order(Order::Probe);
    bench.fail_with(ms(7_000));
    assert_eq!(bench.wait(), ms(7_000), "the trial call's own");
    let bench = opened();
    bench.circuit.restore(
        &PersistedState { state: State::Open, ..PersistedState::from(&bench.snapshot()) },
        bench.now,
    );
    bench.order(Order::Trip(None));
    assert_eq!(bench.wait(), ms(5_000), "restored");
    let bench = opened();
    bench.order(Order::Close);
    bench.call(Verdict::Failure);
    assert_eq!(bench.wait(), ms(5_000), "closed again");
}

#[test]
fn a_hint_of_a_trial_call_holds_whichever_trial_call_decides() {
    for hint_first in [true, false] {
        let mut bench = Bench::new(config().probes(3));
        bench.order(Order::Trip(None));
        bench.advance(ms(5_000));
        let others = [bench.admitted(), bench.admitted()];
        if hint_first {
            bench.fail_with(ms(30_000));
        }
        bench.end(&others[0], Verdict::Success);
        bench.end(&others[1], Verdict::Failure);
        if !hint_first {
            bench.fail_with(ms(30_000));
        }
        assert_eq!(bench.wait(), ms(30_000));
    }
}

#[test]
fn hints_in_a_circuit_that_observes_do_not_repeat_its_warning() {
    let bench = Bench::new(config().min_calls(2));
    bench.order(Order::Observe);
    bench.notices();
    for _ in 0..10 {
        bench.fail_with(ms(30_000));
    }
    assert_eq!(bench.notices().len(), 1);
}

#[test]
fn a_slow_success_forgets_a_hint_too() {
    let mut bench = Bench::new(config().slow_after(ms(100)).slow_ratio(1.0).min_calls(10));
    bench.fail_with(ms(30_000));
    let slow = bench.admitted();
    bench.advance(ms(101));
    bench.end(&slow, Verdict::Success);
    bench.fail_until_open();
    assert_eq!(bench.wait(), ms(5_000));
}

#[test]
fn what_a_server_says_with_a_trial_call_that_succeeds_is_no_hint() {
    let mut bench = Bench::new(config().probes(2).open_factor(1.0));
    bench.order(Order::Trip(None));
    bench.advance(ms(5_000));
    let (good, bad) = (bench.admitted(), bench.admitted());
    bench.circuit.settle(&good, Verdict::Success, Some(ms(30_000)), &Now::at(bench.now, 0));
    bench.end(&bad, Verdict::Failure);
    assert_eq!(bench.wait(), ms(5_000));
}
