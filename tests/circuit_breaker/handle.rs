//! What can be read of a circuit, and made without one.

use stanchion::circuit_breaker::{Cause, PersistedState, State};
use stanchion::classify::Class;
use stanchion::{CircuitBreakerConfig, CircuitBreakerLayer};

use super::{SECOND, layer};

#[test]
fn a_handle_shows_the_configuration_in_force() {
    let config = CircuitBreakerConfig::new().probes(7).slow_after(SECOND);
    let handle = CircuitBreakerLayer::new(config.clone()).handle();
    assert_eq!(handle.config(), config);
    let other = handle.config().probes(9);
    handle.reconfigure(other.clone()).unwrap();
    assert_eq!(handle.config(), other);
    handle.reconfigure(other.clone().probes(0)).unwrap_err();
    assert_eq!(handle.config(), other, "what was not valid is not in force");
}

#[test]
fn the_default_layer_has_the_default_configuration() {
    let handle = CircuitBreakerLayer::default().handle();
    assert_eq!(handle.config(), CircuitBreakerConfig::default());
    assert!(CircuitBreakerConfig::default().validate().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_saved_state_can_be_made_of_what_was_stored() {
    let handle = layer().handle();
    handle.try_acquire().unwrap().finish(Class::Failure);
    handle.restore(&{
        let mut saved = PersistedState::new(State::Open);
        saved.openings = 3;
        saved.retry_after = Some(SECOND);
        saved
    });
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.state, snapshot.openings), (State::Open, 3));
    assert_eq!(snapshot.retry_after, Some(SECOND));
    handle.restore(&PersistedState::new(State::Closed));
    assert_eq!(handle.save(), PersistedState::new(State::Closed));
}

#[test]
fn a_reset_circuit_is_closed_and_empty() {
    let handle = layer().handle();
    handle.force_open();
    handle.reset();
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.state, snapshot.calls, snapshot.openings), (State::Closed, 0, 0));
}

#[test]
fn a_cause_is_matched_with_room_for_more() {
    let handle = layer().handle();
    let mut transitions = handle.subscribe();
    for _ in 0..2 {
        handle.try_acquire().unwrap().finish(Class::Failure);
    }
    let cause = transitions.try_recv().unwrap().cause;
    assert!(matches!(cause, Cause::FailureRatio { calls: 2, .. }));
}

#[tokio::test(start_paused = true)]
async fn each_way_to_open_a_circuit_counts_as_an_opening() {
    let handle = layer().handle();
    assert!(handle.trip());
    assert!(handle.trip_for(SECOND));
    handle.force_open();
    assert_eq!(handle.snapshot().openings, 3);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_only_observes_is_not_tripped() {
    let handle = layer().handle();
    handle.observe_only();
    assert!(!handle.trip());
    assert!(!handle.trip_for(SECOND));
    assert_eq!(handle.state(), State::ObserveOnly);
}

#[tokio::test(start_paused = true)]
async fn a_fresh_layer_begins_with_the_configuration_in_force() {
    let layer = layer();
    let config = layer.handle().config().probes(7);
    layer.handle().reconfigure(config.clone()).unwrap();
    assert_eq!(layer.with_new_state().handle().config(), config);
    assert_eq!(layer.with_new_state().with_new_state().handle().config(), config);
}
