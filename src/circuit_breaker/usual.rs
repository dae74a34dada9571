//! What calls usually take, from a sample of them: to tell an impatient caller from a sick service.

use super::config::PastDeadline;
use super::pass::Verdict;
use super::state::{Circuit, OFF};
use crate::clock::{Now, Timestamp};
use crate::sync::Ordering;

/// In place of a limit: there is none, and the next call is timed.
pub(super) const SAMPLE: u64 = u64::MAX - 1;

impl Circuit {
    /// Returns what the end of a call means that its caller's deadline cut off, after it had been given `given` nanoseconds.
    ///
    /// It is a failure if that is what calls usually take, or if that is not known. If `slow_after` is set, calls that hang are
    /// seen by that, and a call that was cut off counts as any that was cancelled.
    #[cold]
    pub(super) fn cut_off(&self, given: u64) -> Verdict {
        let settings = self.settings.read();
        let is_failure = match settings.config.past_deadline {
            PastDeadline::Failure => true,
            PastDeadline::Cancelled => false,
            PastDeadline::FailureIfUsual if settings.slow_after.is_some() => false,
            PastDeadline::FailureIfUsual => given >= self.usual.load(Ordering::Relaxed),
        };
        if is_failure { Verdict::Failure } else { Verdict::Cancelled }
    }

    /// Has the next call timed, unless all are.
    pub(super) fn sample_next(&self) {
        // Not to be lost is worth nothing here: another call of `weigh` follows.
        if self.slow_after.load(Ordering::Relaxed) == OFF {
            let _ = self.slow_after.compare_exchange(OFF, SAMPLE, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Whether a call that begins now is to be timed; a sample is taken once.
    #[inline]
    pub(super) fn is_timed(&self) -> bool {
        match self.slow_after.load(Ordering::Relaxed) {
            OFF => false,
            SAMPLE => {
                self.slow_after.compare_exchange(SAMPLE, OFF, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            }
            _ => true,
        }
    }

    /// Takes note of how long a good call took that was timed: an average over the last eight or so.
    pub(super) fn note_usual(&self, started: Timestamp, now: &Now<'_>) {
        let took = now.get().0.saturating_sub(started.0);
        let before = self.usual.load(Ordering::Relaxed);
        let usual =
            if before == 0 { took } else { before.saturating_sub(before / 8).saturating_add(took / 8) };
        self.usual.store(usual, Ordering::Relaxed);
    }
}
