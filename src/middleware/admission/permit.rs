use std::fmt;

use super::limit::Limit;
use super::note::Note;
use super::shared::Shared;
use crate::classify::{Class, Guard, Outcome};
use crate::error::Rejected;
use crate::middleware::gate::{GatePermit, HoldUntil};
use crate::primitives::semaphore;
use crate::protocol::CallAttributes;

/// Leave to have one call under way, from a layer with a [limit](super). Dropping it makes room for the next.
#[must_use = "dropping the permit at once makes room for the next call"]
pub struct Permit<L: Limit> {
    held: semaphore::Permit<Shared<L>>,
    /// What has not been told yet of the call.
    note: Note,
}

impl<L: Limit> Permit<L> {
    /// For a call that begins now.
    #[inline]
    pub(super) fn new(held: semaphore::Permit<Shared<L>>, attributes: &CallAttributes) -> Self {
        let note = held.owner().begin(attributes);
        Self { held, note }
    }

    /// Tells how the call ended. There is room for the next when the permit is dropped.
    #[inline]
    pub(super) fn end(&mut self, class: Class) {
        let note = std::mem::replace(&mut self.note, Note::NOTHING);
        self.held.owner().end(note, Some(class));
    }

    /// Ends the call, and makes room for the next. How it ended matters to an adaptive limit, for which an
    /// [overload](Outcome::overload) is a failure and a failure by the caller's deadline a cancelled call, and to what is measured.
    // Always: what is known of an outcome where it is made is not to be put into memory and asked again.
    #[inline(always)]
    pub fn finish(mut self, outcome: impl Into<Outcome>) {
        let outcome = outcome.into();
        // The caller was impatient: as if it had given up the call itself.
        if outcome.is_cut_off() {
            return;
        }
        self.end(if outcome.overload { Class::Failure } else { outcome.class });
    }
}

impl<L: Limit> Guard for Permit<L> {
    #[inline(always)]
    fn finish(self, outcome: Outcome) {
        Self::finish(self, outcome);
    }
}

impl<L: Limit> GatePermit for Permit<L> {
    type Rejection = Rejected;

    #[inline]
    fn fail(&mut self) {
        if L::LEARNS {
            self.end(Class::Failure);
        }
    }

    /// Where there is something to learn of the outcome, the permit is held until it is known.
    #[inline]
    fn hold_until(&self) -> HoldUntil {
        if L::LEARNS { HoldUntil::Outcome } else { self.held.owner().hold_until }
    }
}

impl<L: Limit> Drop for Permit<L> {
    #[inline]
    fn drop(&mut self) {
        let shared = self.held.owner();
        shared.end(self.note, None);
        shared.leave();
    }
}

impl<L: Limit> fmt::Debug for Permit<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}
