use std::collections::BTreeMap;
use std::task::Waker;

use super::discipline::{End, Memory, QueueDiscipline};
use super::queue::{Ask, Shed};
use crate::base::clock::Timestamp;

/// One who waits.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) waker: Option<Waker>,
    since: Timestamp,
    deadline: Timestamp,
    /// Until when it waits.
    pub(super) until: Timestamp,
}

impl Waiter {
    pub(super) const fn new(ask: &Ask, now: Timestamp) -> Self {
        Self { waker: None, since: now, deadline: ask.deadline, until: ask.until }
    }
}

/// Those who wait with the same class and tenant, in the order in which they came.
#[derive(Debug)]
pub(super) struct Lane {
    /// Lanes of a class are served in the order of their turns.
    pub(super) turn: u64,
    /// Since when the lane has waited for its turn.
    pub(super) turn_since: Timestamp,
    waiting: BTreeMap<u64, Waiter>,
    memory: Memory,
}

impl Lane {
    pub(super) const fn new(turn: u64, now: Timestamp) -> Self {
        Self { turn, turn_since: now, waiting: BTreeMap::new(), memory: Memory::new(now) }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn insert(&mut self, number: u64, waiter: Waiter) {
        self.waiting.insert(number, waiter);
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Waiter> {
        self.waiting.get_mut(&number)
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Waiter> {
        self.waiting.remove(&number)
    }

    fn at(&self, end: End) -> Option<(u64, &Waiter)> {
        let found = match end {
            End::Oldest => self.waiting.first_key_value(),
            End::Newest => self.waiting.last_key_value(),
        };
        found.map(|(number, waiter)| (*number, waiter))
    }

    /// Who is served next.
    pub(super) fn next(&self, discipline: QueueDiscipline, all_late: bool, now: Timestamp) -> Option<u64> {
        self.at(self.memory.next(discipline, all_late, now)).map(|(number, _)| number)
    }

    /// Who is served last of all. None, if that is whoever comes now.
    pub(super) fn last(&self, discipline: QueueDiscipline, all_late: bool, now: Timestamp) -> Option<u64> {
        match self.memory.next(discipline, all_late, now) {
            End::Oldest => None,
            End::Newest => self.at(End::Oldest).map(|(number, _)| number),
        }
    }

    /// The newest of all.
    pub(super) fn newest(&self) -> Option<u64> {
        self.at(End::Newest).map(|(number, _)| number)
    }

    /// One who is turned away before the next is served, and why. Another may follow.
    pub(super) fn shed(
        &mut self,
        discipline: QueueDiscipline,
        all_late: bool,
        now: Timestamp,
        needed: u64,
    ) -> Option<(u64, Shed)> {
        let (oldest, waiter) = self.at(End::Oldest)?;
        let since = waiter.since;
        if let Some(why) = self.memory.gives_up(discipline, all_late, since, now) {
            return Some((oldest, why));
        }
        let (next, waiter) = self.at(self.memory.next(discipline, all_late, now))?;
        if waiter.until != Timestamp::NEVER && waiter.until <= now {
            return Some((next, Shed::Expired));
        }
        // Nothing is too little, whatever is needed.
        let is_enough = waiter.deadline.0.saturating_sub(now.0) >= needed.max(1);
        // Somebody without a deadline is never late.
        let is_late = waiter.deadline != Timestamp::NEVER && !is_enough;
        is_late.then_some((next, Shed::Late))
    }
}
