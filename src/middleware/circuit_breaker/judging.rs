//! What a call that has ended means for a circuit that calls pass.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use std::sync::Arc;
use std::time::Duration;

use super::config::Settings;
use super::measures::Measures;
use super::ramp::Relapse;
use super::state::{Changed, Circuit, OFF, SAMPLED, UNSETTLED, WARNED, is_warned};
use super::transition::{Cause, State};
use super::verdict::Evidence;
use super::word::{Word, update};
use crate::base::clock::{Now, Timestamp};
use crate::base::sync::planted;
use crate::base::sync::{Ordering, fence};
use crate::primitives::window::Outcome;

impl Circuit {
    /// As [`weigh`](Self::weigh), and has the next call timed.
    // With the same arguments, so that the caller, who has more to do on each call, keeps nothing for later.
    #[cold]
    #[inline(never)]
    pub(super) fn weigh_sample(
        &self,
        measures: &Measures,
        word: Word,
        outcome: Outcome,
        ask_again: Option<Duration>,
        now: &Now<'_>,
    ) -> Changed {
        if outcome.is_good() {
            self.sample_next();
        }
        self.weigh(measures, word, outcome, ask_again, now)
    }

    /// What a recorded call means, where that is not nothing.
    #[cold]
    pub(super) fn weigh(
        &self,
        measures: &Measures,
        word: Word,
        outcome: Outcome,
        ask_again: Option<Duration>,
        now: &Now<'_>,
    ) -> Changed {
        if ask_again.is_some() {
            self.note_asked(outcome, ask_again, &self.settings.read(), now.get());
            if word.state == State::Closed {
                // AcqRel: pairs with the swap in `settle_moment`, of which one sees what the other
                // has done.
                self.settled.swap(UNSETTLED, Ordering::AcqRel);
            }
        }
        if !outcome.failed && self.asked.load(Ordering::Relaxed) != 0 {
            self.asked.store(0, Ordering::Relaxed);
        }
        if let Some(threshold) = self.run_reached(word, outcome) {
            return self.act(word, measures, Cause::ConsecutiveFailures { threshold }, now);
        }
        if word.state == State::Recovering {
            if let Some(threshold) = self.has_relapsed(word, outcome) {
                return self.act(word, measures, Cause::Relapse { threshold }, now);
            }
        }
        let (settled, moment) =
            (self.settled.load(Ordering::Relaxed), measures.window.moment(word.generation, now));
        // What it would do has been said, and a window that has to be added up is looked at again in its next bucket.
        let has_just_warned =
            word.state == State::ObserveOnly && settled == WARNED | moment && measures.window.is_summed();
        let is_settled = has_just_warned || outcome.is_good() && settled & !SAMPLED == moment;
        if is_settled {
            if measures.window.is_long() && outcome.is_good() {
                self.sample_if_old(now.get());
            }
            return false;
        }
        if outcome.is_good() {
            self.sample_next();
        }
        // Of two threads that record at once, on two stripes, at least one must see both calls.
        if !planted!("unfenced") {
            fence(Ordering::SeqCst);
        }
        self.judge(word, measures, now)
    }

    /// Remembers how long the server wants to be left alone, if it said so with a failure. That is
    /// for no longer than a circuit may be open, so an older hint has expired.
    pub(super) fn note_asked(
        &self,
        outcome: Outcome,
        ask_again: Option<Duration>,
        settings: &Settings,
        now: Timestamp,
    ) {
        if let Some(wait) = ask_again.filter(|_| outcome.failed) {
            self.asked.fetch_max(now.after(wait.min(settings.max_open_for)).0, Ordering::Relaxed);
        }
    }

    /// Counts failures in a row; the limit, if this one reached it.
    fn run_reached(&self, word: Word, outcome: Outcome) -> Option<u32> {
        let limit = self.run_limit.load(Ordering::Relaxed);
        if limit == OFF {
            return None;
        }
        let next = |run: u32| if outcome.failed { run.saturating_add(1) } else { 0 };
        let run = update(&self.run, word.generation, next);
        Some(run).filter(|run| u64::from(*run) >= limit)
    }

    /// Whether a recovering service has gone bad again, as far as the latest calls can tell: the
    /// window, in which those of the whole recovery are, would take as many bad calls to see it as
    /// there were good ones.
    fn has_relapsed(&self, word: Word, outcome: Outcome) -> Option<f64> {
        let allowed = self.settings.read().allowed_share();
        let weight = Relapse::new(allowed);
        let sum = update(&self.relapse, word.generation, |sum| weight.next(sum, outcome));
        (sum >= Relapse::LIMIT).then_some(allowed)
    }

    /// Judges what the window holds, and acts on it.
    #[inline]
    pub(super) fn judge(&self, word: Word, measures: &Measures, now: &Now<'_>) -> Changed {
        let settings = self.settings.read();
        let evidence = measures.evidence(word.generation, now.get());
        let cause = match word.state {
            State::Recovering => evidence.judge_surely(&settings),
            _ => evidence.judge(&settings, settings.min_calls),
        };
        if let Some(cause) = cause {
            return self.act(word, measures, cause, now);
        }
        if is_warned(self.settled.load(Ordering::Relaxed)) {
            self.settled.store(UNSETTLED, Ordering::Relaxed);
        }
        if is_settled(evidence, word, &settings) {
            let sampled = if measures.window.is_long() { SAMPLED } else { 0 };
            self.settle_moment(measures.window.moment(word.generation, now) | sampled, &settings);
        }
        false
    }

    /// Good calls of `moment` need no judgement, by `settings`, unless those have changed by now,
    /// or there is a hint of the server that a success has to forget.
    fn settle_moment(&self, moment: u64, settings: &Arc<Settings>) {
        if self.settled.load(Ordering::Relaxed) == moment {
            return;
        }
        // AcqRel: pairs with the swaps in `weigh` and `adopt`. If this one is later it sees what
        // was changed before them, and otherwise they undo it.
        self.settled.swap(moment, Ordering::AcqRel);
        let is_overtaken =
            self.asked.load(Ordering::Relaxed) != 0 || !Arc::ptr_eq(&self.settings.read(), settings);
        if is_overtaken && !planted!("settled_over_a_hint") {
            self.settled.store(UNSETTLED, Ordering::Relaxed);
        }
    }

    /// Judges a circuit that calls pass, for another reason than the end of one.
    pub(super) fn judge_again(&self, word: Word, now: &Now<'_>) -> Changed {
        // Pairs with the fence in `weigh`: of a call that ends meanwhile, either this one sees how
        // it ended, or that one sees the present settings.
        fence(Ordering::SeqCst);
        let limit = self.run_limit.load(Ordering::Relaxed);
        let run = update(&self.run, word.generation, |run| run);
        self.measures.with(|measures| match u32::try_from(limit) {
            Ok(threshold) if run >= threshold => {
                self.act(word, measures, Cause::ConsecutiveFailures { threshold }, now)
            }
            _ => self.judge(word, measures, now),
        })
    }

    fn act(&self, word: Word, measures: &Measures, cause: Cause, now: &Now<'_>) -> Changed {
        if word.state == State::ObserveOnly {
            let warned = WARNED | measures.window.moment(word.generation, now);
            if is_warned(self.settled.swap(warned, Ordering::Relaxed)) {
                return false;
            }
        }
        self.open_because(word, cause, now.get())
    }
}

/// Whether more good calls cannot raise any ratio for as long as none leaves the window.
fn is_settled(evidence: Evidence, word: Word, settings: &Settings) -> bool {
    matches!(word.state, State::Closed | State::ObserveOnly) && evidence.counts.calls >= settings.min_calls
}
