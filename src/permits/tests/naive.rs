//! The whole queue as lists: written to be read, and not by what it is compared with.

use std::time::Duration;

use crate::permits::{Discipline, Shed};

/// What became of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Waits,
    Served,
    Shed(Shed),
}

#[derive(Clone, Debug)]
pub(super) struct Somebody {
    id: usize,
    class: u8,
    tenant: u64,
    since: u64,
    deadline: Option<u64>,
}

/// A class and tenant of whom somebody waits.
#[derive(Clone, Debug)]
struct Kind {
    class: u8,
    tenant: u64,
    busy_since: u64,
    /// What folly remembers.
    interval_end: u64,
    min: u64,
    overloaded: bool,
}

/// What there should be.
pub(super) struct Naive {
    pub(super) now: u64,
    pub(super) needed: u64,
    pub(super) limit: u64,
    pub(super) shares: [u64; 3],
    pub(super) max: usize,
    pub(super) discipline: Discipline,
    /// The permits that are out.
    pub(super) out: u64,
    /// All who wait, in the order in which they came.
    pub(super) waiting: Vec<Somebody>,
    /// In the order in which they are served.
    kinds: Vec<Kind>,
    /// Of all who ever waited.
    pub(super) fates: Vec<Fate>,
}

impl Naive {
    pub(super) fn new(limit: u32, max: usize, discipline: Discipline) -> Self {
        Self {
            now: 0,
            needed: 0,
            limit: u64::from(limit),
            shares: [65_536; 3],
            max,
            discipline,
            out: 0,
            waiting: Vec::new(),
            kinds: Vec::new(),
            fates: Vec::new(),
        }
    }

    pub(super) fn is_there_room(&self, class: u8) -> bool {
        // The share, rounded up: there is room while less is out.
        self.out * 65_536 < self.limit * self.shares[usize::from(class)]
    }

    fn of_kind(&self, kind: &Kind) -> Vec<Somebody> {
        let is_of = |who: &&Somebody| (who.class, who.tenant) == (kind.class, kind.tenant);
        self.waiting.iter().filter(is_of).cloned().collect()
    }

    fn is_newest_first(&self, kind: &Kind) -> bool {
        match self.discipline {
            Discipline::AdaptiveLifo { interval, .. } => {
                u128::from(self.now.saturating_sub(kind.busy_since)) > interval.as_nanos()
            }
            _ => false,
        }
    }

    pub(super) fn settle(&mut self, id: usize, fate: Fate) {
        self.fates[id] = fate;
        self.waiting.retain(|who| who.id != id);
        let waiting = &self.waiting;
        self.kinds
            .retain(|kind| waiting.iter().any(|who| (who.class, who.tenant) == (kind.class, kind.tenant)));
    }

    /// For somebody who asks.
    pub(super) fn enter(&mut self, class: u8, tenant: u64, deadline: Option<u64>) -> Option<Fate> {
        if self.is_there_room(class) && self.waiting.iter().all(|who| who.class < class) {
            self.out += 1;
            return Some(Fate::Served);
        }
        let id = self.fates.len();
        let before = (self.waiting.clone(), self.kinds.clone());
        self.fates.push(Fate::Waits);
        self.waiting.push(Somebody { id, class, tenant, since: self.now, deadline });
        if !self.kinds.iter().any(|kind| (kind.class, kind.tenant) == (class, tenant)) {
            let (busy_since, interval_end) = (self.now, self.now);
            self.kinds.push(Kind { class, tenant, busy_since, interval_end, min: 0, overloaded: false });
        }
        if before.0.len() >= self.max {
            let loser = self.loser(class, tenant);
            if loser == id {
                (self.waiting, self.kinds) = before;
                self.fates.pop();
                return None;
            }
            self.settle(loser, Fate::Shed(Shed::Displaced));
        }
        Some(Fate::Waits)
    }

    /// Who has to leave, with the one who came last in the list: somebody of the longest lane of the lowest class.
    fn loser(&self, class: u8, tenant: u64) -> usize {
        let lowest = self.kinds.iter().map(|kind| kind.class).min().unwrap();
        let lowest: Vec<_> = self.kinds.iter().filter(|kind| kind.class == lowest).collect();
        let longest = lowest.iter().map(|kind| self.of_kind(kind).len()).max().unwrap();
        let mut longest: Vec<_> =
            lowest.into_iter().filter(|kind| self.of_kind(kind).len() == longest).collect();
        // Of lanes of a length that of the one who came last, or that of the first tenant.
        longest.sort_by_key(|kind| ((kind.class, kind.tenant) != (class, tenant), kind.tenant));
        let those = self.of_kind(longest[0]);
        if self.is_newest_first(longest[0]) { those[0].id } else { those[those.len() - 1].id }
    }

    /// Who should have a permit by now, or be told that it will not have one.
    pub(super) fn grant(&mut self) {
        loop {
            let Some(class) = self.waiting.iter().map(|who| who.class).max() else { return };
            if !self.is_there_room(class) {
                return;
            }
            let turn = self.kinds.iter().position(|kind| kind.class == class).unwrap();
            let those = self.of_kind(&self.kinds[turn]);
            let (oldest, newest) = (&those[0], &those[those.len() - 1]);
            let next = if self.is_newest_first(&self.kinds[turn]) { newest } else { oldest };
            if let Some(patience) = self.loses_patience(turn, oldest.since) {
                self.settle(oldest.id, Fate::Shed(Shed::Overdue(patience)));
            } else if next.deadline.is_some_and(|at| at <= self.now || at - self.now < self.needed) {
                self.settle(next.id, Fate::Shed(Shed::Late));
            } else {
                self.out += 1;
                let kind = self.kinds.remove(turn);
                self.kinds.push(kind);
                self.settle(next.id, Fate::Served);
            }
        }
    }

    /// How long the oldest of a kind might have waited, if it has for longer.
    fn loses_patience(&mut self, turn: usize, since: u64) -> Option<u64> {
        let waited = self.now.saturating_sub(since);
        let is_newest_first = self.is_newest_first(&self.kinds[turn]);
        let nanos = |time: Duration| time.as_nanos() as u64;
        let (patience, gives_up) = match self.discipline {
            Discipline::OldestFirst => return None,
            Discipline::AdaptiveLifo { target, .. } if is_newest_first => (nanos(target), true),
            Discipline::AdaptiveLifo { interval, .. } => (nanos(interval), true),
            Discipline::ControlledDelay { target, interval } => {
                let kind = &mut self.kinds[turn];
                let is_first = self.now > kind.interval_end;
                if is_first {
                    kind.interval_end = self.now + nanos(interval);
                    kind.overloaded = kind.min > nanos(target);
                    kind.min = waited;
                }
                kind.min = kind.min.min(waited);
                (2 * nanos(target), kind.overloaded && !is_first)
            }
        };
        (gives_up && waited > patience).then_some(patience)
    }
}
