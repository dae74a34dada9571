//! Which share of calls is refused, by what became of those before: the formula of the book "Site Reliability
//! Engineering" for adaptive throttling at the client.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use std::time::Duration;

use super::config::ThrottleConfig;
use crate::clock::{Now, Timestamp};
use crate::in_flight::{Entry, InFlight};
use crate::sync::{AtomicU64, Ordering};
use crate::window::{Calls, Counts, Outcome, Window};

/// The window moves on by a fortieth of its length; by half in models, which go through each word of it.
const BUCKETS: u32 = if cfg!(stanchion_loom) { 2 } else { 40 };
/// Everything is of one era: nothing is ever forgotten but by its age.
const ERA: u64 = 0;

/// What became of a call, as the window knows it.
const ACCEPTED: Outcome = Outcome::GOOD;
const REJECTED: Outcome = Outcome { failed: true, slow: false };
/// By the throttle itself.
const REFUSED: Outcome = Outcome { failed: true, slow: true };

/// How the share is made of the counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    headroom: f64,
    max_ratio: f64,
    min_requests: u64,
    counts_refusals: bool,
}

impl Rule {
    pub(super) fn new(config: &ThrottleConfig) -> Self {
        Self {
            headroom: config.headroom,
            max_ratio: config.max_ratio,
            min_requests: u64::from(config.min_requests),
            counts_refusals: config.counts_refusals,
        }
    }

    /// The share of calls to refuse, 0 to `max_ratio`.
    #[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub(super) fn ratio(&self, tally: Tally) -> f64 {
        let refused = if self.counts_refusals { tally.refused } else { 0 };
        let requests = tally.sent.saturating_add(refused);
        if requests < self.min_requests {
            return 0.0;
        }
        let (requests, accepted) = (requests as f64, tally.accepted as f64);
        ((requests - self.headroom * accepted) / (requests + 1.0)).clamp(0.0, self.max_ratio)
    }
}

/// What became of the calls in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Those that have ended, and those that should have.
    pub(super) sent: u64,
    pub(super) accepted: u64,
    pub(super) refused: u64,
}

/// How a call that was sent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The service took it on.
    Accepted,
    /// It did not, or gave no answer.
    Rejected,
    /// It has not seen the call.
    NotSent,
    /// The caller gave up.
    Cancelled,
}

/// A call that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    started: Timestamp,
    entry: Entry,
}

/// What is known of the calls in the window.
#[derive(Debug)]
pub(super) struct Measures {
    window: Calls,
    in_flight: InFlight,
    /// A call that takes longer counts as not accepted, until it is.
    late_after: Duration,
    /// Until when no call is refused unless one is rejected before.
    calm_until: AtomicU64,
    version: u16,
}

impl Measures {
    pub(super) fn new(window: Duration, version: u16) -> Self {
        // Half: no sooner, because calls that begin together at a service that takes its time are nothing to worry
        // about, and no later, because this is when a service that refuses is throttled.
        let late_after = window.checked_div(2).unwrap_or(window);
        Self {
            window: Calls::new(Window::Time { span: window, buckets: BUCKETS }),
            in_flight: InFlight::new(late_after, version),
            late_after,
            calm_until: AtomicU64::new(0),
            version,
        }
    }

    /// Measures of another window, with what this one holds.
    pub(super) fn replaced(&self, window: Duration, now: Timestamp) -> Self {
        let replacement = Self::new(window, self.version.wrapping_add(1));
        replacement.window.restore(ERA, now, self.window.counts(ERA, now));
        replacement
    }

    pub(super) fn tally(&self, now: Timestamp) -> Tally {
        let counts @ Counts { calls, slow: refused, .. } = self.window.counts(ERA, now);
        let ended = calls.saturating_sub(refused);
        let sent = ended.saturating_add(self.in_flight.overdue(ERA, now));
        Tally { sent, accepted: counts.of(ACCEPTED), refused }
    }

    /// Whether a call at `now` may be sent; if not, it is counted as refused. `draw` gives a number from 0 to 1, without
    /// the 1, and is asked only if it matters.
    #[inline]
    pub(super) fn admit(&self, rule: &Rule, now: &Now<'_>, draw: impl FnOnce() -> f64) -> Option<Sent> {
        let at = now.get();
        if at.0 >= self.calm_until.load(Ordering::Relaxed) && self.refuses(rule, at, draw) {
            self.window.record(ERA, now, REFUSED);
            return None;
        }
        let entry = self.in_flight.enter(ERA, self.in_flight.cohort(ERA, at), now);
        Some(Sent { started: at, entry })
    }

    #[cold]
    fn refuses(&self, rule: &Rule, now: Timestamp, draw: impl FnOnce() -> f64) -> bool {
        let ratio = rule.ratio(self.tally(now));
        if ratio > 0.0 {
            return draw() < ratio;
        }
        // Without a rejection the share rises only with time, as calls leave the window or become late. One that is
        // counted between the sum and here may so be overlooked for this short while.
        let calm = self.late_after.checked_div(BUCKETS).unwrap_or_default();
        let until =
            if cfg!(stanchion_planted_bug = "calm_for_ever") { Timestamp::NEVER } else { now.after(calm) };
        self.calm_until.store(until.0, Ordering::Relaxed);
        false
    }

    #[inline]
    pub(super) fn end(&self, sent: Sent, end: End, now: &Now<'_>) {
        self.in_flight.leave(ERA, sent.entry, sent.started);
        match end {
            End::Accepted => self.record(ACCEPTED, now),
            End::Rejected => self.record(REJECTED, now),
            End::NotSent => {}
            End::Cancelled if now.get().since(sent.started) < self.late_after => {}
            End::Cancelled => self.record(REJECTED, now),
        }
    }

    #[inline]
    fn record(&self, outcome: Outcome, now: &Now<'_>) {
        self.window.record(ERA, now, outcome);
        if outcome != ACCEPTED {
            self.calm_until.store(0, Ordering::Relaxed);
        }
    }
}
