//! The circuit alone, told the time: against recorded traces, against a naive model, and in its corners.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::needless_pass_by_value,
    reason = "a test may fail"
)]

mod against_naive;
mod conformance;
mod hints;
mod in_flight;
mod recovery;
mod replaced;
mod restored;
mod rules;
mod trials;
mod usual;
mod verdicts;
mod windows;

use std::sync::Arc;
use std::time::Duration;

use super::config::{CircuitBreakerConfig, Settings};
use super::control::Notice;
use super::orders::Order;
use super::pass::{Pass, Refusal, Verdict};
use super::snapshot::{PersistedState, Snapshot};
use super::state::Circuit;
use super::transition::State;
use crate::base::clock::{Now, Timestamp};

const MS: u64 = 1_000_000;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A circuit at a time of its own, driven by hand.
struct Bench {
    circuit: Circuit,
    now: Timestamp,
}

impl Bench {
    fn new(config: CircuitBreakerConfig) -> Self {
        Self::starting_at(&config, Timestamp(0))
    }

    fn starting_at(config: &CircuitBreakerConfig, now: Timestamp) -> Self {
        let settings = Settings::new(config).expect("the configuration is valid");
        Self { circuit: Circuit::new(&Arc::new(settings)), now }
    }

    fn advance(&mut self, by: Duration) {
        self.now = self.now.after(by);
    }

    fn ask(&self) -> Result<Pass, Refusal> {
        self.circuit.admit(&Now::at(self.now, 0)).0
    }

    #[track_caller]
    fn admitted(&self) -> Pass {
        self.ask().expect("the call is admitted")
    }

    #[track_caller]
    fn refused(&self) -> Refusal {
        self.ask().expect_err("the call is refused")
    }

    fn end(&self, pass: &Pass, verdict: Verdict) {
        self.circuit.settle(pass, verdict, None, &Now::at(self.now, 0));
    }

    #[track_caller]
    fn call(&self, verdict: Verdict) {
        let pass = self.admitted();
        self.end(&pass, verdict);
    }

    /// Failing calls until it opens.
    fn fail_until_open(&self) {
        while self.state() != State::Open {
            self.call(Verdict::Failure);
        }
    }

    #[track_caller]
    fn calls(&self, calls: u32, verdict: Verdict) {
        for _ in 0..calls {
            self.call(verdict);
        }
    }

    fn order(&self, order: Order) -> bool {
        self.circuit.obey(order, self.now)
    }

    /// Makes a circuit half-open from any state that Resilience4j does it from: also from a disabled one, which here takes no order
    /// to probe.
    fn order_half_open(&self) -> bool {
        if self.state() == State::Disabled {
            self.circuit.restore(&PersistedState::new(State::HalfOpen), self.now);
        }
        self.order(Order::Probe)
    }

    #[track_caller]
    fn reconfigure(&self, config: &CircuitBreakerConfig) {
        let settings = Settings::new(config).expect("the configuration is valid");
        self.circuit.reconfigure(&Arc::new(settings), &Now::at(self.now, 0));
    }

    fn state(&self) -> State {
        self.circuit.load().state
    }

    fn snapshot(&self) -> Snapshot {
        self.circuit.snapshot(self.now)
    }

    /// What has happened since this was last asked.
    fn notices(&self) -> Vec<Notice> {
        std::iter::from_fn(|| {
            let notice = self.circuit.next_notice()?;
            self.circuit.delivered();
            Some(notice)
        })
        .collect()
    }

    /// The states entered since this was last asked.
    fn entered(&self) -> Vec<State> {
        let to = |notice| match notice {
            Notice::Transition(transition) => Some(transition.to),
            Notice::WouldOpen(_) => None,
        };
        self.notices().into_iter().filter_map(to).collect()
    }
}
