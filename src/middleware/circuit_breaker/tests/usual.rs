//! How often a circuit looks at what calls take, and at its window.

use std::time::Duration;

use super::{Bench, ms};
use crate::base::sync::Ordering;
use crate::middleware::circuit_breaker::config::CircuitBreakerConfig;
use crate::middleware::circuit_breaker::control::Notice;
use crate::middleware::circuit_breaker::orders::Order;
use crate::middleware::circuit_breaker::pass::Verdict;
use crate::middleware::circuit_breaker::state::UNSETTLED;
use crate::primitives::window::Window;

#[test]
fn what_calls_take_is_known_for_as_long_as_ten_a_second_succeed_whatever_the_window() {
    let hour = Window::time(Duration::from_secs(3_600));
    let windows = [Window::calls(2), Window::calls(20), Window::calls(10_000), hour, hour.buckets(60)];
    for window in windows {
        let config = CircuitBreakerConfig::new().window(window);
        for config in [config.clone(), config.consecutive_failures(5)] {
            let mut bench = Bench::new(config);
            for _ in 0..6_000 {
                let pass = bench.admitted();
                bench.advance(ms(100));
                bench.end(&pass, Verdict::Success);
            }
            let impatient = bench.admitted();
            assert_eq!(bench.circuit.cut_off(impatient, 1, bench.now), Verdict::Cancelled, "{window:?}");
        }
    }
}

/// A sum over the whole window, for each call.
#[test]
fn a_circuit_that_only_observes_judges_a_good_call_once_in_each_bucket() {
    let window = Window::time(ms(240_000)).buckets(240);
    let bench = Bench::new(CircuitBreakerConfig::new().window(window));
    bench.order(Order::Observe);
    bench.calls(20, Verdict::Success);
    let settled = bench.circuit.settled.load(Ordering::Relaxed);
    assert_ne!(settled, UNSETTLED);
    // A mark that a judgement would take away.
    bench.calls(100, Verdict::Failure);
    assert!(matches!(bench.notices().last(), Some(Notice::WouldOpen(_))));
    let warned = bench.circuit.settled.load(Ordering::Relaxed);
    bench.calls(1_000, Verdict::Success);
    assert_eq!(bench.circuit.settled.load(Ordering::Relaxed), warned, "it was not judged");
}

#[test]
fn a_circuit_that_only_observes_warns_again_after_a_bucket_in_which_all_was_well() {
    let mut bench = Bench::new(CircuitBreakerConfig::new());
    bench.order(Order::Observe);
    bench.notices();
    for _ in 0..3 {
        bench.calls(30, Verdict::Failure);
        assert_eq!(bench.notices().len(), 1);
        bench.advance(ms(20_000));
        bench.calls(30, Verdict::Success);
        bench.advance(ms(20_000));
    }
}
