use std::collections::BTreeMap;
use std::task::Waker;

/// A place in a queue, given out once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// Who of those who wait is the next.
#[derive(Clone, Copy, Debug)]
enum Discipline {
    /// The one who came first.
    OldestFirst,
}

/// Those who wait, each with the waker of its own. Who has a ticket that is not here has been the next.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: BTreeMap<Ticket, Option<Waker>>,
    tickets: u64,
    max: usize,
    discipline: Discipline,
}

impl Queue {
    pub(super) const fn new(max: usize) -> Self {
        Self { waiting: BTreeMap::new(), tickets: 0, max, discipline: Discipline::OldestFirst }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) const fn allow(&mut self, max: usize) {
        self.max = max;
    }

    pub(super) fn has_place(&self) -> bool {
        self.waiting.len() < self.max
    }

    pub(super) fn enter(&mut self) -> Ticket {
        let ticket = Ticket(self.tickets);
        // One each nanosecond lasts for five hundred years.
        self.tickets = self.tickets.saturating_add(1);
        self.waiting.insert(ticket, None);
        ticket
    }

    /// Has `waker` woken when it is its turn, unless it has been; returns whether it still waits. What is left in
    /// `waker` is of no use any more.
    pub(super) fn wait(&mut self, ticket: Ticket, waker: &mut Option<Waker>) -> bool {
        let waiting = self.waiting.get_mut(&ticket);
        if let Some(place) = waiting {
            std::mem::swap(place, waker);
            return true;
        }
        false
    }

    /// Gives up a place; `None` if it was its turn already.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Option<Waker>> {
        self.waiting.remove(&ticket)
    }

    /// The waker of the next one.
    pub(super) fn next(&mut self) -> Option<Option<Waker>> {
        match self.discipline {
            Discipline::OldestFirst => self.waiting.pop_first().map(|(_, waker)| waker),
        }
    }
}
