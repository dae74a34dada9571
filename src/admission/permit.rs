use std::fmt;
use std::time::Duration;

use super::limit::Limit;
use super::note::Note;
use super::shared::Shared;
use crate::classify::{Class, Guard, in_service};
use crate::permits;
use crate::protocol::Claim;

/// Leave to have one call under way, from a layer with a [limit](super). Dropping it makes room for the next.
#[must_use = "dropping the permit at once makes room for the next call"]
pub struct Permit<L: Limit> {
    held: permits::Permit<Shared<L>>,
    /// What has not been told yet of the call.
    note: Note,
}

impl<L: Limit> Permit<L> {
    /// For a call that begins now.
    #[inline]
    pub(super) fn new(held: permits::Permit<Shared<L>>, claim: &Claim) -> Self {
        let note = held.owner().begin(claim);
        Self { held, note }
    }

    /// Runs a part of the service: if it panics, the call has failed.
    // Always, since what it returns may be a large future.
    #[inline(always)]
    pub(super) fn over<R>(&mut self, part: impl FnOnce() -> R) -> R {
        if L::LEARNS { in_service(part, || self.end(Class::Failure)) } else { part() }
    }

    /// Tells how the call ended. There is room for the next when the permit is dropped.
    #[inline]
    pub(super) fn end(&mut self, class: Class) {
        let note = std::mem::replace(&mut self.note, Note::NOTHING);
        self.held.owner().end(note, Some(class));
    }

    /// Ends the call, and makes room for the next: how it ended matters to an adaptive limit, and to what is measured.
    #[inline]
    pub fn finish(mut self, class: Class) {
        self.end(class);
    }
}

impl<L: Limit> Guard for Permit<L> {
    #[inline]
    fn finish(self, class: Class) {
        Self::finish(self, class);
    }

    /// What the service asks for is for those who would call again.
    #[inline]
    fn finish_and_wait(self, class: Class, _: Duration) {
        self.finish(class);
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
