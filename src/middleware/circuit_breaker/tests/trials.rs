//! Slots of trial calls: never more than configured, whoever renews, loses or gives them back.

use super::{Bench, MS, ms};
use crate::base::clock::{Now, Timestamp};
use crate::middleware::circuit_breaker::config::{CircuitBreakerConfig, Settings};
use crate::middleware::circuit_breaker::orders::Order;
use crate::middleware::circuit_breaker::pass::{Pass, Refusal, Verdict};
use crate::middleware::circuit_breaker::snapshot::PersistedState;
use crate::middleware::circuit_breaker::transition::State;
use crate::middleware::circuit_breaker::trial::{Begins, Finding, Trial};

fn config() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new().open_for(ms(100)).open_jitter(0.0).probes(3)
}

fn half_open(config: CircuitBreakerConfig) -> Bench {
    let mut bench = Bench::new(config);
    bench.order(Order::Trip(None));
    bench.advance(ms(100));
    bench
}

impl Bench {
    fn reserve(&self) -> Pass {
        self.circuit.reserve(&Now::at(self.now, 0)).0.expect("the call is admitted")
    }

    /// As if a million trial calls had been let through, and cancelled.
    fn skip_to_number_of(&self, pass: &Pass) {
        let number = pass.slot().expect("it is a trial call").number;
        self.circuit.lock().as_mut().expect("it is half-open").trial.skip_to(number);
    }

    fn is_held(&self, pass: &Pass) -> bool {
        self.circuit.is_held(pass, &Now::at(self.now, 0))
    }

    fn begin(&self, pass: &mut Pass) -> bool {
        self.circuit.renew(pass, &Now::at(self.now, 0))
    }
}

/// Numbers of slots begin again after a million.
#[test]
fn a_slot_in_use_is_given_to_nobody_else() {
    let mut bench = half_open(config().without_probe_timeout());
    let hanging = bench.admitted();
    bench.skip_to_number_of(&hanging);
    let others = [bench.admitted(), bench.admitted()];
    bench.refused();
    bench.advance(ms(1));
    bench.end(&hanging, Verdict::Cancelled);
    let _third = bench.admitted();
    bench.refused();
    for other in others {
        bench.end(&other, Verdict::Cancelled);
    }
    let _rest = [bench.admitted(), bench.admitted()];
    bench.refused();
}

#[test]
fn a_trial_call_that_lost_its_slot_does_not_give_back_another_of_its_number() {
    for held in [false, true] {
        let mut bench = half_open(config().probe_timeout(ms(50)));
        let lost = if held { bench.reserve() } else { bench.admitted() };
        bench.advance(ms(50));
        bench.skip_to_number_of(&lost);
        let _others = [bench.reserve(), bench.reserve(), bench.reserve()];
        assert!(!bench.is_held(&lost));
        bench.end(&lost, Verdict::Cancelled);
        bench.refused();
    }
}

#[test]
fn probing_again_does_not_let_more_trial_calls_through() {
    let bench = half_open(config());
    let in_flight = [bench.admitted(), bench.admitted()];
    assert!(bench.order(Order::Probe));
    let third = bench.admitted();
    bench.refused();
    for pass in in_flight {
        bench.end(&pass, Verdict::Success);
    }
    bench.refused();
    bench.end(&third, Verdict::Success);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn probing_again_forgets_the_trial_calls_that_have_ended() {
    let bench = half_open(config());
    bench.call(Verdict::Failure);
    bench.order(Order::Probe);
    assert_eq!((bench.snapshot().calls, bench.snapshot().failures), (0, 0));
    bench.calls(2, Verdict::Success);
    assert_eq!(bench.state(), State::HalfOpen);
    bench.call(Verdict::Success);
    assert_eq!(bench.state(), State::Closed);
}

/// It was reserved 9 s ago, and would lose its slot after 10.
#[test]
fn a_reserved_trial_call_is_timed_from_when_it_begins() {
    let mut bench = half_open(config().probes(1).probe_timeout(ms(10_000)).slow_after(ms(20_000)));
    let mut reserved = bench.reserve();
    bench.advance(ms(9_000));
    assert!(bench.begin(&mut reserved));
    assert_eq!(bench.refused(), Refusal::Open { wait: 10_000_000_000 });
    bench.advance(ms(9_999));
    assert!(bench.is_held(&reserved));
    bench.end(&reserved, Verdict::Success);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn a_reserved_trial_call_is_not_slow_before_it_begins() {
    let mut bench = half_open(config().probes(1).slow_after(ms(10)));
    let mut reserved = bench.reserve();
    bench.advance(ms(1_000));
    let _ = bench.ask();
    assert_eq!(bench.state(), State::HalfOpen, "nothing is late");
    assert!(bench.begin(&mut reserved));
    bench.advance(ms(11));
    let _ = bench.ask();
    assert_eq!(bench.state(), State::Open, "now it is");
}

#[test]
fn a_reservation_that_is_cancelled_is_no_slow_call() {
    let mut bench = half_open(config().probes(1).slow_after(ms(10)).slow_in_flight(false));
    let reserved = bench.reserve();
    bench.advance(ms(1_000));
    bench.end(&reserved, Verdict::Cancelled);
    assert_eq!((bench.state(), bench.snapshot().calls), (State::HalfOpen, 0));
}

#[test]
fn a_reservation_that_was_lost_cannot_begin() {
    let mut bench = half_open(config().probes(1).probe_timeout(ms(50)));
    let mut reserved = bench.reserve();
    assert!(bench.is_held(&reserved), "and again");
    assert!(bench.is_held(&reserved));
    bench.advance(ms(50));
    assert!(!bench.is_held(&reserved));
    assert!(!bench.begin(&mut reserved));
    let other = bench.admitted();
    assert!(!bench.begin(&mut reserved), "the slot is another's");
    bench.end(&other, Verdict::Success);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn a_reservation_is_lost_after_ten_seconds_where_trial_calls_never_are() {
    let mut bench = half_open(config().probes(1).without_probe_timeout());
    let reserved = bench.reserve();
    bench.advance(ms(9_999));
    assert!(bench.is_held(&reserved));
    assert_eq!(bench.refused(), Refusal::Open { wait: 1_000_000 });
    bench.advance(ms(1));
    assert!(!bench.is_held(&reserved));
    let mut other = bench.reserve();
    assert!(bench.begin(&mut other));
    bench.advance(ms(3_600_000));
    bench.refused();
    bench.end(&other, Verdict::Success);
    assert_eq!(bench.state(), State::Closed);
}

#[test]
fn no_call_beyond_the_probes_is_let_through_while_one_is_overdue() {
    // One slow call of three is no reason to open.
    let mut bench = half_open(config().slow_after(ms(10)).slow_ratio(0.9));
    let probes = [bench.admitted(), bench.admitted(), bench.admitted()];
    bench.advance(ms(5));
    bench.end(&probes[0], Verdict::Success);
    bench.end(&probes[1], Verdict::Success);
    bench.advance(ms(6));
    bench.refused();
    bench.refused();
    assert_eq!(bench.state(), State::HalfOpen);
}

#[test]
fn probing_again_lends_the_slots_of_trial_calls_that_have_ended_at_once() {
    let mut bench = half_open(config());
    let _hangs = bench.admitted();
    bench.calls(2, Verdict::Success);
    bench.refused();
    bench.advance(ms(5));
    bench.order(Order::Probe);
    assert_eq!(bench.snapshot().since, ms(0));
    let _others = [bench.admitted(), bench.admitted()];
    bench.refused();
}

#[test]
fn probing_again_forgets_the_run_of_failures_and_the_calls_that_were_excused() {
    let bench = half_open(config().probes(5).without_failure_ratio().consecutive_failures(3));
    bench.calls(2, Verdict::Failure);
    let cut_off = bench.admitted();
    let excused = || (0..6).filter(|_| bench.circuit.excuse(cut_off, bench.now)).count();
    assert_eq!(excused(), 5);
    bench.order(Order::Probe);
    assert_eq!(excused(), 5);
    bench.call(Verdict::Failure);
    assert_eq!(bench.state(), State::HalfOpen);
}

#[test]
fn an_open_circuit_shows_the_trial_calls_that_opened_it_however_few() {
    let bench = half_open(config().min_calls(20));
    bench.calls(3, Verdict::Failure);
    let snapshot = bench.snapshot();
    assert_eq!((snapshot.state, snapshot.calls, snapshot.failure_ratio), (State::Open, 3, Some(1.0)));
}

#[test]
fn a_half_open_circuit_that_is_restored_probes_anew() {
    let before = half_open(config());
    let _in_flight = before.admitted();
    assert_eq!(before.state(), State::HalfOpen);
    let bench = Bench::new(config());
    bench.circuit.restore(&PersistedState::from(&before.snapshot()), bench.now);
    assert_eq!(bench.state(), State::Open);
    let _probes = [bench.admitted(), bench.admitted(), bench.admitted()];
    bench.refused();
}

#[test]
fn trial_calls_that_all_fail_open_it_although_a_longer_run_of_failures_is_allowed() {
    let bench = half_open(config().probes(2).without_failure_ratio().consecutive_failures(5));
    bench.calls(2, Verdict::Failure);
    assert_eq!((bench.state(), bench.snapshot().openings), (State::Open, 2));
}

/// The gate, which no lock guards: it is what a service asks in `poll_ready`.
#[test]
fn the_last_slot_that_is_lent_shuts_the_gate_until_it_may_be_lost() {
    let mut bench = half_open(config().probes(2).probe_timeout(ms(50)));
    let refusal = |bench: &Bench| bench.circuit.refusal(&Now::at(bench.now, 0));
    let _first = bench.admitted();
    assert_eq!(refusal(&bench), None, "one slot is free");
    bench.advance(ms(10));
    let second = bench.admitted();
    assert_eq!(refusal(&bench), Some(Refusal::Open { wait: 40 * MS }));
    assert_eq!(bench.snapshot().retry_after, Some(ms(40)));
    bench.end(&second, Verdict::Cancelled);
    assert_eq!(refusal(&bench), None, "it is free again");
}

fn settings(config: &CircuitBreakerConfig) -> Settings {
    Settings::new(config).expect("the configuration is valid")
}

#[test]
fn a_trial_call_that_takes_as_long_as_it_may_is_not_late() {
    let settings = settings(&config().probes(1).slow_after(ms(10)).slow_ratio(1.0).without_probe_timeout());
    let mut trial = Trial::default();
    let start = Timestamp(7);
    assert!(trial.admit(start, Begins::Now, &settings).is_some());
    let end = start.after(ms(10));
    assert!(trial.judge(end, &settings) == Finding::Undecided);
    let late = Timestamp(end.0 + 1);
    assert_eq!(trial.next_slot(start, &settings), late);
    assert_eq!(trial.next_slot(end, &settings), late);
    assert_eq!(trial.next_slot(late, &settings), Timestamp::NEVER, "it has been judged by then");
    assert!(matches!(trial.judge(late, &settings), Finding::Sick(_)));
}

#[test]
fn a_circuit_that_is_not_waiting_says_no_time_to_wait() {
    let bench = Bench::new(config());
    assert_eq!(bench.snapshot().retry_after, None, "closed");
    bench.order(Order::ForceOpen(None));
    assert_eq!(bench.snapshot().retry_after, None, "forced open without a limit");
    bench.order(Order::ForceOpen(Some(ms(30))));
    assert_eq!(bench.snapshot().retry_after, Some(ms(30)));
    bench.order(Order::Close);
    assert_eq!(bench.snapshot().retry_after, None, "closed again");
    bench.order(Order::Disable);
    assert_eq!(bench.snapshot().retry_after, None);
}

/// The fast paths, which no call takes while somebody observes the circuit.
#[test]
fn only_a_closed_circuit_admits_calls_without_a_look() {
    let bench = Bench::new(config());
    assert!(bench.circuit.admit_plainly().is_some());
    for order in [Order::Trip(None), Order::ForceOpen(None), Order::Disable, Order::Observe] {
        bench.order(order);
        assert!(bench.circuit.admit_plainly().is_none(), "{order:?}");
        assert!(bench.circuit.admit_timed(&Now::at(bench.now, 0)).is_none(), "{order:?}");
    }
    bench.order(Order::Trip(None));
    bench.order(Order::Probe);
    assert!(bench.circuit.admit_plainly().is_none(), "half-open");
}

#[test]
fn with_a_limit_for_slow_calls_every_call_is_timed() {
    let mut bench = Bench::new(config().slow_after(ms(10)).slow_ratio(1.0).min_calls(9));
    assert!(bench.circuit.admit_plainly().is_none());
    bench.advance(ms(500));
    let first = bench.admitted();
    let second = bench.circuit.admit_timed(&Now::at(bench.now, 0)).expect("it is closed");
    bench.advance(ms(11));
    bench.end(&first, Verdict::Success);
    bench.end(&second, Verdict::Success);
    assert_eq!(bench.snapshot().slow, 2);
}
