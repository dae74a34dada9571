//! When the next copy is sent, and when a call is lost: decided from what is known of a call, without a clock or a
//! timer.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use std::time::Duration;

use crate::base::clock::Timestamp;
use crate::classify::{Outcome, RetryHint, Retryable};
use crate::deadline::Deadline;
use crate::telemetry::Action;

/// What a call may do, as it was configured when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Between one attempt and the next.
    pub(super) delay: Duration,
    pub(super) max_hedges: u32,
}

/// The attempts at a call.
#[derive(Debug)]
pub(super) struct Race {
    plan: Plan,
    /// The copies that were sent.
    hedges: u32,
    /// The attempts that have not ended, the original included.
    under_way: u32,
    next: Next,
    /// The server does not want another attempt earlier.
    not_before: Timestamp,
}

/// When the next copy is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The original has not begun to be waited for.
    Unknown,
    At(Timestamp),
    Now,
    Never,
}

/// What an attempt's end without a good answer means for the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Another attempt is under way, or will be.
    Waits,
    /// The failure is handed out; what kept the call from another attempt, if that is worth telling.
    Lost(Option<Action>),
}

impl Race {
    pub(super) const fn new(plan: Plan) -> Self {
        Self { plan, hedges: 0, under_way: 1, next: Next::Unknown, not_before: Timestamp(0) }
    }

    pub(super) const fn hedges(&self) -> u32 {
        self.hedges
    }

    pub(super) const fn is_under_way(&self) -> bool {
        self.under_way > 0
    }

    pub(super) const fn next(&self) -> Next {
        self.next
    }

    /// The original began at `start` and has not ended at once.
    pub(super) fn begin(&mut self, start: Timestamp) {
        self.schedule(start);
    }

    /// The moment of the next copy has come.
    pub(super) fn is_due(&mut self) {
        self.next = Next::Now;
    }

    /// A copy was sent at `now`.
    pub(super) fn hedged(&mut self, now: Timestamp) {
        self.hedges = self.hedges.saturating_add(1);
        self.under_way = self.under_way.saturating_add(1);
        self.schedule(now);
    }

    /// There are to be no more copies.
    pub(super) fn give_up(&mut self) -> Verdict {
        self.next = Next::Never;
        if self.under_way == 0 { Verdict::Lost(None) } else { Verdict::Waits }
    }

    /// An attempt ended at `now` without a good answer.
    pub(super) fn failed(&mut self, outcome: Outcome, now: Timestamp) -> Verdict {
        self.under_way = self.under_way.saturating_sub(1);
        // A layer further in that rejected one attempt will reject the next.
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
        if self.under_way == 0 {
            // Nobody is to wait with nothing under way: a layer that retries is better at that.
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
                // It waits for the service, and would keep its place there for all that time.
                _ => Next::Never,
            };
        }
        Verdict::Waits
    }

    /// The next copy is due a delay after the attempt that began at `start`.
    fn schedule(&mut self, start: Timestamp) {
        let due = start.after(self.plan.delay);
        self.next = match due.max(self.not_before) {
            _ if self.hedges >= self.plan.max_hedges => Next::Never,
            due if due <= start => Next::Now,
            due => Next::At(due),
        };
    }
}

/// What there is to know of the request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    pub(super) is_idempotent: bool,
    pub(super) deadline: Option<Deadline>,
    /// The number of the attempt that the call is to a layer further out; zero if there is none.
    pub(super) number: u32,
}

/// What decides whether a copy that is due is sent. What has a price is only asked for if all the rest allows it.
pub(super) struct Means<B> {
    pub(super) is_replayable: bool,
    /// `None` without a deadline.
    pub(super) remaining: Option<Duration>,
    pub(super) min_remaining: Duration,
    pub(super) can_pay: B,
}

impl<B: FnOnce() -> bool> Means<B> {
    /// What keeps the copy from being sent.
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
