//! The state that all services, clones, handles and calls of one layer share.

use std::sync::Arc;
use std::time::Duration;

use super::config::RetryConfig;
use super::pause::Limits;
use super::policy::Facts;
use super::state::{Ended, Means, Progress};
use crate::base::clock::instant;
use crate::base::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::classify::Class;
use crate::config::{InvalidConfig, Live};
use crate::deadline::Deadline;
use crate::error::{Reason, Rejected};
use crate::primitives::budget::{Budget, Cost};
use crate::telemetry::{Action, Event, Telemetry};

#[derive(Debug)]
pub(super) struct Shared {
    config: Live<RetryConfig>,
    /// A copy of the configured value, since every call reads it.
    max_attempts: AtomicU64,
    /// Serialises reconfigurations, so that the two fields above change together.
    changing: Mutex<()>,
    pub(super) budget: Budget,
    pub(super) telemetry: Telemetry,
}

impl Shared {
    pub(super) fn new(config: &Arc<RetryConfig>, budget: Budget, telemetry: Telemetry) -> Self {
        Self {
            max_attempts: AtomicU64::new(u64::from(config.max_attempts)),
            config: Live::new(Arc::clone(config)),
            changing: Mutex::new(()),
            budget,
            telemetry,
        }
    }

    pub(super) fn config(&self) -> RetryConfig {
        (**self.config.read()).clone()
    }

    pub(super) fn reconfigure(&self, config: RetryConfig) -> Result<(), InvalidConfig> {
        config.validate()?;
        let _changing = lock(&self.changing);
        self.max_attempts.store(u64::from(config.max_attempts), Ordering::Relaxed);
        self.config.swap(Arc::new(config));
        Ok(())
    }

    /// Returns the limits on the wait for the next attempt of a call with this deadline.
    pub(super) fn limits(&self, deadline: Option<Deadline>) -> Limits {
        let config = self.config.read();
        let latest = deadline.map(|deadline| {
            let deadline = deadline.instant();
            deadline.checked_sub(config.min_remaining).unwrap_or_else(instant)
        });
        Limits { ready_within: config.ready_within, latest }
    }

    /// Records the start of a call. Returns `true` if more than one attempt is allowed.
    #[inline]
    pub(super) fn begin(&self) -> bool {
        self.budget.deposit();
        self.max_attempts.load(Ordering::Relaxed) > 1
    }

    /// Records the end of an attempt.
    #[inline]
    pub(super) fn ended(&self, number: u32, class: Class) {
        if self.telemetry.wants_calls() {
            self.telemetry.emit(&Event::Attempt { number, outcome: class.into() });
        }
    }

    /// Returns the wait before the next attempt, if there is one. `replay` creates its request.
    #[cold]
    pub(super) fn next(
        &self,
        progress: &mut Progress,
        ended: Ended,
        facts: Facts,
        replay: impl FnMut(u32) -> bool,
    ) -> Option<Duration> {
        let number = progress.attempts().saturating_add(1);
        let mut means = Layer { shared: self, facts, replay, number: number.saturating_add(1) };
        let next = progress.next(&self.config.read(), ended, &mut means);
        match next {
            Ok(wait) => {
                if facts.is_nested {
                    self.telemetry.act(Action::Nested, number, wait);
                }
                self.telemetry.act(Action::Retried, number, wait);
                Some(wait)
            }
            Err(action) => {
                if let Some(action) = action {
                    self.telemetry.act(action, number, Duration::ZERO);
                }
                None
            }
        }
    }

    /// Returns the rejection of a call whose last attempt left no result to return.
    #[cold]
    pub(super) fn give_up(&self) -> Rejected {
        let rejected = Rejected::new(Reason::NotReady, self.telemetry.name());
        self.telemetry.emit(&Event::Rejected(&rejected));
        rejected
    }
}

/// The resources of the layer for another attempt.
struct Layer<'a, R> {
    shared: &'a Shared,
    facts: Facts,
    replay: R,
    number: u32,
}

impl<R: FnMut(u32) -> bool> Means for Layer<'_, R> {
    fn remaining(&mut self) -> Option<Duration> {
        self.facts.deadline.map(|deadline| deadline.remaining_at(instant()))
    }

    fn can_replay(&mut self) -> bool {
        (self.replay)(self.number)
    }

    fn pay(&mut self, cost: Cost) -> bool {
        let Shared { budget, telemetry, .. } = self.shared;
        let is_paid = budget.withdraw_for(cost);
        telemetry.emit_budget(budget);
        is_paid
    }
}
