//! What calls usually take, from a sample of them: to tell an impatient caller from a sick service.
//!
//! A sample is the time from a call's beginning to the headers of a good response. One is taken when a verdict was due, of one
//! of about 64 calls in a window of calls, and each 15 s in longer buckets. What was sampled is believed for [`KNOWN_FOR`], and for as long after a call was cut off every
//! call is timed.

use std::time::Duration;

use super::config::PastDeadline;
use super::pass::{Pass, Verdict};
use super::state::{Circuit, OFF};
use crate::base::clock::{Now, Timestamp};
use crate::base::sync::Ordering;

/// In place of a limit: there is none, and the next call is timed.
pub(super) const SAMPLE: u64 = u64::MAX - 1;

/// What calls usually took longer ago than this says nothing.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// In place of the time until which good calls are samples: none is.
const NONE: u64 = 0;
/// The next one is.
const NEXT: u64 = 1;

impl Circuit {
    /// Returns what the end of a call means that its caller's deadline cut off, of which the layer that gave it up says that it
    /// had `given` nanoseconds.
    ///
    /// It is a failure if that is what calls usually take, or if that is not known.
    #[cold]
    pub(super) fn cut_off(&self, pass: Pass, given: u64, now: Timestamp) -> Verdict {
        let is_failure = match self.settings.read().config.past_deadline {
            PastDeadline::Failure => true,
            PastDeadline::Cancelled => false,
            PastDeadline::FailureIfUsual => {
                let is_short = self.is_short(pass, given, now);
                self.samples.store(now.after(KNOWN_FOR).0, Ordering::Relaxed);
                self.time_next();
                !is_short || !self.excuse(pass, now)
            }
        };
        if is_failure { Verdict::Failure } else { Verdict::Cancelled }
    }

    /// Returns `true` if a call was given less than calls usually take. `given` may be what its last attempt had.
    fn is_short(&self, pass: Pass, given: u64, now: Timestamp) -> bool {
        let elapsed = if pass.started == Timestamp::NEVER { 0 } else { now.0.saturating_sub(pass.started.0) };
        self.is_usual_known(now) && given.max(elapsed) < self.usual.load(Ordering::Relaxed)
    }

    fn is_usual_known(&self, now: Timestamp) -> bool {
        let at = self.usual_at.load(Ordering::Relaxed);
        at != 0 && now.since(Timestamp(at)) <= KNOWN_FOR
    }

    /// Has the next call timed, unless all are, and takes it for a sample.
    pub(super) fn sample_next(&self) {
        // Not to be lost is worth nothing here: another call of `weigh` follows.
        if self.samples.load(Ordering::Relaxed) == NONE {
            let _ = self.samples.compare_exchange(NONE, NEXT, Ordering::Relaxed, Ordering::Relaxed);
        }
        self.time_next();
    }

    /// Has the next call timed if the latest sample was taken a quarter of the time ago for which it is believed, or earlier.
    pub(super) fn sample_if_old(&self, now: Timestamp) {
        let at = self.usual_at.load(Ordering::Relaxed);
        if now.since(Timestamp(at)) >= KNOWN_FOR / 4 {
            self.sample_next();
        }
    }

    /// Has calls timed if samples are still to be taken, after [`slow_after`](Self::slow_after) was set anew.
    pub(super) fn go_on_sampling(&self) {
        if self.samples.load(Ordering::Relaxed) != NONE {
            self.time_next();
        }
    }

    fn time_next(&self) {
        if self.slow_after.load(Ordering::Relaxed) == OFF {
            let _ = self.slow_after.compare_exchange(OFF, SAMPLE, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Whether a call that begins now is to be timed: one, or every one for a while after a call was cut off.
    #[inline]
    pub(super) fn is_timed(&self) -> bool {
        match self.slow_after.load(Ordering::Relaxed) {
            OFF => false,
            SAMPLE => {
                self.samples.load(Ordering::Relaxed) > NEXT
                    || self
                        .slow_after
                        .compare_exchange(SAMPLE, OFF, Ordering::Relaxed, Ordering::Relaxed)
                        .is_ok()
            }
            _ => true,
        }
    }

    /// Takes note of how long a good call took that was timed, if it is a sample.
    #[inline]
    pub(super) fn note_usual(&self, started: Timestamp, now: &Now<'_>) {
        let samples = self.samples.load(Ordering::Relaxed);
        if samples != NONE {
            self.note_sample(samples, started, now.get());
        }
    }

    /// Takes an average over the last eight samples or so.
    #[cold]
    fn note_sample(&self, samples: u64, started: Timestamp, now: Timestamp) {
        if samples < now.0 || samples == NEXT {
            let _ = self.samples.compare_exchange(samples, NONE, Ordering::Relaxed, Ordering::Relaxed);
        }
        let took = now.0.saturating_sub(started.0);
        let usual = if self.is_usual_known(now) {
            let before = self.usual.load(Ordering::Relaxed);
            before.saturating_sub(before / 8).saturating_add(took / 8)
        } else {
            took
        };
        self.usual.store(usual, Ordering::Relaxed);
        // Zero stands for never.
        self.usual_at.store(now.0.max(1), Ordering::Relaxed);
    }
}
