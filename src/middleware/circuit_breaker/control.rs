//! What happens under the circuit's lock: changes of state, and trial calls.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use std::collections::VecDeque;
use std::time::Duration;

use super::config::Settings;
use super::pass::{Kind, Pass, Refusal};
use super::state::{Changed, Circuit};
use super::transition::{Cause, State, Transition};
use super::trial::{Begins, Finding, Slot, Trial};
use super::word::Word;
use crate::base::clock::{Now, Timestamp, nanos};
use crate::base::sync::Ordering;
use crate::base::sync::planted;
use crate::primitives::window::Outcome;

/// Something to tell the observers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Notice {
    Transition(Transition),
    /// A circuit that only observes would have opened.
    WouldOpen(Cause),
}

/// More notices than this wait for observers that block; the oldest are dropped.
const MOST_NOTICES: usize = 1_024;

/// The rarely used part of a circuit, made when it first leaves the closed state.
#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) trial: Trial,
    /// Openings since the circuit was last closed.
    pub(super) openings: u32,
    /// How long the present opening lasts.
    pub(super) open_for: Duration,
    /// Recoveries that ended well: they end without a generation, for their calls go on counting.
    pub(super) ramps: u64,
    shown: Shown,
    random: Random,
    notices: VecDeque<Notice>,
    is_delivering: bool,
}

/// What a snapshot of an open circuit shows: that which opened it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shown {
    #[default]
    Nothing,
    Window {
        era: u64,
    },
    Trial,
}

#[derive(Debug)]
struct Random(fastrand::Rng);

impl Default for Random {
    fn default() -> Self {
        Self(fastrand::Rng::new())
    }
}

impl Circuit {
    /// Runs `act` with the control and the settings under the lock, if the circuit is still in `word`'s
    /// generation.
    fn still<R>(&self, word: Word, act: impl FnOnce(&mut Control, &Settings) -> Option<R>) -> Option<R> {
        let mut guard = self.lock();
        let control = guard.get_or_insert_default();
        let is_still = match self.load() {
            _ if planted!("tripped_twice") => true,
            present if planted!("any_generation") => present.state == word.state,
            present => present == word,
        };
        is_still.then(|| act(control, &self.settings.read())).flatten()
    }

    /// Opens a circuit whose calls gave `cause` to, or reports that it would.
    pub(super) fn open_because(&self, word: Word, cause: Cause, now: Timestamp) -> Changed {
        self.still(word, |control, settings| {
            match word.state {
                // closed => (open), recovering => (open): at once, whatever is still in flight.
                State::Closed | State::Recovering => {
                    control.open_again(self, word, cause, settings, now);
                }
                State::ObserveOnly => control.tell(Notice::WouldOpen(cause)),
                State::Open | State::HalfOpen | State::Disabled | State::ForcedOpen => return None,
            }
            Some(())
        })
        .is_some()
    }

    /// Lets a trial call through, if there is a slot; `None` if the circuit is in another state by now.
    pub(super) fn admit_probe(
        &self,
        now: &Now<'_>,
        begins: Begins,
        changed: &mut Changed,
    ) -> Option<Result<Pass, Refusal>> {
        let now = now.get();
        let mut guard = self.lock();
        let control = guard.get_or_insert_default();
        let settings = self.settings.read();
        let mut word = self.load();
        let gate = || Timestamp(self.gate.load(Ordering::Relaxed));
        if matches!(word.state, State::Open | State::ForcedOpen) && now >= gate() {
            // open => (half-open): by the first call after the wait, so that no timer is needed.
            let cause = Cause::WaitElapsed { wait: control.open_for };
            word = control.enter(self, word, State::HalfOpen, cause, None, now);
            *changed = true;
        }
        // Trial calls that hang need not end to be judged.
        if word.state == State::HalfOpen && control.decide(self, word, &settings, now) {
            word = self.load();
            *changed = true;
        }
        match word.state {
            State::HalfOpen => {
                let slot = control.trial.admit(now, begins, &settings);
                let until = control.trial.next_slot(now, &settings);
                self.gate.store(until.0, Ordering::Relaxed);
                Some(slot.map_or(Err(Refusal::until(until, now)), |slot| {
                    let kind = match begins {
                        Begins::Now => Kind::Probe(slot.number),
                        Begins::Later => Kind::Reserved(slot.number),
                    };
                    Ok(Pass::timed(word.generation, kind, slot.since))
                }))
            }
            State::Open | State::ForcedOpen => Some(Err(Refusal::until(gate(), now))),
            State::Closed | State::Recovering | State::Disabled | State::ObserveOnly => None,
        }
    }

    /// Counts a trial call's time from now; `false` if it has lost its slot.
    pub(super) fn renew_probe(&self, generation: u64, slot: Slot, now: Timestamp) -> bool {
        let word = Word { generation, state: State::HalfOpen };
        self.still(word, |control, settings| {
            let renewed = control.trial.renew(slot, now, settings);
            self.gate.store(control.trial.next_slot(now, settings).0, Ordering::Relaxed);
            renewed.then_some(())
        })
        .is_some()
    }

    /// Whether a trial call still has its slot.
    pub(super) fn holds_probe(&self, generation: u64, slot: Slot, now: Timestamp) -> bool {
        let word = Word { generation, state: State::HalfOpen };
        self.still(word, |control, settings| control.trial.holds(slot, now, settings).then_some(())).is_some()
    }

    /// Takes a trial call's slot back, and decides if its end is the one that decides.
    pub(super) fn settle_probe(
        &self,
        generation: u64,
        slot: Slot,
        outcome: Option<Outcome>,
        ask_again: Option<Duration>,
        now: Timestamp,
    ) -> Changed {
        let word = Word { generation, state: State::HalfOpen };
        self.still(word, |control, settings| {
            // A probe that lost its slot has no say any more: another was sent in its place.
            if !(planted!("slot_kept") && outcome.is_none()) {
                control.trial.give_back(slot, now, settings).then_some(())?;
            }
            if let Some(outcome) = outcome {
                self.note_asked(outcome, ask_again, settings, now);
                control.trial.record(outcome);
            }
            control.decide(self, word, settings, now);
            Some(())
        })
        .is_some()
    }

    /// Returns `true` if a call that its caller's deadline cut off may be as if it had been cancelled. Trial calls may not always,
    /// or impatient callers would send them for ever.
    pub(super) fn excuse(&self, pass: Pass, now: Timestamp) -> bool {
        let Some(slot) = pass.slot() else { return true };
        let word = Word { generation: pass.generation(), state: State::HalfOpen };
        let is_excused = self.still(word, |control, settings| {
            // One that has lost its slot leaves the excuse to the call in its place.
            control.trial.holds(slot, now, settings).then(|| control.trial.excuse(settings))
        });
        // The end of a trial call in another state, or without its slot, means nothing.
        is_excused.unwrap_or(true)
    }

    /// recovering => (closed): every call is admitted by now. The window goes on, it is the same traffic.
    pub(super) fn finish_ramp(&self, word: Word, now: Timestamp) {
        self.still(word, |control, settings| {
            control.openings = 0;
            control.ramps = control.ramps.wrapping_add(1);
            let lasted = now.since(Timestamp(self.since.swap(now.0, Ordering::Relaxed)));
            self.word.store(Word { state: State::Closed, ..word }.pack(), Ordering::Release);
            let cause = Cause::RampCompleted { ramp: settings.ramp };
            control.tell(Notice::Transition(Transition {
                from: State::Recovering,
                to: State::Closed,
                cause,
                lasted,
                open_for: None,
            }));
            Some(())
        });
    }

    /// The next notice, if there is one and nobody else is delivering: so they arrive in the order in which
    /// things happened, though no lock is held while they do. To be followed by [`delivered`](Self::delivered).
    pub(super) fn next_notice(&self) -> Option<Notice> {
        let mut guard = self.lock();
        let control =
            guard.as_deref_mut().filter(|control| !control.is_delivering || planted!("delivered_at_once"))?;
        let notice = control.notices.pop_front()?;
        control.is_delivering = true;
        Some(notice)
    }

    pub(super) fn delivered(&self) {
        if let Some(control) = self.lock().as_deref_mut() {
            control.is_delivering = false;
        }
    }

    /// How long the server wants to be left alone, within what the settings allow.
    fn asked_wait(&self, settings: &Settings, now: Timestamp) -> Duration {
        Timestamp(self.asked.load(Ordering::Relaxed)).since(now).min(settings.max_open_for)
    }
}

impl Control {
    /// How long the next opening lasts: longer each time up to a cap, and shortened by a random share of that,
    /// so that it differs between clients at the cap too.
    fn next_wait(&mut self, settings: &Settings) -> Duration {
        let cap = to_f64(nanos(settings.max_open_for));
        let growth = settings.open_factor.powi(i32::try_from(self.openings).unwrap_or(i32::MAX));
        // Growth may be infinite, and nothing of infinity is not a number.
        let wait = if settings.open_for.is_zero() { 0.0 } else { to_f64(nanos(settings.open_for)) * growth };
        // At the cap, and in each other place where nothing was multiplied, no bit is lost to the detour.
        let wait = if wait >= cap { nanos(settings.max_open_for) } else { to_u64(wait) };
        let less = to_u64(to_f64(wait) * settings.open_jitter * self.random.0.f64());
        Duration::from_nanos(wait.saturating_sub(less))
    }

    /// Asks a half-open circuit's trial calls for their verdict, and acts on it; `true` if there is
    /// one. If not, whoever asks next is told from when on that makes sense.
    ///
    /// To be called whenever the verdict may have changed, or nothing would ever ask for it again.
    pub(super) fn decide(
        &mut self,
        circuit: &Circuit,
        word: Word,
        settings: &Settings,
        now: Timestamp,
    ) -> Changed {
        match self.trial.judge(now, settings) {
            Finding::Undecided => {
                circuit.gate.store(self.trial.next_slot(now, settings).0, Ordering::Relaxed);
                return false;
            }
            // half-open => (closed | recovering): the trial calls went well.
            Finding::Healthy => {
                let calls = self.trial.evidence(now, settings).counts.calls;
                let cause = Cause::ProbesSucceeded { calls };
                let to = if settings.ramp.is_zero() { State::Closed } else { State::Recovering };
                self.enter(circuit, word, to, cause, None, now);
            }
            // half-open => (open): for longer than the last time.
            Finding::Sick(cause) => {
                self.open_again(circuit, word, cause, settings, now);
            }
        }
        true
    }

    /// Opens for longer than the last time, and for as long as the server wants.
    pub(super) fn open_again(
        &mut self,
        circuit: &Circuit,
        word: Word,
        cause: Cause,
        settings: &Settings,
        now: Timestamp,
    ) {
        let wait = self.next_wait(settings).max(circuit.asked_wait(settings, now));
        self.openings = self.openings.saturating_add(1);
        self.open(circuit, word, cause, wait, now);
    }

    pub(super) fn open(
        &mut self,
        circuit: &Circuit,
        word: Word,
        cause: Cause,
        wait: Duration,
        now: Timestamp,
    ) {
        self.open_for = wait;
        // A circuit that is opened again, by hand, goes on showing what it showed.
        self.shown = if word.state == State::Open { self.shown } else { Self::shown(Some(self), word) };
        self.enter(circuit, word, State::Open, cause, Some(wait), now);
    }

    /// What the state `word` shows in a snapshot.
    pub(super) fn shown(control: Option<&Self>, word: Word) -> Shown {
        match word.state {
            State::Closed | State::Recovering | State::ObserveOnly => Shown::Window { era: word.generation },
            State::HalfOpen => Shown::Trial,
            State::Open => control.map(|control| control.shown).unwrap_or_default(),
            State::Disabled | State::ForcedOpen => Shown::Nothing,
        }
    }

    /// Begins a state, and with it a generation; the one place in which that is done. `open_for` is how long a
    /// state that refuses lasts, if it ends by itself.
    pub(super) fn enter(
        &mut self,
        circuit: &Circuit,
        word: Word,
        to: State,
        cause: Cause,
        open_for: Option<Duration>,
        now: Timestamp,
    ) -> Word {
        let next = word.next(to);
        if records(to) {
            circuit.begin(next.generation, now);
        }
        // The wait that a server asked for has been kept, or an operator knows better.
        circuit.asked.store(0, Ordering::Relaxed);
        if matches!(to, State::Closed | State::Disabled | State::ObserveOnly) {
            self.openings = 0;
        }
        if to == State::HalfOpen {
            self.trial = Trial::default();
        }
        // A half-open circuit can be asked at once; one that passes calls has no gate.
        let gate = match to {
            State::HalfOpen => Timestamp(0),
            _ => open_for.map_or(Timestamp::NEVER, |wait| now.after(wait)),
        };
        circuit.gate.store(gate.0, Ordering::Relaxed);
        let lasted = now.since(Timestamp(circuit.since.swap(now.0, Ordering::Relaxed)));
        // Release: pairs with `Circuit::load`.
        circuit.word.store(next.pack(), Ordering::Release);
        if word.state != to {
            self.tell(Notice::Transition(Transition { from: word.state, to, cause, lasted, open_for }));
        }
        next
    }

    fn tell(&mut self, notice: Notice) {
        if self.notices.len() >= MOST_NOTICES {
            self.notices.pop_front();
        }
        self.notices.push_back(notice);
    }
}

/// Whether calls go into the window.
pub(super) const fn records(state: State) -> bool {
    matches!(state, State::Closed | State::Recovering | State::ObserveOnly)
}

#[allow(clippy::cast_precision_loss, reason = "a wait needs no more than 53 bits")]
fn to_f64(nanos: u64) -> f64 {
    nanos as f64
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and what is cast is never negative"
)]
fn to_u64(nanos: f64) -> u64 {
    nanos as u64
}
