//! The gradual recovery.

use std::time::Duration;

use super::Bench;
use crate::middleware::circuit_breaker::config::CircuitBreakerConfig;
use crate::middleware::circuit_breaker::control::Notice;
use crate::middleware::circuit_breaker::orders::Order;
use crate::middleware::circuit_breaker::pass::{Refusal, Verdict};
use crate::middleware::circuit_breaker::transition::{Cause, State};
use crate::primitives::window::Window;

const RAMP: Duration = Duration::from_secs(10);

fn config() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new().open_for(Duration::from_secs(1)).open_jitter(0.0).probes(1).ramp(RAMP)
}

/// A circuit whose trial call has just succeeded.
fn recovering(config: CircuitBreakerConfig) -> Bench {
    let mut bench = Bench::new(config);
    bench.order(Order::Trip(None));
    bench.advance(Duration::from_secs(1));
    bench.call(Verdict::Success);
    assert_eq!(bench.state(), State::Recovering);
    bench.notices();
    bench
}

/// Calls once a millisecond for `time`, with the verdict that `verdict` has for each; how many were admitted.
fn drive(bench: &mut Bench, time: Duration, mut verdict: impl FnMut(u64) -> Verdict) -> u64 {
    let mut admitted = 0;
    for _ in 0..time.as_millis() {
        bench.advance(Duration::from_millis(1));
        if let Ok(pass) = bench.ask() {
            bench.end(&pass, verdict(admitted));
            admitted += 1;
        }
    }
    admitted
}

#[test]
fn the_share_of_calls_grows_from_a_tenth_to_all() {
    let mut bench = recovering(config());
    for tenth in 0..10 {
        let expected = 1_000.0 * (0.1 + 0.9 * (f64::from(tenth) + 0.5) / 10.0);
        let admitted = drive(&mut bench, RAMP / 10, |_| Verdict::Success);
        assert!(
            (admitted as f64 - expected).abs() < 15.0,
            "{admitted} in second {tenth}, expected {expected}"
        );
    }
    assert_eq!(drive(&mut bench, RAMP, |_| Verdict::Success), 10_000);
    assert_eq!(bench.entered(), [State::Closed]);
}

#[test]
fn a_call_that_is_not_in_the_share_is_told_so() {
    let bench = recovering(config());
    let refusals = (0..100).filter_map(|_| bench.ask().err()).collect::<Vec<_>>();
    assert!((89..=91).contains(&refusals.len()), "{} of 100", refusals.len());
    assert!(refusals.iter().all(|refusal| *refusal == Refusal::Recovering));
}

/// seatbelt goes on for 2,242 failing calls, until the end of a stage.
#[test]
fn it_opens_again_at_once_when_the_service_fails() {
    for healthy_for in [0, 10, 100, 1_000, 5_000, 9_000] {
        let mut bench = recovering(config());
        drive(&mut bench, Duration::from_millis(healthy_for), |_| Verdict::Success);
        let mut failed = 0;
        while bench.state() == State::Recovering {
            failed += drive(&mut bench, Duration::from_millis(1), |_| Verdict::Failure);
        }
        assert_eq!(bench.state(), State::Open);
        assert!(failed <= 20, "{failed} calls failed before it opened");
        assert_eq!(bench.snapshot().openings, 2, "and stays open for longer than before");
    }
}

/// With 8 % of failures under a threshold of 10 %, seatbelt takes two minutes, or ten.
#[test]
fn failures_below_the_threshold_do_not_keep_it_from_recovering() {
    let mut reopened = 0;
    for seed in 0..200 {
        let mut bench = recovering(config().failure_ratio(0.1).window(Window::time(Duration::from_secs(60))));
        let mut random = fastrand::Rng::with_seed(seed);
        let fails = |_| if random.f64() < 0.08 { Verdict::Failure } else { Verdict::Success };
        drive(&mut bench, RAMP, fails);
        reopened += u32::from(bench.entered().contains(&State::Open));
    }
    // By chance alone: three deviations are exceeded now and then, where one looks a thousand times.
    assert!(reopened <= 10, "{reopened} of 200 went back to open");
}

#[test]
fn failures_in_a_row_end_it_too() {
    let mut bench = recovering(config().without_failure_ratio().consecutive_failures(2));
    drive(&mut bench, Duration::from_millis(40), |_| Verdict::Failure);
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn slow_calls_end_it_too() {
    let mut bench = recovering(config().slow_after(Duration::from_millis(5)));
    for _ in 0..100 {
        if let Ok(pass) = bench.ask() {
            bench.advance(Duration::from_millis(6));
            bench.end(&pass, Verdict::Success);
        }
        bench.advance(Duration::from_millis(50));
    }
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn its_end_is_reported_and_its_window_goes_on() {
    let mut bench = recovering(config());
    drive(&mut bench, RAMP, |_| Verdict::Success);
    let notices = bench.notices();
    let [Notice::Transition(closed)] = notices[..] else { panic!("{notices:?}") };
    assert_eq!(closed.cause, Cause::RampCompleted { ramp: RAMP });
    assert!(bench.snapshot().calls > 1_000, "the calls of the recovery count");
    assert_eq!(bench.snapshot().openings, 0);
}

#[test]
fn openings_are_counted_anew_once_calls_pass_again() {
    for order in [Order::Close, Order::Disable, Order::Observe] {
        let bench = Bench::new(config());
        bench.order(Order::Trip(None));
        bench.order(Order::ForceOpen(None));
        assert_eq!(bench.snapshot().openings, 2);
        bench.order(order);
        assert_eq!(bench.snapshot().openings, 0, "{order:?}");
    }
}

#[test]
fn the_first_call_of_each_recovery_is_admitted() {
    let mut bench = recovering(config());
    bench.call(Verdict::Success);
    bench.order(Order::Trip(None));
    bench.advance(Duration::from_secs(2));
    bench.call(Verdict::Success);
    assert_eq!(bench.state(), State::Recovering);
    bench.call(Verdict::Success);
}

#[test]
fn a_circuit_that_observes_anew_warns_anew() {
    let bench = Bench::new(config().min_calls(1));
    for _ in 0..2 {
        bench.order(Order::Observe);
        bench.notices();
        bench.calls(2, Verdict::Failure);
        assert!(matches!(bench.notices()[..], [Notice::WouldOpen(_)]));
    }
}
