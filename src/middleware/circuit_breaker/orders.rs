//! What an operator can ask of a circuit, and ask it for.

use std::sync::Arc;
use std::time::Duration;

use super::config::Settings;
use super::control::{Control, Shown, records};
use super::snapshot::{PersistedState, Snapshot};
use super::state::{Changed, Circuit};
use super::transition::{Cause, State};
use super::verdict::Evidence;
use super::word::Word;
use crate::base::clock::{Now, Timestamp};
use crate::base::sync::Ordering;
use crate::base::sync::planted;

/// What an operator can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Close,
    /// Open as if it had tripped; `None`: for as long as the configuration says.
    Trip(Option<Duration>),
    Probe,
    ForceOpen(Option<Duration>),
    Disable,
    Observe,
}

/// Returns `true` if the circuit lets calls through anyway, so that there is nothing to probe.
const fn passes_calls(state: State) -> bool {
    matches!(state, State::Closed | State::Recovering | State::ObserveOnly | State::Disabled)
}

impl Circuit {
    /// Carries out an order; `false` if it makes no sense in the present state: probing a service that is
    /// called anyway.
    pub(super) fn obey(&self, order: Order, now: Timestamp) -> Changed {
        let mut guard = self.lock();
        let control = guard.get_or_insert_default();
        let settings = self.settings.read();
        let word = self.load();
        let cause = Cause::Operator;
        match order {
            Order::Close => drop(control.enter(self, word, State::Closed, cause, None, now)),
            Order::Disable => drop(control.enter(self, word, State::Disabled, cause, None, now)),
            Order::Observe => drop(control.enter(self, word, State::ObserveOnly, cause, None, now)),
            Order::Probe if passes_calls(word.state) => {
                return false;
            }
            // Trial calls in flight keep their slots, and count: there must not be more than
            // configured.
            Order::Probe if word.state == State::HalfOpen => {
                control.trial.restart();
                self.since.store(now.0, Ordering::Relaxed);
                control.decide(self, word, &settings, now);
            }
            Order::Probe => drop(control.enter(self, word, State::HalfOpen, cause, None, now)),
            Order::Trip(_) if word.state == State::ObserveOnly => return false,
            Order::Trip(None) => control.open_again(self, word, cause, &settings, now),
            Order::Trip(Some(wait)) => {
                control.openings = control.openings.saturating_add(1);
                control.open(self, word, cause, wait, now);
            }
            Order::ForceOpen(limit) => {
                control.openings = control.openings.saturating_add(1);
                control.open_for = limit.unwrap_or(Duration::MAX);
                control.enter(self, word, State::ForcedOpen, cause, limit, now);
            }
        }
        true
    }

    /// Goes on with other settings, in the same state and with the same counts, unless those are
    /// reason to leave it by the new settings.
    pub(super) fn reconfigure(&self, settings: &Arc<Settings>, now: &Now<'_>) {
        let word = self.exchange(settings, now);
        if records(word.state) && !planted!("verdict_not_asked") {
            self.judge_again(word, now);
        }
    }

    /// Puts other settings in place; the state in which that was done.
    fn exchange(&self, settings: &Arc<Settings>, now: &Now<'_>) -> Word {
        let mut guard = self.lock();
        // Read under the lock: waiting for it may take longer than a bucket of the window lasts.
        let now = now.get();
        let before = self.settings.read();
        let word = self.load();
        if before.window != settings.window || before.overdue_after() != settings.overdue_after() {
            let era = match Control::shown(guard.as_deref(), word) {
                Shown::Window { era } => era,
                Shown::Trial | Shown::Nothing => word.generation,
            };
            self.measures.replace(settings, era, now);
        }
        self.settings.swap(Arc::clone(settings));
        self.adopt(settings);
        let is_half_open = word.state == State::HalfOpen && !planted!("verdict_not_asked");
        if let Some(control) = guard.as_mut().filter(|_| is_half_open) {
            control.decide(self, word, settings, now);
        }
        word
    }

    pub(super) fn snapshot(&self, now: Timestamp) -> Snapshot {
        let guard = self.lock();
        let control = guard.as_deref();
        let settings = self.settings.read();
        let word = self.load();
        let shown = Control::shown(control, word);
        let evidence = self.measures.with(|measures| match shown {
            Shown::Nothing => Evidence::default(),
            Shown::Window { era } => measures.evidence(era, now),
            Shown::Trial => control.map(|control| control.trial.evidence(now, &settings)).unwrap_or_default(),
        });
        let min_calls = if shown == Shown::Trial { settings.min_probes } else { settings.min_calls };
        let gate = Timestamp(self.gate.load(Ordering::Relaxed));
        let is_gated = matches!(word.state, State::Open | State::HalfOpen | State::ForcedOpen);
        Snapshot {
            state: word.state,
            generation: word.generation.wrapping_add(control.map_or(0, |control| control.ramps)),
            since: now.since(Timestamp(self.since.load(Ordering::Relaxed))),
            failure_ratio: evidence.failure_ratio(min_calls),
            slow_ratio: settings.slow_ratio.and_then(|_| evidence.slow_ratio(min_calls)),
            calls: evidence.counts.calls,
            failures: evidence.counts.failures,
            slow: evidence.counts.slow,
            slow_failures: evidence.counts.slow_failures,
            overdue: evidence.overdue,
            openings: control.map_or(0, |control| control.openings),
            retry_after: (is_gated && gate != Timestamp::NEVER).then(|| gate.since(now)),
        }
    }

    /// Goes on from a saved state. What is measured in time goes on from now.
    pub(super) fn restore(&self, saved: &PersistedState, now: Timestamp) {
        let mut guard = self.lock();
        let control = guard.get_or_insert_default();
        let word = self.load();
        // Trial calls are of another process, and so are the times at which they lose their slots: a half-open circuit probes
        // anew, at once.
        let (to, open_for) = match saved.state {
            State::HalfOpen => (State::Open, Some(Duration::ZERO)),
            // Not cut to `max_open_for`: an operator may have asked for longer.
            State::Open | State::ForcedOpen => (saved.state, saved.retry_after),
            state => (state, None),
        };
        control.open_for = open_for.unwrap_or(Duration::MAX);
        let word = control.enter(self, word, to, Cause::Restored, open_for, now);
        control.openings = saved.openings;
        if records(to) {
            let counts = saved.counts();
            self.measures.with(|measures| measures.window.restore(word.generation, now, counts));
        }
    }
}
