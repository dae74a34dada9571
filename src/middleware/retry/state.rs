//! The decision whether and when to retry: pure functions, without a clock or a timer.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use std::time::Duration;

use super::config::RetryConfig;
use crate::classify::{Outcome, RetryHint, Retryable};
use crate::primitives::backoff::Delays;
use crate::primitives::budget::Cost;
use crate::telemetry::Action;

/// The attempts of a call so far.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The number of attempts that have ended.
    attempts: u32,
    /// `true` if the call started with a limit of one attempt, so that nothing was saved for
    /// another.
    is_single: bool,
    delays: Option<Delays>,
    /// `true` if a request that is not idempotent has been repeated because the server said that it
    /// did not execute it.
    trusted: bool,
}

/// The result of an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    pub(super) is_idempotent: bool,
}

/// The resources for another attempt. They are costly to query, so they are queried last.
pub(super) trait Means {
    /// Returns the time that is left; `None` without a deadline.
    fn remaining(&mut self) -> Option<Duration>;

    /// Creates the request of the next attempt. Returns `false` if that is impossible.
    fn can_replay(&mut self) -> bool;

    /// Withdraws the cost of the next attempt. Returns `false` if the budget is spent.
    fn pay(&mut self, cost: Cost) -> bool;
}

impl Progress {
    pub(super) fn new(is_repeatable: bool) -> Self {
        Self { is_single: !is_repeatable, ..Self::default() }
    }

    pub(super) const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Returns the wait before the next attempt, or the reason to report why there is none.
    pub(super) fn next(
        &mut self,
        config: &RetryConfig,
        ended: Ended,
        means: &mut impl Means,
    ) -> Result<Duration, Option<Action>> {
        self.attempts = self.attempts.saturating_add(1);
        let Ended { outcome, is_idempotent } = ended;
        if outcome.is_rejected() {
            // The call did not reach the service, so repeating it is safe. Whether it helps only
            // the configuration can tell.
            if !config.retry_refusals {
                return Err(None);
            }
        } else if outcome.retryable == Retryable::Never {
            return Err(None);
        } else if !is_idempotent && (outcome.retryable != Retryable::Always || self.trusted) {
            return Err(Some(Action::NotIdempotent));
        } else {
            self.trusted |= !is_idempotent;
        }
        if self.is_single || self.attempts >= config.max_attempts {
            return Err(Some(Action::Exhausted));
        }
        let wait = self.wait(config, outcome.retry_hint).ok_or(Action::PushedBack)?;
        let needed = wait.saturating_add(config.min_remaining);
        if means.remaining().is_some_and(|remaining| remaining <= needed) {
            return Err(Some(Action::NoTime));
        }
        if !means.can_replay() {
            return Err(Some(Action::NotReplayable));
        }
        let cost = if outcome.is_timeout() { Cost::Timeout } else { Cost::Retry };
        if means.pay(cost) { Ok(wait) } else { Err(Some(Action::BudgetSpent)) }
    }

    /// Returns the wait, or `None` if the server wants no retry, or none that is soon enough.
    fn wait(&mut self, config: &RetryConfig, hint: Option<RetryHint>) -> Option<Duration> {
        let asked = match hint {
            Some(RetryHint::Stop) => return None,
            Some(RetryHint::Exactly(wait) | RetryHint::AtLeast(wait)) => wait,
            None => Duration::ZERO,
        };
        if asked > config.max_server_wait {
            return None;
        }
        if let Some(RetryHint::Exactly(wait)) = hint {
            // As in gRPC, the backoff starts anew after a pushback.
            self.delays = None;
            return Some(wait);
        }
        let delays = self.delays.get_or_insert_with(|| config.backoff.delays());
        delays.follow(config.backoff);
        let own = delays.next().unwrap_or(config.backoff.cap);
        // Jitter may lengthen the wait that the server asked for, and never shorten it.
        Some(own.max(asked))
    }
}
