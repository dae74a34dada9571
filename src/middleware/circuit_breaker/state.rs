//! The circuit: which calls pass, and what their ends mean.
//!
//! Pure and synchronous. It is told the time and the thread's number, and knows no runtime, no service and no
//! feature, so that models, recorded traces and naive references can drive it.
//!
//! ```text
//! word     [generation | state]   one load admits a call to a closed circuit
//! gate     when it is worth asking a circuit that is not closed: one load and one reading of the clock refuse
//! ```
//!
//! The word changes under the lock of [`Control`] only. Each entry into a state is a *generation*; a call
//! carries the one it was admitted in, and its end means nothing to any other. The window's era is the
//! generation too, so a state begins with an empty window without anything being cleared.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use std::sync::Arc;
use std::time::Duration;

use super::config::Settings;
use super::control::Control;
use super::measures::{Measures, Replaceable};
use super::pass::{Kind, Pass, Refusal, Verdict};
use super::ramp;
use super::transition::State;
use super::trial::{Begins, Slot};
use super::word::Word;
use crate::base::clock::{Now, Timestamp, nanos};
use crate::base::sync::planted;
use crate::base::sync::{AtomicU64, Mutex, MutexGuard, Ordering, lock};
use crate::config::Live;
use crate::primitives::window::{Calls, Outcome};

/// The end of a call, or its admission, changed the circuit: there is something to report, and who waits for
/// the circuit should look again.
pub(super) type Changed = bool;

/// No bucket and no era has this number.
pub(super) const UNSETTLED: u64 = u64::MAX;
/// In a circuit that only observes, with the moment at which it was last judged: what it would do has been said.
pub(super) const WARNED: u64 = 1 << 63;

/// With a moment that lasts for long: good calls need no judgement, and are looked at all the same to sample what they take.
pub(super) const SAMPLED: u64 = 1 << 62;

/// Returns `true` if `settled` says that a circuit that only observes has said what it would do.
pub(super) const fn is_warned(settled: u64) -> bool {
    settled & WARNED != 0 && settled != UNSETTLED
}
/// In place of a limit: there is none.
pub(super) const OFF: u64 = u64::MAX;

/// The state of a circuit breaker.
#[derive(Debug)]
pub(super) struct Circuit {
    pub(super) word: AtomicU64,
    pub(super) gate: AtomicU64,
    /// When the state was entered.
    pub(super) since: AtomicU64,
    /// The moment of the window within which good calls need no judgement.
    pub(super) settled: AtomicU64,
    /// Failures since the last success, for [`update`](super::word::update).
    pub(super) run: AtomicU64,
    /// How bad the latest calls of a recovery were, for [`update`](super::word::update).
    pub(super) relapse: AtomicU64,
    /// How many failures in a row open the circuit.
    pub(super) run_limit: AtomicU64,
    /// After how many nanoseconds a call is slow; or [`OFF`], or [`SAMPLE`](super::usual::SAMPLE).
    pub(super) slow_after: AtomicU64,
    /// What calls usually take, in nanoseconds.
    pub(super) usual: AtomicU64,
    /// When that was last measured; zero for never.
    pub(super) usual_at: AtomicU64,
    /// Until when every good call that is timed is a sample of it; or a number of [`usual`](super::usual).
    pub(super) samples: AtomicU64,
    /// The cohort at whose beginning overdue calls were last judged.
    judged_cohort: AtomicU64,
    /// Calls that asked while the circuit was recovering.
    arrivals: AtomicU64,
    /// Until when the server wants to be left alone; zero once a call has succeeded since it said
    /// so.
    pub(super) asked: AtomicU64,
    pub(super) measures: Replaceable,
    pub(super) settings: Live<Settings>,
    control: Mutex<Option<Box<Control>>>,
}

impl Circuit {
    pub(super) fn new(settings: &Arc<Settings>) -> Self {
        let word = Word { generation: 0, state: State::Closed };
        let circuit = Self {
            word: AtomicU64::new(word.pack()),
            gate: AtomicU64::new(0),
            since: AtomicU64::new(0),
            settled: AtomicU64::new(UNSETTLED),
            run: AtomicU64::new(0),
            relapse: AtomicU64::new(0),
            run_limit: AtomicU64::new(OFF),
            slow_after: AtomicU64::new(OFF),
            usual: AtomicU64::new(0),
            usual_at: AtomicU64::new(0),
            samples: AtomicU64::new(0),
            judged_cohort: AtomicU64::new(0),
            arrivals: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            measures: Replaceable::new(Measures::new(settings, 0)),
            settings: Live::new(Arc::clone(settings)),
            control: Mutex::new(None),
        };
        circuit.adopt(settings);
        circuit
    }

    /// Takes over the limits that are looked at on every call.
    pub(super) fn adopt(&self, settings: &Settings) {
        self.slow_after.store(settings.slow_after.map_or(OFF, nanos), Ordering::Relaxed);
        self.go_on_sampling();
        let run_limit = settings.consecutive_failures.map_or(OFF, u64::from);
        if self.run_limit.swap(run_limit, Ordering::Relaxed) == OFF {
            // While the rule was off nobody counted, and successes may have come in between.
            self.run.store(0, Ordering::Relaxed);
        }
        // A circuit that only observes does not say again what it has said.
        if !is_warned(self.settled.load(Ordering::Relaxed)) {
            // AcqRel: pairs with the swap in `settle_moment`.
            self.settled.swap(UNSETTLED, Ordering::AcqRel);
        }
    }

    /// Makes `generation` the only one whose calls count.
    pub(super) fn begin(&self, generation: u64, now: Timestamp) {
        self.measures.with(|measures| measures.begin(generation, now));
        self.settled.store(UNSETTLED, Ordering::Relaxed);
        self.arrivals.store(0, Ordering::Relaxed);
    }

    pub(super) fn load(&self) -> Word {
        // Acquire: pairs with the release in `Control::enter`; the window, the gate and the rest are then those
        // of this state or a later one.
        Word::unpack(self.word.load(Ordering::Acquire))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Box<Control>>> {
        lock(&self.control)
    }

    /// Whether calls are let through without being asked for more, in most cases.
    #[inline]
    pub(super) fn is_passing(&self) -> bool {
        let word = self.word.load(Ordering::Acquire);
        word & Word::STATE == State::Closed as u64 || Word::unpack(word).is_passing()
    }

    /// The refusal that [`admit`](Self::admit) would answer, as far as that can be told without changing anything.
    #[inline]
    pub(super) fn refusal(&self, now: &Now<'_>) -> Option<Refusal> {
        if self.is_passing() {
            return None;
        }
        let gate = Timestamp(self.gate.load(Ordering::Relaxed));
        (now.get() < gate).then(|| Refusal::until(gate, now.get()))
    }

    /// Leave to make a call, where that is all there is to it: most of the time.
    #[inline]
    pub(super) fn admit_plainly(&self) -> Option<Pass> {
        // Acquire: see `load`.
        let word = self.word.load(Ordering::Acquire);
        let is_plain =
            word & Word::STATE == State::Closed as u64 && self.slow_after.load(Ordering::Relaxed) == OFF;
        is_plain.then(|| Pass::new(word >> Word::STATE_BITS, Kind::Recorded))
    }

    /// As [`admit_plainly`](Self::admit_plainly), if the call is to be timed.
    #[inline]
    pub(super) fn admit_timed(&self, now: &Now<'_>) -> Option<Pass> {
        let Word { generation, state: State::Closed } = self.load() else { return None };
        self.is_timed();
        let started = now.get();
        let kind = self.measures.with(|measures| {
            let Some(in_flight) = &measures.in_flight else { return Some(Kind::Recorded) };
            let cohort = in_flight.cohort(generation, started);
            let is_judged = self.judged_cohort.load(Ordering::Relaxed) == cohort;
            is_judged.then(|| Kind::InFlight(in_flight.enter(generation, cohort, now)))
        })?;
        Some(Pass::timed(generation, kind, started))
    }

    /// Admits or rejects a call that begins now.
    pub(super) fn admit(&self, now: &Now<'_>) -> (Result<Pass, Refusal>, Changed) {
        self.admit_when(Begins::Now, now)
    }

    /// Admits or rejects a call that may begin later. The slot of a trial call is lent as that of a call that has not begun, under
    /// the same lock: a caller that asks in between would be told to wait for the end of a call that may never begin.
    pub(super) fn reserve(&self, now: &Now<'_>) -> (Result<Pass, Refusal>, Changed) {
        self.admit_when(Begins::Later, now)
    }

    fn admit_when(&self, begins: Begins, now: &Now<'_>) -> (Result<Pass, Refusal>, Changed) {
        let mut changed = false;
        loop {
            let word = self.load();
            let admission = match word.state {
                State::Closed | State::ObserveOnly => self.admit_recorded(word, now),
                State::Recovering => self.admit_share(word, now),
                State::Disabled => Some(Ok(Pass::new(word.generation, Kind::Unrecorded))),
                State::Open | State::HalfOpen | State::ForcedOpen => self.refusal(now).map_or_else(
                    || self.admit_probe(now, begins, &mut changed),
                    |refusal| Some(Err(refusal)),
                ),
            };
            match admission {
                Some(admission) => return (admission, changed),
                // The state has just changed.
                None => changed = true,
            }
        }
    }

    /// Admits a call that has failed already. A share of calls is no reason not to count it, since
    /// no service was asked for anything.
    pub(super) fn admit_failed(&self, now: &Now<'_>) -> (Result<Pass, Refusal>, Changed) {
        let word = self.load();
        match word.state {
            State::Recovering => (Ok(Pass::new(word.generation, Kind::Recorded)), false),
            _ => self.admit(now),
        }
    }

    fn admit_recorded(&self, word: Word, now: &Now<'_>) -> Option<Result<Pass, Refusal>> {
        let generation = word.generation;
        if !self.is_timed() {
            return Some(Ok(Pass::new(generation, Kind::Recorded)));
        }
        let started = now.get();
        let kind = self.measures.with(|measures| {
            let Some(in_flight) = &measures.in_flight else { return Some(Kind::Recorded) };
            let cohort = in_flight.cohort(generation, started);
            // Only at the beginning of a cohort does another become overdue.
            if self.judged_cohort.load(Ordering::Relaxed) != cohort {
                self.judged_cohort.store(cohort, Ordering::Relaxed);
                if measures.overdue(generation, started) > 0 && self.judge(word, measures, now) {
                    return None;
                }
            }
            Some(Kind::InFlight(in_flight.enter(generation, cohort, now)))
        })?;
        Some(Ok(Pass::timed(generation, kind, started)))
    }

    /// Admits a share of the calls that grows from a tenth to all of them.
    fn admit_share(&self, word: Word, now: &Now<'_>) -> Option<Result<Pass, Refusal>> {
        let length = nanos(self.settings.read().ramp);
        let elapsed = now.get().0.saturating_sub(self.since.load(Ordering::Relaxed));
        if elapsed >= length {
            self.finish_ramp(word, now.get());
            return None;
        }
        let arrival = self.arrivals.fetch_add(1, Ordering::Relaxed);
        if ramp::admits(arrival, elapsed, length) {
            self.admit_recorded(word, now)
        } else {
            Some(Err(Refusal::Recovering))
        }
    }

    /// Whether a trial call still has its slot.
    pub(super) fn is_held(&self, pass: &Pass, now: &Now<'_>) -> bool {
        pass.slot().is_some_and(|slot| self.holds_probe(pass.generation(), slot, now.get()))
    }

    /// Lets the call of a pass begin only now, that was taken ahead of it; `false` if it is void.
    pub(super) fn renew(&self, pass: &mut Pass, now: &Now<'_>) -> bool {
        let Some(slot) = pass.slot() else { return false };
        let is_renewed = self.renew_probe(pass.generation(), slot, now.get());
        if is_renewed {
            *pass = Pass::timed(pass.generation(), Kind::Probe(slot.number), now.get());
        }
        is_renewed
    }

    /// Reports how a call ended. `ask_again` is what the server wants callers to wait, if it said so.
    pub(super) fn settle(
        &self,
        pass: &Pass,
        verdict: Verdict,
        ask_again: Option<Duration>,
        now: &Now<'_>,
    ) -> Changed {
        let outcome = self.outcome(pass, verdict, now);
        if verdict == Verdict::Success && pass.may_be_sample() {
            self.note_usual(pass.started, now);
        }
        let generation = pass.generation();
        self.measures.with(|measures| {
            match pass.kind() {
                Kind::Unrecorded => return false,
                Kind::Probe(number) | Kind::Reserved(number) => {
                    let slot = Slot { number, since: pass.started };
                    // What has not begun cannot have been slow.
                    let outcome = outcome.filter(|_| pass.has_begun());
                    return self.settle_probe(generation, slot, outcome, ask_again, now.get());
                }
                Kind::Recorded => {}
                Kind::InFlight(entry) => measures.leave(generation, entry, pass.started),
            }
            outcome.is_some_and(|outcome| self.record(measures, generation, outcome, ask_again, now))
        })
    }

    /// Reports the success of a call of which nothing more is to be known than that.
    #[inline]
    pub(super) fn settle_plainly(&self, pass: &Pass, now: &Now<'_>) -> Changed {
        self.measures.with(|measures| self.record(measures, pass.generation(), Outcome::GOOD, None, now))
    }

    /// What goes into the window, if anything: a cancelled call says nothing, unless it had been slow already.
    #[inline]
    fn outcome(&self, pass: &Pass, verdict: Verdict, now: &Now<'_>) -> Option<Outcome> {
        let slow = self.is_slow(pass, now);
        match verdict {
            Verdict::Success => Some(Outcome { failed: false, slow }),
            Verdict::Failure => Some(Outcome { failed: true, slow }),
            Verdict::Ignored => None,
            Verdict::Cancelled => slow.then_some(Outcome { failed: false, slow }),
        }
    }

    /// Whether a call that ends now was slow.
    #[inline]
    pub(super) fn is_slow(&self, pass: &Pass, now: &Now<'_>) -> bool {
        let limit = self.slow_after.load(Ordering::Relaxed);
        limit != OFF && pass.started != Timestamp::NEVER && now.get().0.saturating_sub(pass.started.0) > limit
    }

    #[inline]
    fn record(
        &self,
        measures: &Measures,
        generation: u64,
        outcome: Outcome,
        ask_again: Option<Duration>,
        now: &Now<'_>,
    ) -> Changed {
        let word = self.word.load(Ordering::Acquire);
        if word >> Word::STATE_BITS != generation && !planted!("stale_verdict") {
            return false;
        }
        let Some(moment) = measures.window.record(generation, now, outcome) else { return false };
        if outcome.is_good()
            && self.run_limit.load(Ordering::Relaxed) == OFF
            && self.settled.load(Ordering::Relaxed) == moment
        {
            return false;
        }
        if moment == Calls::SAMPLE {
            return self.weigh_sample(measures, Word::unpack(word), outcome, ask_again, now);
        }
        self.weigh(measures, Word::unpack(word), outcome, ask_again, now)
    }
}
