//! Which share of calls is refused, by what became of those before: the formula of the book "Site Reliability
//! Engineering" for adaptive throttling at the client.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use std::sync::Arc;
use std::time::Duration;

use super::config::ThrottleConfig;
use super::share::{Known, Share};
use crate::base::clock::{Now, Timestamp, nanos, times};
use crate::base::sync::{AtomicU64, Ordering};
use crate::primitives::in_flight::{Entry, InFlight};
use crate::primitives::window::{Outcome, TimeWindow};

/// The window moves on by a fortieth of its length; by half in models, which go through each word of it.
const BUCKETS: u32 = if cfg!(stanchion_loom) { 2 } else { 40 };
/// Everything is of one era: nothing is ever forgotten but by its age.
const ERA: u64 = 0;

/// What became of a call, as the window knows it.
const ACCEPTED: Outcome = Outcome::GOOD;
const REJECTED: Outcome = Outcome { failed: true, slow: false };
/// A caller's deadline was too short for it, or the service hangs.
const CUT_OFF: Outcome = Outcome { failed: false, slow: true };
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
        let requests = self.requests(tally);
        if requests < self.min_requests {
            return 0.0;
        }
        let (requests, accepted) = (requests as f64, tally.accepted as f64);
        ((requests - self.headroom * accepted) / (requests + 1.0)).clamp(0.0, self.max_ratio)
    }

    /// How many more calls may end until the share can be off by a 64th.
    pub(super) fn changes(&self, tally: Tally) -> u64 {
        // One changes it by no more than `headroom / requests`.
        times(self.requests(tally), (64.0 * self.headroom).recip())
    }

    fn requests(&self, tally: Tally) -> u64 {
        let refused = if self.counts_refusals { tally.refused } else { 0 };
        tally.sent.saturating_add(refused)
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
    /// A layer further in gave up, because the caller's deadline had passed.
    CutOff,
}

/// A call that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    started: Timestamp,
    entry: Entry,
    has_waited: bool,
}

impl Sent {
    /// Notes that the call was not ready when it was polled, so that it may have taken any time.
    #[inline]
    pub(super) const fn wait(&mut self) {
        self.has_waited = true;
    }
}

/// What is known of the calls in the window.
#[derive(Debug)]
pub(super) struct Measures {
    window: TimeWindow,
    in_flight: Arc<InFlight>,
    /// The calls that were in flight when this window began, with those of windows before.
    in_flight_before: Vec<Arc<InFlight>>,
    /// A call that takes longer counts as not accepted, until it is.
    late_after: Duration,
    /// The bucket of the latest reading of the clock.
    bucket: AtomicU64,
    /// The latest bucket in which a call was seen to begin and be accepted.
    are_short: AtomicU64,
    /// The cohort of the latest call that was sent.
    cohort: AtomicU64,
    share: Known,
    /// The bucket after the latest in which the share was found of calls that were cut off.
    of_cut_off: AtomicU64,
    version: u16,
}

impl Measures {
    pub(super) fn new(window: Duration, version: u16) -> Self {
        // Half: no sooner, because calls that begin together at a service that takes its time are nothing to worry
        // about, and no later, because this is when a service that refuses is throttled.
        let late_after = window.checked_div(2).unwrap_or(window);
        Self {
            window: TimeWindow::new(nanos(window), BUCKETS),
            in_flight: Arc::new(InFlight::new(late_after, version)),
            in_flight_before: Vec::new(),
            late_after,
            bucket: AtomicU64::new(0),
            are_short: AtomicU64::new(u64::MAX),
            cohort: AtomicU64::new(0),
            share: Known::nothing(),
            of_cut_off: AtomicU64::new(0),
            version,
        }
    }

    /// Measures of another window, with what this one holds.
    pub(super) fn replaced(&self, window: Duration, now: Timestamp) -> Self {
        let mut replacement = Self::new(window, self.version.wrapping_add(1));
        let before = self.in_flight_before.iter().filter(|before| !before.is_empty(ERA));
        replacement.in_flight_before = before.chain([&self.in_flight]).cloned().collect();
        replacement.window.take_over(&self.window, ERA, now);
        replacement.bucket(now);
        replacement.in_flight.begin(ERA, now);
        replacement
    }

    /// Another rule holds from now on.
    pub(super) fn forget_share(&self) {
        self.share.forget();
    }

    pub(super) fn tally(&self, now: Timestamp) -> Tally {
        self.tally_in(self.bucket(now), now)
    }

    fn tally_in(&self, bucket: u64, now: Timestamp) -> Tally {
        self.sum(bucket, now).0
    }

    /// The tally, and whether calls that were cut off are in it.
    fn sum(&self, bucket: u64, now: Timestamp) -> (Tally, bool) {
        let counts = self.window.counts_in(bucket);
        let accepted = counts.of(ACCEPTED);
        // A service that answers others is not to blame for callers with little time.
        let cut_off = if accepted == 0 { counts.of(CUT_OFF) } else { 0 };
        let ended = accepted.saturating_add(counts.of(REJECTED)).saturating_add(cut_off);
        let late_after = nanos(self.late_after);
        let overdue = |calls: &Arc<InFlight>| calls.overdue_by(late_after, Timestamp(0), ERA, now);
        let before = self.in_flight_before.iter().map(overdue).fold(0, u64::saturating_add);
        let sent = ended.saturating_add(self.in_flight.overdue(ERA, now)).saturating_add(before);
        (Tally { sent, accepted, refused: counts.of(REFUSED) }, cut_off > 0)
    }

    /// The bucket at `now`, which is the latest from here on.
    #[inline]
    fn bucket(&self, now: Timestamp) -> u64 {
        let latest = self.bucket.load(Ordering::Relaxed);
        let bucket = self.window.moment_near(latest, now);
        if bucket != latest {
            self.bucket.store(bucket, Ordering::Relaxed);
        }
        bucket
    }

    /// The cohort of a call that begins at `now`, which is the latest from here on.
    #[inline]
    fn cohort(&self, now: Timestamp) -> u64 {
        let latest = self.cohort.load(Ordering::Relaxed);
        let cohort = self.in_flight.cohort_near(latest, now);
        if cohort != latest {
            self.cohort.store(cohort, Ordering::Relaxed);
        }
        cohort
    }

    /// Whether a call at `now` may be sent; if not, it is counted as refused. `rule` is asked only if the share is not
    /// known. `draw` gives a number from 0 to 1, without the 1, and is asked only if it matters.
    #[inline]
    pub(super) fn admit(
        &self,
        rule: impl FnOnce() -> Rule,
        now: &Now<'_>,
        draw: impl FnOnce() -> f64,
    ) -> Option<Sent> {
        let at = now.get();
        let bucket = self.bucket(at);
        let find = || {
            // Within a bucket the share changes with what ends, and with what becomes late: that is seen in the next.
            let (rule, (tally, has_cut_off)) = (rule(), self.sum(bucket, at));
            if has_cut_off {
                // Before the share is put in place: see `accepted_after_none`.
                self.of_cut_off.store(bucket.saturating_add(1), Ordering::Release);
            }
            (Share::new(rule.ratio(tally), rule.counts_refusals), rule.changes(tally))
        };
        let share = self.share.get(bucket).unwrap_or_else(|| self.share.find(bucket, find));
        if !share.is_none() && draw() < share.ratio() {
            self.window.record_in(bucket, REFUSED, 1, now.stripe());
            if share.counts_refusals() {
                self.share.change();
            }
            return None;
        }
        let entry = self.in_flight.enter(ERA, self.cohort(at), now);
        Some(Sent { started: at, entry, has_waited: false })
    }

    #[inline]
    pub(super) fn end(&self, sent: Sent, end: End, now: &Now<'_>) {
        // Most calls are over before the next cohort begins.
        let latest = self.cohort.load(Ordering::Relaxed);
        let cohort = || self.in_flight.cohort_near(latest, sent.started);
        let is_alone = if self.in_flight.has_counted(sent.entry) {
            self.in_flight.leave_cohort(ERA, sent.entry, cohort)
        } else {
            self.leave_before(sent)
        };
        match end {
            End::Accepted => self.accept(sent.started, is_alone && !sent.has_waited, now),
            End::Rejected => self.reject(now),
            End::NotSent => {}
            End::CutOff if now.get().since(sent.started) < self.late_after => self.book(CUT_OFF, now),
            End::Cancelled if now.get().since(sent.started) < self.late_after => {}
            End::Cancelled | End::CutOff => self.reject(now),
        }
    }

    /// Ends a call that began before this window.
    #[cold]
    fn leave_before(&self, sent: Sent) -> bool {
        if let Some(before) = self.in_flight_before.iter().find(|before| before.has_counted(sent.entry)) {
            before.leave(ERA, sent.entry, sent.started);
        }
        false
    }

    /// Seldom reads the clock. The bucket of the latest reading is no older than the call, and it is the present one
    /// for calls that take less than a bucket. A call is taken for one of these only if
    ///
    /// - it `may_be_short`: it was ready when it was first polled, and no other call is in flight on its stripe,
    /// - it began in the bucket of the latest reading, and a reading in that bucket found a call that was short.
    ///
    /// The next call reads the clock. So of a burst that ends in a pause at most one call for each thread is dated too
    /// early, and that only if nobody polled it, or its service blocked the thread.
    #[inline]
    fn accept(&self, started: Timestamp, may_be_short: bool, now: &Now<'_>) {
        let latest = self.bucket.load(Ordering::Relaxed);
        let is_short = may_be_short
            && self.window.is_in(latest, started)
            && self.are_short.load(Ordering::Relaxed) == latest;
        let bucket = if is_short { latest } else { self.present(started, now) };
        self.window.record_in(bucket, ACCEPTED, 1, now.stripe());
        if !self.share.get(bucket).is_some_and(Share::is_none) {
            self.share.change();
            self.accepted_after_none(bucket);
        }
    }

    /// Forgets a share that was found of calls that were cut off: none of these counts beside one that is accepted.
    fn accepted_after_none(&self, bucket: u64) {
        // Acquire: pairs with the exchange that puts the share in place. Either the change that was made before this
        // keeps that exchange from being made, or this sees what was stored before it.
        if self.of_cut_off.load(Ordering::Acquire) > bucket {
            self.share.forget();
        }
    }

    /// The present bucket, and whether calls that end in it are short.
    #[cold]
    fn present(&self, started: Timestamp, now: &Now<'_>) -> u64 {
        let bucket = self.bucket(now.get());
        if self.window.is_in(bucket, started) {
            self.are_short.store(bucket, Ordering::Relaxed);
        }
        bucket
    }

    fn reject(&self, now: &Now<'_>) {
        self.book(REJECTED, now);
    }

    fn book(&self, outcome: Outcome, now: &Now<'_>) {
        self.window.record_in(self.bucket(now.get()), outcome, 1, now.stripe());
        self.share.change();
    }
}
