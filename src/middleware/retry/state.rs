//! Whether to try again, and when: decided from what is known of a call, without a clock or a timer.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use std::time::Duration;

use super::config::RetryConfig;
use crate::classify::{Outcome, RetryHint, Retryable};
use crate::primitives::backoff::Delays;
use crate::primitives::budget::Cost;
use crate::telemetry::Action;

/// How far a call has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The attempts that have ended.
    attempts: u32,
    /// It began as one of a single attempt, and nothing was kept to make another.
    is_single: bool,
    delays: Option<Delays>,
    /// A request that may have an effect has been repeated on the word of the server that it had none.
    trusted: bool,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    pub(super) is_idempotent: bool,
}

/// What else there is to know, at a price, and so only asked for if all the rest allows another attempt.
pub(super) trait Means {
    /// The time that is left; `None` without a deadline.
    fn remaining(&mut self) -> Option<Duration>;

    /// Makes the request of the next attempt.
    fn can_replay(&mut self) -> bool;

    /// Pays for the next attempt.
    fn pay(&mut self, cost: Cost) -> bool;
}

impl Progress {
    pub(super) fn new(is_repeatable: bool) -> Self {
        Self { is_single: !is_repeatable, ..Self::default() }
    }

    pub(super) const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The wait before the next attempt, or what keeps the call from having one, if that is worth telling.
    pub(super) fn next(
        &mut self,
        config: &RetryConfig,
        ended: Ended,
        means: &mut impl Means,
    ) -> Result<Duration, Option<Action>> {
        self.attempts = self.attempts.saturating_add(1);
        let Ended { outcome, is_idempotent } = ended;
        if outcome.is_rejected() {
            // It was kept from the service, so it is safe to repeat; whether it is of use only the user knows.
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

    /// `None` if the server does not want another attempt, or not in time.
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
            // As gRPC has it: the backoff begins anew after that.
            self.delays = None;
            return Some(wait);
        }
        let delays = self.delays.get_or_insert_with(|| config.backoff.delays());
        delays.follow(config.backoff);
        let own = delays.next().unwrap_or(config.backoff.cap);
        // Jitter may only make it longer than what was asked for.
        Some(own.max(asked))
    }
}
