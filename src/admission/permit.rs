use std::fmt;
use std::time::Duration;

use super::limit::Limit;
use super::shared::Shared;
use crate::classify::{Class, Guard, in_service};
use crate::clock::Timestamp;
use crate::permits;

/// Leave to have one call under way, from a layer with a [limit](super). Dropping it makes room for the next.
#[must_use = "dropping the permit at once makes room for the next call"]
pub struct Permit<L: Limit> {
    held: permits::Permit<Shared<L>>,
    /// [`Timestamp::NEVER`], if nobody wants to know how long the call takes, or its end has been told.
    began: Timestamp,
}

impl<L: Limit> Permit<L> {
    /// For a call that begins now.
    #[inline]
    pub(super) fn new(held: permits::Permit<Shared<L>>) -> Self {
        let began = held.owner().begin();
        Self { held, began }
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
        let began = std::mem::replace(&mut self.began, Timestamp::NEVER);
        self.held.owner().end(began, Some(class));
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
        shared.end(self.began, None);
        shared.leave();
    }
}

impl<L: Limit> fmt::Debug for Permit<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}
