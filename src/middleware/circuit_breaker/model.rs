//! The circuit under loom: every interleaving of a few threads.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a test may fail"
)]

use std::sync::Arc as StdArc;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};

use super::config::{CircuitBreakerConfig, Settings};
use super::control::Notice;
use super::orders::Order;
use super::pass::{Pass, Refusal, Verdict};
use super::state::Circuit;
use super::transition::State;
use crate::base::clock::{Now, Timestamp};
use crate::base::sync::both;
use crate::primitives::window::Window;
use std::time::Duration;

/// Opens for a second on two failures of two.
fn config() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new()
        .window(Window::calls(2))
        .min_calls(2)
        .failure_ratio(1.0)
        .open_for(Duration::from_nanos(10))
        .open_jitter(0.0)
        .probes(1)
}

fn circuit(config: &CircuitBreakerConfig) -> Arc<Circuit> {
    Arc::new(Circuit::new(&StdArc::new(Settings::new(config).unwrap())))
}

fn admit(circuit: &Circuit, at: u64) -> Option<Pass> {
    circuit.admit(&Now::at(Timestamp(at), 0)).0.ok()
}

fn settle(circuit: &Circuit, pass: &Pass, verdict: Verdict, at: u64, stripe: usize) {
    circuit.settle(pass, verdict, None, &Now::at(Timestamp(at), stripe));
}

fn send_probe(circuit: &Circuit, at: u64) {
    circuit.obey(Order::Probe, Timestamp(at));
    assert!(admit(circuit, at).is_some());
}

fn fail(circuit: &Circuit, at: u64) {
    let pass = admit(circuit, at).expect("the circuit is closed");
    settle(circuit, &pass, Verdict::Failure, at, 0);
}

/// The states entered since this was last asked.
fn entered(circuit: &Circuit) -> Vec<State> {
    let mut entered = Vec::new();
    while let Some(notice) = circuit.next_notice() {
        if let Notice::Transition(transition) = notice {
            entered.push(transition.to);
        }
        circuit.delivered();
    }
    entered
}

#[test]
fn two_failures_that_cross_the_threshold_open_it_once() {
    loom::model(|| {
        let circuit = circuit(&config());
        let (one, other) = (Arc::clone(&circuit), Arc::clone(&circuit));
        both(
            move || {
                let pass = admit(&one, 0).unwrap();
                settle(&one, &pass, Verdict::Failure, 0, 0);
            },
            move || {
                // Admitted before the other one failed, or not at all.
                if let Some(pass) = admit(&other, 0) {
                    settle(&other, &pass, Verdict::Failure, 0, 0);
                }
            },
        );
        assert_eq!(circuit.load().state, State::Open);
        assert_eq!(circuit.load().generation, 1);
        assert_eq!(entered(&circuit), [State::Open]);
    });
}

#[test]
fn two_failures_on_two_stripes_see_each_other() {
    loom::model(|| {
        let circuit = circuit(&config().window(Window::time(Duration::from_secs(1)).buckets(1)));
        circuit.measures.with(|measures| measures.window.spread());
        let passes = [admit(&circuit, 0).unwrap(), admit(&circuit, 0).unwrap()];
        let [first, second] = passes;
        let (one, other) = (Arc::clone(&circuit), Arc::clone(&circuit));
        both(
            move || settle(&one, &first, Verdict::Failure, 0, 0),
            move || settle(&other, &second, Verdict::Failure, 0, 1),
        );
        assert_eq!(circuit.load().state, State::Open);
    });
}

#[test]
fn a_run_of_failures_over_two_threads_opens_it_once() {
    loom::model(|| {
        let circuit = circuit(&config().without_failure_ratio().consecutive_failures(2));
        let (one, other) = (Arc::clone(&circuit), Arc::clone(&circuit));
        let first = admit(&circuit, 0).unwrap();
        let second = admit(&circuit, 0).unwrap();
        both(
            move || settle(&one, &first, Verdict::Failure, 0, 0),
            move || settle(&other, &second, Verdict::Failure, 0, 0),
        );
        assert_eq!(entered(&circuit), [State::Open]);
    });
}

#[test]
fn of_two_callers_at_the_end_of_the_wait_one_probes() {
    loom::model(|| {
        let circuit = circuit(&config());
        fail(&circuit, 0);
        fail(&circuit, 0);
        let admitted = Arc::new(AtomicUsize::new(0));
        let caller = || {
            let (circuit, admitted) = (Arc::clone(&circuit), Arc::clone(&admitted));
            move || {
                if admit(&circuit, 10).is_some() {
                    admitted.fetch_add(1, Ordering::Relaxed);
                }
            }
        };
        both(caller(), caller());
        assert_eq!(admitted.load(Ordering::Relaxed), 1);
        assert_eq!(entered(&circuit), [State::Open, State::HalfOpen]);
    });
}

#[test]
fn a_dropped_probe_returns_its_slot_whatever_the_other_reports() {
    loom::model(|| {
        let circuit = circuit(&config().probes(2));
        fail(&circuit, 0);
        fail(&circuit, 0);
        let (dropped, reported) = (admit(&circuit, 10).unwrap(), admit(&circuit, 10).unwrap());
        assert!(admit(&circuit, 10).is_none());
        let (one, other) = (Arc::clone(&circuit), Arc::clone(&circuit));
        both(
            move || settle(&one, &dropped, Verdict::Cancelled, 11, 0),
            move || settle(&other, &reported, Verdict::Success, 11, 0),
        );
        assert_eq!(circuit.load().state, State::HalfOpen);
        assert!(admit(&circuit, 12).is_some(), "one slot is free");
        assert!(admit(&circuit, 12).is_none(), "and only one");
    });
}

#[test]
fn two_probes_of_which_one_fails_decide_once() {
    loom::model(|| {
        let circuit = circuit(&config().probes(2));
        fail(&circuit, 0);
        fail(&circuit, 0);
        let (good, bad) = (admit(&circuit, 10).unwrap(), admit(&circuit, 10).unwrap());
        let (one, other) = (Arc::clone(&circuit), Arc::clone(&circuit));
        both(
            move || settle(&one, &good, Verdict::Success, 11, 0),
            move || settle(&other, &bad, Verdict::Failure, 11, 0),
        );
        // Half of two failed, and all would have to.
        assert_eq!(entered(&circuit), [State::Open, State::HalfOpen, State::Closed]);
    });
}

#[test]
fn a_verdict_of_the_generation_before_changes_nothing() {
    loom::model(|| {
        let circuit = circuit(&config().consecutive_failures(2));
        let stale = admit(&circuit, 0).unwrap();
        fail(&circuit, 0);
        fail(&circuit, 0);
        let probe = admit(&circuit, 10).unwrap();
        let (late, probing) = (Arc::clone(&circuit), Arc::clone(&circuit));
        both(
            move || settle(&late, &stale, Verdict::Failure, 11, 0),
            move || {
                settle(&probing, &probe, Verdict::Success, 11, 0);
                fail(&probing, 12);
            },
        );
        assert_eq!(circuit.load().state, State::Closed, "one failure of one call, and a stale one");
        assert_eq!(circuit.snapshot(Timestamp(12)).failures, 1);
    });
}

#[test]
fn a_probe_of_the_cycle_before_decides_nothing() {
    loom::model(|| {
        let circuit = circuit(&config());
        fail(&circuit, 0);
        fail(&circuit, 0);
        let stale = admit(&circuit, 10).unwrap();
        circuit.obey(Order::Trip(None), Timestamp(10));
        let (late, probing) = (Arc::clone(&circuit), Arc::clone(&circuit));
        both(
            move || settle(&late, &stale, Verdict::Success, 11, 0),
            move || {
                // At the same time as the one before, so that nothing but the generation tells the slots apart.
                send_probe(&probing, 10);
            },
        );
        assert_eq!(circuit.load().state, State::HalfOpen);
        assert!(admit(&circuit, 11).is_none(), "the slot is still lent");
    });
}

#[test]
fn verdicts_of_the_last_two_generations_change_nothing() {
    loom::model(|| {
        let circuit = circuit(&config());
        let of_the_closed = admit(&circuit, 0).unwrap();
        fail(&circuit, 0);
        fail(&circuit, 0);
        let of_the_first_trial = admit(&circuit, 10).unwrap();
        circuit.obey(Order::Trip(None), Timestamp(10));
        let probe = admit(&circuit, 100).unwrap();
        let (late, probing) = (Arc::clone(&circuit), Arc::clone(&circuit));
        both(
            move || {
                settle(&late, &of_the_closed, Verdict::Success, 101, 0);
                settle(&late, &of_the_first_trial, Verdict::Success, 101, 0);
            },
            move || settle(&probing, &probe, Verdict::Failure, 101, 0),
        );
        use State::{HalfOpen, Open};
        assert_eq!(entered(&circuit), [Open, HalfOpen, Open, HalfOpen, Open]);
    });
}

#[test]
fn a_caller_that_asks_while_a_trial_call_is_reserved_is_told_when_it_loses_its_slot() {
    loom::model(|| {
        let circuit = circuit(&config().without_probe_timeout());
        circuit.obey(Order::Trip(None), Timestamp(0));
        let (one, other) = (Arc::clone(&circuit), Arc::clone(&circuit));
        let reserve = |circuit: Arc<Circuit>| {
            move || {
                let (admission, _) = circuit.reserve(&Now::at(Timestamp(10), 0));
                assert_ne!(admission.err(), Some(Refusal::Open { wait: Refusal::ENDLESS }));
            }
        };
        both(reserve(one), reserve(other));
        assert_eq!(circuit.load().state, State::HalfOpen);
    });
}

#[test]
fn an_order_beats_a_verdict() {
    loom::model(|| {
        let circuit = circuit(&config());
        fail(&circuit, 0);
        let last = admit(&circuit, 0).unwrap();
        let (failing, operator) = (Arc::clone(&circuit), Arc::clone(&circuit));
        both(
            move || settle(&failing, &last, Verdict::Failure, 1, 0),
            move || {
                operator.obey(Order::ForceOpen(None), Timestamp(1));
            },
        );
        assert_eq!(circuit.load().state, State::ForcedOpen);
        assert!(admit(&circuit, u64::MAX - 1).is_none());
    });
}

#[test]
fn whoever_finds_it_open_finds_until_when() {
    loom::model(|| {
        let circuit = circuit(&config());
        fail(&circuit, 0);
        let last = admit(&circuit, 0).unwrap();
        let (opening, asking) = (Arc::clone(&circuit), Arc::clone(&circuit));
        both(
            move || settle(&opening, &last, Verdict::Failure, 0, 0),
            move || {
                if let (Err(refusal), _) = asking.admit(&Now::at(Timestamp(0), 0)) {
                    assert_eq!(refusal, Refusal::Open { wait: 10 });
                }
            },
        );
    });
}

#[test]
fn every_notice_is_delivered_once_and_in_order() {
    loom::model(|| {
        let circuit = circuit(&config());
        let delivered = Arc::new(loom::sync::Mutex::new(Vec::new()));
        let act = |order| {
            let (circuit, delivered) = (Arc::clone(&circuit), Arc::clone(&delivered));
            move || {
                circuit.obey(order, Timestamp(0));
                while let Some(Notice::Transition(transition)) = circuit.next_notice() {
                    delivered.lock().unwrap().push((transition.from, transition.to));
                    circuit.delivered();
                }
            }
        };
        both(act(Order::Disable), act(Order::ForceOpen(None)));
        let delivered = delivered.lock().unwrap();
        let [(start, middle), (again, end)] = delivered[..] else { panic!("two notices: {delivered:?}") };
        assert_eq!((start, middle), (State::Closed, again));
        assert_eq!(end, circuit.load().state);
    });
}

fn reconfigure(circuit: &Circuit, config: &CircuitBreakerConfig, at: u64) {
    let settings = StdArc::new(Settings::new(config).unwrap());
    circuit.reconfigure(&settings, &Now::at(Timestamp(at), 0));
}

#[test]
fn fewer_probes_and_the_end_of_a_trial_call_decide_together() {
    loom::model(|| {
        let before = config().window(Window::calls(3)).min_calls(3).probes(3);
        let circuit = circuit(&before);
        circuit.obey(Order::Trip(None), Timestamp(0));
        let probes = [(); 3].map(|()| admit(&circuit, 10).unwrap());
        settle(&circuit, &probes[0], Verdict::Success, 11, 0);
        let (ending, operator) = (Arc::clone(&circuit), Arc::clone(&circuit));
        both(
            move || settle(&ending, &probes[1], Verdict::Success, 11, 0),
            move || reconfigure(&operator, &before.probes(2), 11),
        );
        assert_eq!(circuit.load().state, State::Closed, "two of two have succeeded");
    });
}

#[test]
fn a_lower_threshold_and_a_failure_open_it_together() {
    loom::model(|| {
        let before = config().window(Window::calls(3));
        let circuit = circuit(&before);
        let [good, bad] = [admit(&circuit, 0).unwrap(), admit(&circuit, 0).unwrap()];
        settle(&circuit, &good, Verdict::Success, 0, 0);
        let (failing, operator) = (Arc::clone(&circuit), Arc::clone(&circuit));
        both(
            move || settle(&failing, &bad, Verdict::Failure, 0, 0),
            move || reconfigure(&operator, &before.failure_ratio(0.5), 0),
        );
        assert_eq!(circuit.load().state, State::Open, "one of two has failed");
    });
}

#[test]
fn the_next_success_forgets_a_hint_whatever_ends_beside_it() {
    loom::model(|| {
        // Larger than the calls made here: a call that fills the window is weighed in any case.
        let circuit = circuit(&config().window(Window::calls(9)));
        let [first, good, bad] = [(); 3].map(|()| admit(&circuit, 0).unwrap());
        settle(&circuit, &first, Verdict::Success, 0, 0);
        let (failing, succeeding) = (Arc::clone(&circuit), Arc::clone(&circuit));
        both(
            move || {
                let now = Now::at(Timestamp(0), 0);
                failing.settle(&bad, Verdict::Failure, Some(Duration::from_nanos(5)), &now);
            },
            move || settle(&succeeding, &good, Verdict::Success, 0, 0),
        );
        let last = admit(&circuit, 0).unwrap();
        settle(&circuit, &last, Verdict::Success, 0, 0);
        assert_eq!(circuit.asked.load(crate::base::sync::Ordering::Relaxed), 0);
    });
}
