//! A circuit that goes on from a saved state, and orders that make no sense in the present one.

use std::time::Duration;

use super::{Bench, ms};
use crate::base::clock::Now;
use crate::middleware::circuit_breaker::config::CircuitBreakerConfig;
use crate::middleware::circuit_breaker::orders::Order;
use crate::middleware::circuit_breaker::pass::{Refusal, Verdict};
use crate::middleware::circuit_breaker::snapshot::PersistedState;
use crate::middleware::circuit_breaker::transition::State;

fn config() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new().open_jitter(0.0)
}

/// Another circuit that goes on where this one is.
fn restored(bench: &Bench, config: CircuitBreakerConfig) -> Bench {
    let other = Bench::new(config);
    other.circuit.restore(&PersistedState::from(&bench.snapshot()), other.now);
    other
}

#[test]
fn a_half_open_circuit_whose_slots_were_all_lent_probes_at_once_when_it_is_restored() {
    for config in [config(), config().without_probe_timeout()] {
        let before = Bench::new(config.clone());
        before.order(Order::Trip(None));
        before.order(Order::Probe);
        let _in_flight = [before.admitted(), before.admitted(), before.admitted()];
        let bench = restored(&before, config);
        let _probes = [bench.admitted(), bench.admitted(), bench.admitted()];
        bench.refused();
    }
}

#[test]
fn an_opening_without_end_is_restored_without_end() {
    let endless = config().open_for(Duration::MAX);
    let orders = [Order::Trip(None), Order::Trip(Some(Duration::MAX)), Order::ForceOpen(None)];
    for order in orders {
        let before = Bench::new(endless.clone());
        before.order(order);
        let state = before.state();
        for config in [endless.clone(), config()] {
            let mut bench = restored(&before, config);
            bench.advance(ms(1_000_000));
            assert_eq!(bench.refused(), Refusal::Open { wait: Refusal::ENDLESS }, "{order:?}");
            assert_eq!((bench.state(), bench.snapshot().retry_after), (state, None));
        }
    }
}

#[test]
fn an_opening_of_ten_minutes_by_hand_is_restored_as_long_as_it_was() {
    for order in [Order::Trip(Some(ms(600_000))), Order::ForceOpen(Some(ms(600_000)))] {
        let mut before = Bench::new(config());
        before.order(order);
        before.advance(ms(100_000));
        let bench = restored(&before, config());
        assert_eq!(bench.snapshot().retry_after, Some(ms(500_000)));
    }
}

#[test]
fn a_state_that_has_just_been_made_has_no_time_to_wait() {
    let bench = Bench::new(config());
    bench.circuit.restore(&PersistedState::new(State::Open), bench.now);
    bench.admitted();
}

#[test]
fn a_disabled_circuit_cannot_be_asked_to_probe() {
    let bench = Bench::new(config());
    bench.order(Order::Disable);
    assert!(!bench.order(Order::Probe));
    assert_eq!(bench.state(), State::Disabled);
}

/// Calls are timed for a minute after one was cut off.
#[test]
fn calls_are_timed_after_a_cut_off_call_whatever_is_configured_in_between() {
    let config = config();
    for between in [config.clone().probes(4), config.clone().slow_after(ms(9_000))] {
        let mut bench = Bench::new(config.clone());
        bench.advance(ms(1));
        let pass = bench.admitted();
        bench.circuit.cut_off(pass, 0, bench.now);
        assert!(bench.admitted().may_be_sample());
        bench.reconfigure(&between);
        assert!(bench.admitted().may_be_sample());
        bench.reconfigure(&config);
        assert!(bench.admitted().may_be_sample());
    }
}

#[test]
fn a_trial_call_that_lost_its_slot_leaves_the_excuse_to_the_one_in_its_place() {
    let config = config().probes(1).probe_timeout(ms(1_000));
    let mut bench = Bench::new(config);
    bench.advance(ms(1));
    bench.circuit.sample_next();
    let pass = bench.admitted();
    bench.advance(ms(5_000));
    bench.end(&pass, Verdict::Success);
    bench.circuit.note_usual(pass.started, &Now::at(bench.now, 0));
    bench.order(Order::Trip(Some(ms(1))));
    bench.advance(ms(1));
    let lost = bench.admitted();
    bench.advance(ms(1_000));
    let probe = bench.admitted();
    bench.circuit.cut_off(lost, 0, bench.now);
    assert_eq!(bench.circuit.cut_off(probe, 0, bench.now), Verdict::Cancelled);
}
