//! The states that the circuit went through.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stanchion::CircuitBreakerHandle;
use stanchion::circuit_breaker::{State, Transition};
use tokio::sync::broadcast::error::RecvError;

use crate::script::Script;

/// The transitions so far, each with its time.
#[derive(Clone)]
pub(crate) struct History {
    transitions: Arc<Mutex<Vec<(Duration, Transition)>>>,
}

impl History {
    /// Listens to the circuit from now on.
    pub(crate) fn listen(handle: &CircuitBreakerHandle, script: Script) -> Self {
        let history = Self { transitions: Arc::default() };
        let transitions = Arc::clone(&history.transitions);
        let mut news = handle.subscribe();
        tokio::spawn(async move {
            loop {
                match news.recv().await {
                    Ok(transition) => {
                        let mut transitions = transitions.lock().unwrap_or_else(PoisonError::into_inner);
                        transitions.push((script.now(), transition));
                    }
                    Err(RecvError::Lagged(missed)) => eprintln!("{missed} transitions were missed"),
                    Err(RecvError::Closed) => return,
                }
            }
        });
        history
    }

    pub(crate) fn all(&self) -> Vec<(Duration, Transition)> {
        self.transitions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn state_at(&self, at: Duration) -> State {
        let before = self.all().into_iter().rev().find(|(then, _)| *then <= at);
        before.map_or(State::Closed, |(_, transition)| transition.to)
    }

    /// The first time within `during` at which the circuit was in `state`: zero if it was from the beginning.
    pub(crate) fn first(&self, state: State, during: Range<Duration>) -> Option<Duration> {
        if self.state_at(during.start) == state {
            return Some(Duration::ZERO);
        }
        let entered =
            |(at, transition): &(Duration, Transition)| during.contains(at) && transition.to == state;
        self.all().iter().find(|change| entered(change)).map(|(at, _)| *at - during.start)
    }

    /// How often the circuit entered `state` within `during`.
    pub(crate) fn count(&self, state: State, during: &Range<Duration>) -> usize {
        self.all().iter().filter(|(at, transition)| during.contains(at) && transition.to == state).count()
    }

    /// Of the states within `during` the one most worth showing: a short probing would be lost otherwise.
    pub(crate) fn most_notable(&self, during: Range<Duration>) -> State {
        [State::HalfOpen, State::Open, State::Recovering]
            .into_iter()
            .find(|state| self.first(*state, during.clone()).is_some())
            .unwrap_or(State::Closed)
    }
}
