//! The decision when the next copy is sent and when a call has failed: pure functions, without a
//! clock or a timer.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::classify::{Outcome, RetryHint, Retryable};
use crate::deadline::Deadline;
use crate::telemetry::Action;

/// The limits on a call's copies, as configured when the call began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The delay between one attempt and the next.
    pub(super) delay: Duration,
    pub(super) max_hedges: u32,
}

/// The attempts of a call.
#[derive(Debug)]
pub(super) struct Race {
    plan: Plan,
    /// The number of copies sent.
    hedges: u32,
    /// The number of attempts that have not ended, including the original.
    in_flight: u32,
    next: Next,
    /// The time before which the server wants no further attempt.
    not_before: Timestamp,
}

/// The time of the next copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Not known yet: the original has not been polled.
    Unknown,
    At(Timestamp),
    Now,
    Never,
}

/// The consequence of a failed attempt for its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The call goes on: another attempt is in flight or will be.
    Waits,
    /// The call fails. Holds the reason to report why there was no further attempt, if any.
    Lost(Option<Action>),
}

impl Race {
    pub(super) const fn new(plan: Plan) -> Self {
        Self { plan, hedges: 0, in_flight: 1, next: Next::Unknown, not_before: Timestamp(0) }
    }

    pub(super) const fn hedges(&self) -> u32 {
        self.hedges
    }

    pub(super) const fn is_in_flight(&self) -> bool {
        self.in_flight > 0
    }

    pub(super) const fn next(&self) -> Next {
        self.next
    }

    /// Schedules the first copy, because the original, which began at `start`, has not ended at
    /// once.
    pub(super) fn begin(&mut self, start: Timestamp) {
        self.schedule(start);
    }

    /// Records that the next copy is due.
    pub(super) fn is_due(&mut self) {
        self.next = Next::Now;
    }

    /// Records that a copy was sent at `now`.
    pub(super) fn hedged(&mut self, now: Timestamp) {
        self.hedges = self.hedges.saturating_add(1);
        self.in_flight = self.in_flight.saturating_add(1);
        self.schedule(now);
    }

    /// Gives up further copies.
    pub(super) fn give_up(&mut self) -> Verdict {
        self.next = Next::Never;
        if self.in_flight == 0 { Verdict::Lost(None) } else { Verdict::Waits }
    }

    /// Records that an attempt failed at `now`.
    pub(super) fn failed(&mut self, outcome: Outcome, now: Timestamp) -> Verdict {
        self.in_flight = self.in_flight.saturating_sub(1);
        // An inner layer that rejected one attempt will reject the next.
        if outcome.is_rejected() {
            return self.give_up();
        }
        if let Some(wait) = outcome.retry_after() {
            self.not_before = self.not_before.max(now.after(wait));
        }
        let is_stopped = outcome.retry_hint == Some(RetryHint::Stop);
        if self.next == Next::Never || outcome.retryable == Retryable::Never {
            return self.give_up();
        }
        if self.in_flight == 0 {
            // With no attempt in flight the call does not wait: that is the task of a layer that
            // retries.
            if is_stopped || self.not_before > now {
                self.next = Next::Never;
                return Verdict::Lost(Some(Action::PushedBack));
            }
            self.next = Next::Now;
        } else if is_stopped {
            self.next = Next::Never;
        } else if self.not_before > now {
            self.next = match self.next {
                Next::At(at) => Next::At(at.max(self.not_before)),
                // The copy already waits for the service, and would hold its place there for all
                // that time.
                _ => Next::Never,
            };
        }
        Verdict::Waits
    }

    /// Schedules the next copy one delay after the attempt that began at `start`.
    fn schedule(&mut self, start: Timestamp) {
        let due = start.after(self.plan.delay);
        self.next = match due.max(self.not_before) {
            _ if self.hedges >= self.plan.max_hedges => Next::Never,
            due if due <= start => Next::Now,
            due => Next::At(due),
        };
    }
}

/// The facts about a request that decide whether it is hedged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) is_idempotent: bool,
    pub(super) deadline: Option<Deadline>,
    /// The number of the attempt in an outer retry layer; zero without one.
    pub(super) number: u32,
}

/// The conditions for sending a copy that is due. Those with a cost are queried last.
pub(super) struct Means<B> {
    pub(super) is_replayable: bool,
    /// The time that is left; `None` without a deadline.
    pub(super) remaining: Option<Duration>,
    pub(super) min_remaining: Duration,
    pub(super) can_pay: B,
}

impl<B: FnOnce() -> bool> Means<B> {
    /// Returns the reason why the copy cannot be sent, if there is one.
    pub(super) fn hindrance(self, facts: Facts) -> Option<Action> {
        if !facts.is_idempotent {
            Some(Action::NotIdempotent)
        } else if !self.is_replayable {
            Some(Action::NotReplayable)
        } else if self.remaining.is_some_and(|remaining| remaining <= self.min_remaining) {
            Some(Action::NoTime)
        } else if !(self.can_pay)() {
            Some(Action::BudgetSpent)
        } else {
            None
        }
    }
}
