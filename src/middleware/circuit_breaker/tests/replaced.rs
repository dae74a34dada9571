//! What a circuit goes on with after a change of its window, and from a saved state.

use super::{Bench, ms};
use crate::middleware::circuit_breaker::config::CircuitBreakerConfig;
use crate::middleware::circuit_breaker::pass::Verdict;
use crate::middleware::circuit_breaker::snapshot::PersistedState;
use crate::middleware::circuit_breaker::transition::State;
use crate::primitives::window::Window;

fn by_calls(calls: u32) -> CircuitBreakerConfig {
    CircuitBreakerConfig::new().window(Window::calls(calls))
}

#[test]
fn a_smaller_window_of_calls_keeps_the_latest() {
    for (good, bad, failures) in [(55, 45, 10), (155, 45, 10), (60, 3, 3)] {
        let bench = Bench::new(by_calls(100));
        bench.calls(good, Verdict::Success);
        bench.calls(bad, Verdict::Failure);
        bench.reconfigure(&by_calls(10).failure_ratio(0.95));
        assert_eq!((bench.snapshot().calls, bench.snapshot().failures), (10, failures));
    }
    let bench = Bench::new(by_calls(100));
    bench.calls(55, Verdict::Success);
    bench.calls(45, Verdict::Failure);
    bench.reconfigure(&by_calls(10).failure_ratio(0.3));
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn a_larger_window_of_calls_forgets_in_the_old_order() {
    let bench = Bench::new(by_calls(40).failure_ratio(1.0));
    bench.calls(17, Verdict::Success);
    bench.calls(20, Verdict::Failure);
    bench.calls(20, Verdict::Success);
    bench.reconfigure(&by_calls(50).failure_ratio(1.0));
    assert_eq!((bench.snapshot().calls, bench.snapshot().failures), (40, 20));
    bench.calls(10, Verdict::Success);
    assert_eq!((bench.snapshot().calls, bench.snapshot().failures), (50, 20));
    bench.calls(15, Verdict::Success);
    assert_eq!((bench.snapshot().calls, bench.snapshot().failures), (50, 5));
}

#[test]
fn a_saved_state_keeps_its_ratios_in_a_smaller_window() {
    let bench = Bench::new(by_calls(50));
    let mut saved = PersistedState::new(State::Closed);
    (saved.calls, saved.failures, saved.slow, saved.slow_failures) = (100, 45, 30, 10);
    bench.circuit.restore(&saved, bench.now);
    let restored = bench.snapshot();
    assert_eq!((restored.calls, restored.slow, restored.slow_failures), (50, 15, 5));
    assert!((22..=23).contains(&restored.failures), "{}", restored.failures);
}

#[test]
fn a_window_of_calls_in_place_of_one_of_time_keeps_the_ratios() {
    let bench = Bench::new(CircuitBreakerConfig::new());
    bench.calls(60, Verdict::Success);
    bench.calls(40, Verdict::Failure);
    bench.reconfigure(&by_calls(20));
    assert_eq!((bench.snapshot().calls, bench.snapshot().failures), (20, 8));
}

#[test]
fn a_change_of_the_window_makes_no_call_younger() {
    let by_time = |buckets| CircuitBreakerConfig::new().window(Window::time(ms(10_000)).buckets(buckets));
    let mut bench = Bench::new(by_time(10).min_calls(1_000));
    bench.calls(20, Verdict::Failure);
    for change in 0..60 {
        bench.advance(ms(9_000));
        bench.reconfigure(&by_time(if change % 2 == 0 { 11 } else { 10 }).min_calls(1_000));
        assert_eq!(bench.snapshot().failures, if change == 0 { 20 } else { 0 }, "change {change}");
    }
}

#[test]
fn a_change_of_the_window_makes_no_call_older() {
    let by_time = |span, buckets| {
        let window = Window::time(ms(span)).buckets(buckets);
        CircuitBreakerConfig::new().window(window).min_calls(1_000)
    };
    let mut bench = Bench::new(by_time(10_000, 10));
    for _ in 0..5 {
        bench.calls(1, Verdict::Failure);
        bench.advance(ms(2_000));
    }
    bench.calls(1, Verdict::Success);
    // The oldest was at 0, and there is one each 2 s, now at 10 s.
    for (span, buckets, calls) in [(60_000, 60, 5), (20_000, 100, 5), (5_000, 50, 3), (10_000, 10, 3)] {
        bench.reconfigure(&by_time(span, buckets));
        assert_eq!(bench.snapshot().calls, calls, "{span} ms");
    }
    bench.advance(ms(4_000));
    assert_eq!(bench.snapshot().calls, 3);
    bench.advance(ms(4_000));
    assert_eq!((bench.snapshot().calls, bench.snapshot().failures), (1, 0));
}
