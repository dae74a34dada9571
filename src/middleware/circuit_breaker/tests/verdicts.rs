//! A change of the configuration changes what a verdict needs: the circuit then decides at once, in
//! every state.

use std::time::Duration;

use proptest::prelude::*;

use super::{Bench, ms};
use crate::middleware::circuit_breaker::config::CircuitBreakerConfig;
use crate::middleware::circuit_breaker::control::Notice;
use crate::middleware::circuit_breaker::orders::Order;
use crate::middleware::circuit_breaker::pass::{Pass, Refusal, Verdict};
use crate::middleware::circuit_breaker::transition::{Cause, State};
use crate::primitives::window::Window;

use Verdict::{Cancelled, Failure, Success};

fn config() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new()
        .window(Window::calls(100))
        .open_for(ms(100))
        .open_jitter(0.0)
        .without_probe_timeout()
}

/// A circuit whose next call is its first trial call.
fn probing(config: &CircuitBreakerConfig) -> Bench {
    let mut bench = Bench::new(config.clone());
    bench.order(Order::Trip(None));
    bench.advance(ms(100));
    bench
}

#[track_caller]
fn last_cause(bench: &Bench) -> Cause {
    match bench.notices().pop() {
        Some(Notice::Transition(transition)) => transition.cause,
        other => panic!("no transition: {other:?}"),
    }
}

#[test]
fn fewer_probes_close_a_half_open_circuit_that_has_seen_enough() {
    let bench = probing(&config().probes(3));
    bench.calls(2, Success);
    assert_eq!(bench.state(), State::HalfOpen);
    bench.reconfigure(&config().probes(2));
    assert_eq!(bench.state(), State::Closed);
    assert_eq!(last_cause(&bench), Cause::ProbesSucceeded { calls: 2 });
}

#[test]
fn fewer_probes_open_a_half_open_circuit_that_has_seen_enough() {
    let bench = probing(&config().probes(3));
    bench.call(Failure);
    bench.call(Success);
    bench.reconfigure(&config().probes(2));
    assert_eq!(bench.state(), State::Open);
    assert_eq!(bench.snapshot().retry_after, Some(ms(200)), "for longer than the last time");
}

#[test]
fn a_half_open_circuit_does_not_wait_for_calls_that_are_cancelled() {
    for order in [[0, 1], [1, 0]] {
        let bench = probing(&config().probes(5));
        bench.calls(3, Success);
        let in_flight = [bench.admitted(), bench.admitted()];
        for step in order {
            match step {
                0 => bench.reconfigure(&config().probes(3)),
                _ => in_flight.iter().for_each(|pass| bench.end(pass, Cancelled)),
            }
        }
        assert_eq!(bench.state(), State::Closed);
    }
}

#[test]
fn a_lower_minimum_of_calls_decides_a_half_open_circuit() {
    let bench = probing(&config().probes(3));
    bench.calls(2, Success);
    bench.reconfigure(&config().probes(3).min_calls(2));
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn more_probes_let_more_trial_calls_through_at_once() {
    let bench = probing(&config().probes(1));
    let _hanging = bench.admitted();
    bench.refused();
    bench.reconfigure(&config().probes(3));
    bench.calls(2, Success);
    assert_eq!(bench.state(), State::HalfOpen, "two of three");
    bench.refused();
    bench.reconfigure(&config().probes(2));
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn a_shorter_run_of_failures_opens_a_half_open_circuit() {
    let bench = probing(&config().probes(5).consecutive_failures(3));
    bench.calls(2, Failure);
    assert_eq!(bench.state(), State::HalfOpen);
    bench.reconfigure(&config().probes(5).consecutive_failures(2));
    assert_eq!(last_cause(&bench), Cause::ConsecutiveFailures { threshold: 2 });
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn a_lower_limit_for_slow_calls_judges_the_trial_calls_that_hang() {
    let slow = |limit| config().probes(2).slow_after(ms(limit));
    let changes = [
        (slow(1_000), slow(50)),
        (config().probes(2), slow(50)),
        (slow(50).slow_in_flight(false), slow(50)),
        (slow(50).slow_ratio(1.0).probes(3), slow(50)),
    ];
    for (before, after) in changes {
        let mut bench = probing(&before);
        let _hanging = [bench.admitted(), bench.admitted()];
        bench.advance(ms(60));
        let _ = bench.ask();
        assert_eq!(bench.state(), State::HalfOpen);
        bench.reconfigure(&after);
        assert_eq!(bench.state(), State::Open, "{before:?}");
        assert!(matches!(last_cause(&bench), Cause::SlowRatio { in_flight: 2, .. }));
    }
}

/// Nobody asked for the verdict again: two hang, one has ended, and no fourth is let through.
#[test]
fn trial_calls_that_hang_are_judged_together_with_one_that_ends_later() {
    for verdict in [Success, Failure] {
        let mut bench = probing(&config().probes(3).slow_after(ms(10)));
        let _hanging = [bench.admitted(), bench.admitted()];
        bench.advance(ms(11));
        let last = bench.admitted();
        bench.end(&last, verdict);
        assert_eq!(bench.state(), State::Open, "two of three are slow");
    }
}

#[test]
fn a_probe_timeout_set_later_frees_the_slot_of_a_trial_call_that_hangs() {
    let mut bench = probing(&config().probes(1));
    let hanging = bench.admitted();
    bench.advance(ms(10_000));
    assert_eq!(bench.refused(), Refusal::Open { wait: Refusal::ENDLESS });
    bench.reconfigure(&config().probes(1).probe_timeout(ms(15_000)));
    assert_eq!(bench.refused(), Refusal::Open { wait: 5_000_000_000 }, "counted from when it began");
    bench.reconfigure(&config().probes(1).probe_timeout(ms(10_000)));
    bench.call(Success);
    assert_eq!(bench.state(), State::Closed);
    bench.end(&hanging, Failure);
    assert_eq!(bench.snapshot().calls, 0, "it has lost its say");
}

#[test]
fn a_probe_timeout_taken_away_lets_a_trial_call_keep_its_slot() {
    let mut bench = probing(&config().probes(1).probe_timeout(ms(50)));
    let probe = bench.admitted();
    bench.reconfigure(&config().probes(1));
    bench.advance(ms(10_000));
    bench.refused();
    bench.end(&probe, Success);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn a_closed_circuit_is_judged_by_a_stricter_configuration_at_once() {
    let base = || config().min_calls(10);
    let slow = || base().slow_after(ms(10)).slow_in_flight(false);
    let strict: [(CircuitBreakerConfig, CircuitBreakerConfig); 7] = [
        (base(), base().failure_ratio(0.4)),
        (base().min_calls(20), base().failure_ratio(0.4)),
        (base().min_calls(20).failure_ratio(0.4), base().failure_ratio(0.4)),
        (base(), base().failure_ratio(0.4).window(Window::time(ms(1_000)))),
        (slow(), slow().slow_ratio(0.4)),
        (base().consecutive_failures(5), base().consecutive_failures(4)),
        (slow().slow_ratio(1.0), slow().without_failure_ratio().slow_ratio(0.4)),
    ];
    for (before, after) in strict {
        let mut bench = Bench::new(before.clone());
        bench.calls(6, Success);
        for _ in 0..4 {
            let pass = bench.admitted();
            bench.advance(ms(11));
            bench.end(&pass, Failure);
        }
        assert_eq!(bench.state(), State::Closed, "{before:?}");
        bench.reconfigure(&after);
        assert_eq!(bench.state(), State::Open, "{before:?} -> {after:?}");
    }
}

#[test]
fn good_calls_are_judged_anew_by_a_stricter_configuration() {
    let bench = Bench::new(config().min_calls(10));
    bench.calls(7, Success);
    bench.calls(6, Failure);
    bench.calls(7, Success);
    bench.reconfigure(&config().min_calls(30).failure_ratio(0.2));
    bench.calls(9, Success);
    assert_eq!(bench.state(), State::Closed, "there are too few");
    bench.call(Success);
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn a_closed_circuit_stays_closed_under_a_laxer_configuration() {
    let mut bench = Bench::new(config().min_calls(10).slow_after(ms(10)).consecutive_failures(9));
    for verdict in [Success, Success, Success, Success, Success, Success, Failure, Failure, Failure] {
        bench.call(verdict);
    }
    for after in [
        config().min_calls(9),
        config().min_calls(100).failure_ratio(0.01),
        config().min_calls(9).consecutive_failures(4),
        config().min_calls(9).slow_after(ms(1)).slow_ratio(0.01),
    ] {
        bench.reconfigure(&after);
        assert_eq!(bench.state(), State::Closed, "{after:?}");
    }
    bench.advance(ms(1));
    bench.call(Success);
    assert_eq!(bench.state(), State::Closed);
}

/// While the rule is off nobody counts, so what was counted before says nothing.
#[test]
fn a_run_of_failures_that_was_not_watched_does_not_count() {
    let bench = Bench::new(config().min_calls(100).consecutive_failures(5));
    bench.calls(3, Failure);
    bench.reconfigure(&config().min_calls(100));
    bench.calls(10, Success);
    bench.reconfigure(&config().min_calls(100).consecutive_failures(3));
    assert_eq!(bench.state(), State::Closed);
    bench.calls(2, Failure);
    assert_eq!(bench.state(), State::Closed, "two in a row");
    bench.call(Failure);
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn a_recovering_circuit_is_judged_by_a_stricter_configuration_at_once() {
    let recovering = || config().probes(1).ramp(ms(1_000));
    let mut bench = probing(&recovering().failure_ratio(0.9));
    bench.call(Success);
    bench.advance(ms(900));
    for call in 0..40 {
        while bench.ask().map(|pass| bench.end(&pass, if call % 2 == 0 { Failure } else { Success })).is_err()
        {
        }
    }
    assert_eq!(bench.state(), State::Recovering);
    bench.reconfigure(&recovering().failure_ratio(0.5));
    assert_eq!(bench.state(), State::Recovering, "half of them failed, which chance may explain");
    bench.reconfigure(&recovering().failure_ratio(0.2));
    assert_eq!(bench.state(), State::Open);
}

#[test]
fn a_circuit_that_observes_warns_once_however_often_it_is_reconfigured() {
    let bench = Bench::new(config().min_calls(10));
    bench.order(Order::Observe);
    bench.calls(6, Success);
    bench.calls(4, Failure);
    bench.notices();
    for warnings in [1, 0, 0] {
        bench.reconfigure(&config().min_calls(10).failure_ratio(0.4));
        bench.call(Failure);
        assert_eq!(bench.notices().len(), warnings);
    }
    assert_eq!(bench.state(), State::ObserveOnly);
    bench.reconfigure(&config().min_calls(10).failure_ratio(1.0));
    bench.call(Failure);
    bench.reconfigure(&config().min_calls(10).failure_ratio(0.4));
    assert_eq!(bench.notices().len(), 1, "all was well in between");
}

#[derive(Clone, Debug)]
enum Step {
    Ask,
    End(usize, Verdict),
    Wait(u64),
    Reconfigure(CircuitBreakerConfig),
    Probe,
}

fn any_config() -> impl Strategy<Value = CircuitBreakerConfig> {
    let optional = |range: std::ops::Range<u64>| prop::option::of(range);
    let counts = (1..6_u32, 1..6_u32, prop::option::of(1..5_u32));
    let times = (optional(1..60), any::<bool>(), optional(1..100), 0..50_u64);
    (counts, times, 0.1..1.0_f64, 0.1..1.0_f64).prop_map(
        |((probes, min_calls, run), (slow, in_flight, timeout, ramp), failures, slows)| {
            let mut config = config()
                .probes(probes)
                .min_calls(min_calls)
                .failure_ratio(failures)
                .slow_ratio(slows)
                .slow_in_flight(in_flight)
                .ramp(ms(ramp));
            config.consecutive_failures = run;
            config.slow_after = slow.map(ms);
            config.probe_timeout = timeout.map(ms);
            config
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => Just(Step::Ask),
        4 => (any::<usize>(), prop_oneof![Just(Success), Just(Failure), Just(Verdict::Ignored), Just(Cancelled)])
            .prop_map(|(which, verdict)| Step::End(which, verdict)),
        3 => (0..120_u64).prop_map(Step::Wait),
        3 => any_config().prop_map(Step::Reconfigure),
        1 => Just(Step::Probe),
    ]
}

proptest! {
    /// Nothing is in flight: whatever has happened before, a trial call is let through, or a
    /// verdict was given.
    #[test]
    fn a_half_open_circuit_always_gets_on(
        first in any_config(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut bench = probing(&first);
        let mut in_flight: Vec<Pass> = Vec::new();
        for step in steps {
            match step {
                Step::Ask => in_flight.extend(bench.ask()),
                Step::End(which, verdict) if !in_flight.is_empty() => {
                    let pass = in_flight.remove(which % in_flight.len());
                    bench.end(&pass, verdict);
                }
                Step::End(..) => {}
                Step::Wait(time) => bench.advance(ms(time)),
                Step::Reconfigure(config) => bench.reconfigure(&config),
                Step::Probe => drop(bench.order(Order::Probe)),
            }
        }
        for pass in in_flight {
            bench.end(&pass, Cancelled);
        }
        if bench.state() == State::HalfOpen {
            prop_assert!(bench.ask().is_ok() || bench.state() == State::Open, "{:?}", bench.snapshot());
        }
    }

    /// With trial calls that hang for ever, and a time after which they lose their slots.
    #[test]
    fn a_half_open_circuit_outlives_trial_calls_that_hang(
        first in any_config(),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut bench = probing(&first);
        for step in steps {
            match step {
                Step::Ask => drop(bench.ask()),
                Step::End(..) | Step::Probe => {}
                Step::Wait(time) => bench.advance(ms(time)),
                Step::Reconfigure(config) => bench.reconfigure(&config),
            }
        }
        bench.reconfigure(&config().probes(3).probe_timeout(ms(100)));
        if bench.state() == State::HalfOpen {
            bench.advance(ms(100));
            prop_assert!(bench.ask().is_ok(), "{:?}", bench.snapshot());
        }
    }
}

#[test]
fn an_idle_gap_does_not_keep_a_stricter_configuration_from_judging() {
    let mut bench = Bench::new(config().window(Window::time(ms(10_000))).min_calls(10));
    bench.calls(6, Success);
    bench.calls(4, Failure);
    bench.advance(Duration::from_secs(5));
    bench.reconfigure(&config().window(Window::time(ms(10_000))).min_calls(10).failure_ratio(0.4));
    assert_eq!(bench.state(), State::Open);
}
