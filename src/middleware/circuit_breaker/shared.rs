//! What all services, clones, handles and calls of one layer share: the circuit, and what it needs from the
//! outside world.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::broadcast;

use super::config::Settings;
use super::control::Notice;
use super::pass::{Pass, Refusal, Verdict};
use super::state::{Changed, Circuit};
use super::transition::{State, Transition};
use super::waiters::Waiters;
use crate::base::clock::{Clock, Now};
use crate::error::{Reason, Rejected};
use crate::telemetry::{Event, Telemetry};

/// A subscriber that is further behind misses the oldest transitions, and is told so.
const MOST_UNREAD: usize = 64;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) circuit: Circuit,
    pub(super) clock: Clock,
    /// Beside the circuit, to be found on the way.
    pub(super) wants_calls: bool,
    is_observed: bool,
    pub(super) telemetry: Arc<Telemetry>,
    changes: OnceLock<broadcast::Sender<Transition>>,
    pub(super) waiters: Waiters,
}

/// A refusal on its way to the caller. A [`Rejected`] is made of it where it arrives: that one is too large to be
/// moved about.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    refusal: Refusal,
    by: &'static str,
}

impl From<Refused> for Rejected {
    #[inline]
    fn from(refused: Refused) -> Self {
        match refused.refusal {
            Refusal::Recovering => Self::after(Reason::Recovering, refused.by, None),
            Refusal::Open { wait: Refusal::ENDLESS } => Self::after(Reason::CircuitOpen, refused.by, None),
            Refusal::Open { wait } => Self::after(Reason::CircuitOpen, refused.by, Some(wait)),
        }
    }
}

impl Shared {
    pub(super) fn new(settings: &Arc<Settings>, telemetry: Arc<Telemetry>) -> Self {
        telemetry.emit(&Event::StateCreated { state: State::Closed.as_str() });
        Self {
            circuit: Circuit::new(settings),
            clock: Clock::start(),
            wants_calls: telemetry.wants_calls(),
            is_observed: telemetry.is_observed(),
            telemetry,
            changes: OnceLock::new(),
            waiters: Waiters::default(),
        }
    }

    #[inline]
    pub(super) fn now(&self) -> Now<'_> {
        Now::of(&self.clock)
    }

    #[inline]
    pub(super) fn admit(&self, now: &Now<'_>) -> Result<Pass, Refusal> {
        let (admission, changed) = self.circuit.admit(now);
        self.after(changed);
        admission
    }

    /// As [`admit`](Self::admit), for a call that may begin later.
    pub(super) fn reserve(&self, now: &Now<'_>) -> Result<Pass, Refusal> {
        let (admission, changed) = self.circuit.reserve(now);
        self.after(changed);
        admission
    }

    /// Leave to make a call, where that is all there is to it: most of the time.
    #[inline]
    pub(super) fn admit_plainly(&self) -> Option<Pass> {
        match self.circuit.admit_plainly() {
            Some(pass) if !self.wants_calls => Some(pass),
            _ => self.admit_timed(),
        }
    }

    #[inline(never)]
    fn admit_timed(&self) -> Option<Pass> {
        self.circuit.admit_timed(&self.now())
    }

    /// Leave to make a call, in every other case.
    #[inline(never)]
    pub(super) fn admit_slowly(&self) -> Result<Pass, Refusal> {
        let now = self.now();
        let mut pass = self.admit(&now)?;
        if self.wants_calls {
            pass.started = now.get();
        }
        Ok(pass)
    }

    /// Takes note that the headers of a good response are there, if the call is timed.
    #[inline(never)]
    pub(super) fn answered(&self, pass: Pass) {
        self.circuit.note_usual(pass.started, &self.now());
    }

    /// Returns what the end of a call means that its caller's deadline cut off.
    #[cold]
    pub(super) fn cut_off(&self, pass: Pass, given: u64) -> Verdict {
        self.circuit.cut_off(pass, given, self.clock.now())
    }

    /// Takes note of how a call ended.
    #[inline]
    pub(super) fn settle(&self, pass: Pass, verdict: Verdict, retry_after: Option<Duration>) {
        if verdict == Verdict::Success && pass.is_plain() {
            self.settle_plainly(pass);
        } else {
            self.settle_measured(pass, verdict, retry_after);
        }
    }

    #[inline(never)]
    fn settle_plainly(&self, pass: Pass) {
        let changed = self.circuit.settle_plainly(&pass, &self.now());
        self.after(changed);
    }

    #[inline(never)]
    fn settle_measured(&self, pass: Pass, verdict: Verdict, retry_after: Option<Duration>) {
        let now = self.now();
        let changed = self.circuit.settle(&pass, verdict, retry_after, &now);
        if self.wants_calls && pass.has_begun() {
            let slow = self.circuit.is_slow(&pass, &now);
            let latency = now.get().since(pass.started);
            self.telemetry.emit(&Event::Call { outcome: verdict.into(), slow, latency });
        }
        self.after(changed);
    }

    /// Counts a call that failed before it was made: the service could not get ready for it.
    #[cold]
    pub(super) fn fail_unmade(&self) {
        let now = self.now();
        let (admission, changed) = self.circuit.admit_failed(&now);
        self.after(changed);
        if let Ok(mut pass) = admission {
            if self.wants_calls {
                pass.started = now.get();
            }
            self.settle(pass, Verdict::Failure, None);
        }
    }

    /// The refusal on its way to the caller, reported.
    #[inline]
    pub(super) fn refuse(&self, refusal: Refusal) -> Refused {
        let refused = Refused { refusal, by: self.telemetry.name() };
        if self.is_observed {
            self.telemetry.emit(&Event::Rejected(&refused.into()));
        }
        refused
    }

    /// To be called when the circuit has changed, with no lock held.
    #[inline]
    pub(super) fn after(&self, changed: Changed) {
        if changed {
            self.report();
        }
    }

    /// Tells observers, subscribers and whoever waits. A second thread, or an observer that calls back, leaves
    /// its news to the one that is telling already.
    #[cold]
    fn report(&self) {
        while let Some(notice) = self.circuit.next_notice() {
            // Whatever happens in there, the next notice must be told.
            let _ = catch_unwind(AssertUnwindSafe(|| self.tell(notice)));
            self.circuit.delivered();
        }
        self.waiters.wake_all();
    }

    fn tell(&self, notice: Notice) {
        match notice {
            Notice::WouldOpen(cause) => {
                self.telemetry.emit(&Event::WouldChange { to: State::Open.as_str(), cause: &cause });
            }
            Notice::Transition(transition) => {
                self.telemetry.emit(&Event::StateChanged {
                    from: transition.from.as_str(),
                    to: transition.to.as_str(),
                    refuses: matches!(transition.to, State::Open | State::ForcedOpen),
                    cause: &transition.cause,
                });
                if let Some(changes) = self.changes.get() {
                    // Fails if nobody listens any more.
                    let _ = changes.send(transition);
                }
            }
        }
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Transition> {
        self.changes.get_or_init(|| broadcast::channel(MOST_UNREAD).0).subscribe()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.telemetry.emit(&Event::StateDropped { state: self.circuit.load().state.as_str() });
    }
}
