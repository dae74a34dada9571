use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;
use std::time::Duration;

use super::lane::Waiter;
use super::queue::Ticket;
use crate::base::clock::Timestamp;
use crate::base::sync::planted;

/// Permits that were granted to waiters and are not claimed yet, and the waiters that slept for too
/// long to keep theirs.
///
/// Each entry belongs to a future that still exists, so their number is bounded by the number of
/// these.
#[derive(Debug)]
pub(super) struct Granted {
    unclaimed: BTreeMap<Ticket, (Timestamp, Sleeper)>,
    /// The same, the oldest grant first.
    by_time: BTreeSet<(Timestamp, Ticket)>,
    /// Waiters that lost their grant to another. They wait again once they are polled.
    asleep: BTreeMap<Ticket, Sleeper>,
}

/// A waiter that was granted a permit, with what it takes to put it back into its place.
#[derive(Debug)]
pub(super) struct Sleeper {
    pub(super) waiter: Waiter,
    /// The turn that its lane had.
    pub(super) turn: u64,
}

impl Granted {
    /// A grant that is older than this is for the next waiter. A task that is late by so much is
    /// not scheduled any more, or will find its way back.
    pub(super) const CLAIMED_WITHIN: Duration = Duration::from_millis(100);

    pub(super) const fn new() -> Self {
        Self { unclaimed: BTreeMap::new(), by_time: BTreeSet::new(), asleep: BTreeMap::new() }
    }

    /// The number of waiters that sleep.
    pub(super) fn asleep(&self) -> usize {
        self.asleep.len()
    }

    /// Takes note of a grant. Returns the waker of the waiter, if it has been polled.
    pub(super) fn grant(&mut self, ticket: Ticket, mut granted: Sleeper, now: Timestamp) -> Option<Waker> {
        let waker = granted.waiter.waker.take();
        self.by_time.insert((now, ticket));
        self.unclaimed.insert(ticket, (now, granted));
        waker
    }

    /// The permit is in the hands of its waiter.
    pub(super) fn claim(&mut self, ticket: Ticket) {
        self.remove(ticket);
    }

    fn remove(&mut self, ticket: Ticket) -> Option<Sleeper> {
        let (at, granted) = self.unclaimed.remove(&ticket)?;
        self.by_time.remove(&(at, ticket));
        Some(granted)
    }

    /// Returns `true` if no grant is open.
    pub(super) fn are_claimed(&self) -> bool {
        self.unclaimed.is_empty()
    }

    /// Returns the time at which the oldest grant is overdue, if any is open.
    pub(super) fn overdue_at(&self) -> Option<Timestamp> {
        self.by_time.first().map(|(at, _)| at.after(Self::CLAIMED_WITHIN))
    }

    /// Returns `true` if a grant was not claimed in time.
    pub(super) fn are_overdue(&self, now: Timestamp) -> bool {
        self.overdue_at().is_some_and(|at| now >= at)
    }

    /// Takes back the oldest grant that was not claimed in time. Whose it was waits again when it is polled.
    pub(super) fn take_back(&mut self, now: Timestamp) -> Option<Ticket> {
        let (_, ticket) = *self.by_time.first().filter(|_| self.are_overdue(now))?;
        let granted = self.remove(ticket)?;
        if !planted!("sleeper_has_it_too") {
            self.asleep.insert(ticket, granted);
        }
        Some(ticket)
    }

    pub(super) fn is_asleep(&self, ticket: Ticket) -> bool {
        self.asleep.contains_key(&ticket)
    }

    /// The waiter waits again, or leaves.
    pub(super) fn wake_up(&mut self, ticket: Ticket) -> Option<Sleeper> {
        self.asleep.remove(&ticket)
    }
}
