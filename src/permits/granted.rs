use std::collections::BTreeMap;
use std::task::Waker;
use std::time::Duration;

use super::lane::Waiter;
use super::queue::Ticket;
use crate::clock::Timestamp;

/// Permits that were granted to waiters and are not claimed yet, and the waiters that slept for too
/// long to keep theirs.
///
/// Each entry belongs to a future that still exists, so their number is bounded by the number of
/// these.
#[derive(Debug)]
pub(super) struct Granted {
    unclaimed: BTreeMap<Ticket, (Timestamp, Waiter)>,
    /// The earliest time at which a grant may be overdue. It may be too early, never too late.
    look_at: Timestamp,
    /// Waiters that lost their grant to another. They wait again once they are polled.
    asleep: BTreeMap<Ticket, Waiter>,
}

impl Granted {
    /// A grant that is older than this is for the next waiter. A task that is late by so much is
    /// not scheduled any more, or will find its way back.
    pub(super) const CLAIMED_WITHIN: Duration = Duration::from_millis(100);

    pub(super) const fn new() -> Self {
        Self { unclaimed: BTreeMap::new(), look_at: Timestamp::NEVER, asleep: BTreeMap::new() }
    }

    /// The number of waiters that sleep.
    pub(super) fn asleep(&self) -> usize {
        self.asleep.len()
    }

    /// Takes note of a grant. Returns the waker of the waiter, if it has been polled.
    pub(super) fn grant(&mut self, ticket: Ticket, mut waiter: Waiter, now: Timestamp) -> Option<Waker> {
        if self.unclaimed.is_empty() {
            self.look_at = now.after(Self::CLAIMED_WITHIN);
        }
        let waker = waiter.waker.take();
        self.unclaimed.insert(ticket, (now, waiter));
        waker
    }

    /// The permit is in the hands of its waiter.
    pub(super) fn claim(&mut self, ticket: Ticket) {
        self.unclaimed.remove(&ticket);
    }

    /// Returns `true` if no grant is open.
    pub(super) fn are_claimed(&self) -> bool {
        self.unclaimed.is_empty()
    }

    /// Returns a grant that was not claimed in time, the oldest first.
    pub(super) fn overdue(&mut self, now: Timestamp) -> Option<Ticket> {
        if now < self.look_at || self.unclaimed.is_empty() {
            return None;
        }
        let oldest = self.unclaimed.iter().map(|(ticket, (at, _))| (*at, *ticket)).min();
        self.look_at = oldest.map_or(Timestamp::NEVER, |(at, _)| at.after(Self::CLAIMED_WITHIN));
        oldest.map(|(_, ticket)| ticket).filter(|_| now >= self.look_at)
    }

    /// Takes back a grant that was not claimed in time. Whose it was waits again when it is polled.
    pub(super) fn take_back(&mut self, now: Timestamp) -> Option<Ticket> {
        let ticket = self.overdue(now)?;
        let (_, waiter) = self.unclaimed.remove(&ticket)?;
        if !cfg!(stanchion_planted_bug = "sleeper_has_it_too") {
            self.asleep.insert(ticket, waiter);
        }
        Some(ticket)
    }

    pub(super) fn is_asleep(&self, ticket: Ticket) -> bool {
        self.asleep.contains_key(&ticket)
    }

    /// The waiter waits again, or leaves.
    pub(super) fn wake_up(&mut self, ticket: Ticket) -> Option<Waiter> {
        self.asleep.remove(&ticket)
    }
}
