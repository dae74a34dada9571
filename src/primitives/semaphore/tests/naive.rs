//! The whole queue as lists: written to be read, and not by what it is compared with.

use std::time::Duration;

use crate::primitives::semaphore::{QueueDiscipline, Shed};

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
    turn_since: u64,
    waits: Folly,
}

/// What folly remembers.
#[derive(Clone, Debug)]
struct Folly {
    interval_end: u64,
    min: u64,
    overloaded: bool,
}

impl Folly {
    fn new(now: u64) -> Self {
        Self { interval_end: now, min: 0, overloaded: false }
    }

    /// Whether this is the first wait of an interval.
    fn record(&mut self, now: u64, waited: u64, target: u64, interval: u64) -> bool {
        let is_first = now > self.interval_end;
        if is_first {
            self.interval_end = now + interval;
            self.overloaded = self.min > target;
            self.min = waited;
        }
        self.min = self.min.min(waited);
        is_first
    }
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

/// What there should be.
pub(super) struct Naive {
    pub(super) now: u64,
    pub(super) needed: u64,
    pub(super) limit: u64,
    pub(super) shares: [u64; 3],
    pub(super) max: usize,
    pub(super) discipline: QueueDiscipline,
    /// The permits that are out.
    pub(super) out: u64,
    /// All who wait, in the order in which they came.
    pub(super) waiting: Vec<Somebody>,
    /// In the order in which they are served.
    kinds: Vec<Kind>,
    /// The classes of which somebody waits, and how long lanes of each wait for their turn.
    classes: Vec<(u8, Folly)>,
    /// Of all who ever waited.
    pub(super) fates: Vec<Fate>,
}

impl Naive {
    pub(super) fn new(limit: u32, max: usize, discipline: QueueDiscipline) -> Self {
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
            classes: Vec::new(),
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

    fn is_overloaded(&self, class: u8) -> bool {
        self.classes.iter().any(|(other, turns)| *other == class && turns.overloaded)
    }

    fn is_newest_first(&self, kind: &Kind) -> bool {
        match self.discipline {
            QueueDiscipline::AdaptiveLifo { interval, .. } => {
                u128::from(self.now.saturating_sub(kind.busy_since)) > interval.as_nanos()
                    || self.is_overloaded(kind.class)
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
        self.classes.retain(|(class, _)| waiting.iter().any(|who| who.class == *class));
    }

    /// For somebody who asks.
    pub(super) fn enter(&mut self, class: u8, tenant: u64, deadline: Option<u64>) -> Option<Fate> {
        if self.is_there_room(class) && self.waiting.iter().all(|who| who.class < class) {
            self.out += 1;
            return Some(Fate::Served);
        }
        let id = self.fates.len();
        let before = (self.waiting.clone(), self.kinds.clone(), self.classes.clone());
        self.fates.push(Fate::Waits);
        self.waiting.push(Somebody { id, class, tenant, since: self.now, deadline });
        if !self.kinds.iter().any(|kind| (kind.class, kind.tenant) == (class, tenant)) {
            let (busy_since, turn_since, waits) = (self.now, self.now, Folly::new(self.now));
            self.kinds.push(Kind { class, tenant, busy_since, turn_since, waits });
        }
        if !self.classes.iter().any(|(other, _)| *other == class) {
            self.classes.push((class, Folly::new(self.now)));
        }
        if before.0.len() >= self.max {
            let loser = self.loser(class, tenant);
            if loser == id {
                (self.waiting, self.kinds, self.classes) = before;
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
                self.takes_turn(&kind);
                self.kinds.push(Kind { turn_since: self.now, ..kind });
                self.settle(next.id, Fate::Served);
            }
        }
    }

    fn takes_turn(&mut self, kind: &Kind) {
        let (target, interval) = match self.discipline {
            QueueDiscipline::AdaptiveLifo { target, interval } => (nanos(target) / 2, nanos(interval)),
            QueueDiscipline::ControlledDelay { target, interval } => (nanos(target), nanos(interval)),
            _ => return,
        };
        let (_, turns) = self.classes.iter_mut().find(|(class, _)| *class == kind.class).unwrap();
        turns.record(self.now, self.now.saturating_sub(kind.turn_since), target, interval);
    }

    /// How long the oldest of a kind might have waited, if it has for longer.
    fn loses_patience(&mut self, turn: usize, since: u64) -> Option<u64> {
        let waited = self.now.saturating_sub(since);
        let is_newest_first = self.is_newest_first(&self.kinds[turn]);
        let is_overloaded = self.is_overloaded(self.kinds[turn].class);
        let (patience, gives_up) = match self.discipline {
            QueueDiscipline::OldestFirst => return None,
            QueueDiscipline::AdaptiveLifo { target, .. } if is_newest_first => (nanos(target), true),
            QueueDiscipline::AdaptiveLifo { interval, .. } => (nanos(interval), true),
            QueueDiscipline::ControlledDelay { target, interval } => {
                let waits = &mut self.kinds[turn].waits;
                let is_first = waits.record(self.now, waited, nanos(target), nanos(interval));
                (2 * nanos(target), is_overloaded || waits.overloaded && !is_first)
            }
        };
        (gives_up && waited > patience).then_some(patience)
    }
}
