use std::cmp::Reverse;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;

use super::discipline::{QueueDiscipline, Rotation};
use super::granted::{Granted, Sleeper};
use super::lane::{Lane, Waiter};
use super::parts::Part;
use crate::base::clock::Timestamp;
use crate::base::sync::planted;

/// What somebody asks who wants a permit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// Those of a higher class are served first.
    pub(crate) class: u8,
    /// Whose part of the limit it is about.
    pub(crate) part: Part,
    /// Those of a class are served tenant by tenant, one of each.
    pub(crate) tenant: u64,
    /// Until when the permit is worth something. [`Timestamp::NEVER`]: always.
    pub(crate) deadline: Timestamp,
    /// Until when it waits. [`Timestamp::NEVER`]: for as long as it takes.
    pub(crate) until: Timestamp,
}

/// Why one who waited was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shed {
    /// The queue was full, and another came first; or there can be no room for it any more.
    Displaced,
    /// It waited for longer than so many nanoseconds, which is too long while so many come.
    Overdue(u64),
    /// It could not have been done in time.
    Late,
    /// It was not polled when it had waited for as long as it may.
    Expired,
}

/// A place in a queue, given out once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket {
    lane: LaneKey,
    number: u64,
}

impl Ticket {
    pub(super) const fn lane(self) -> LaneKey {
        self.lane
    }
}

/// What those in a lane have in common: the class, the part of the limit and the tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneKey(u8, Part, u64);

impl LaneKey {
    const fn of(ask: &Ask) -> Self {
        Self(ask.class, ask.part, ask.tenant)
    }

    pub(super) const fn class(self) -> u8 {
        self.0
    }

    pub(super) const fn part(self) -> Part {
        self.1
    }

    const fn rotation(self) -> (u8, Part) {
        (self.0, self.1)
    }
}

/// How things stand for somebody with a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    Waits,
    Served,
    Shed(Shed),
    /// The grant was not claimed in time, and has gone to another.
    Asleep,
}

/// Those who wait, in a lane for each class, part of the limit and tenant. Who has a ticket that is not here has been served.
#[derive(Debug)]
pub(super) struct Queue {
    lanes: BTreeMap<LaneKey, Lane>,
    /// The lanes of each part in the order in which they are served: by class, and then in turn.
    turns: BTreeSet<(Part, Reverse<u8>, u64, LaneKey)>,
    /// The lanes in the order in which they lose somebody if the queue is full: the lowest class, and of that the longest.
    lengths: BTreeSet<(u8, Reverse<usize>, LaneKey)>,
    /// Until when those wait who do not wait for ever, the first that leaves first.
    untils: BTreeSet<(Timestamp, Ticket)>,
    /// The lanes of each class and part together.
    rotations: BTreeMap<(u8, Part), Rotation>,
    /// Those who were turned away, and have not asked since. Each is in the hands of somebody.
    shed: BTreeMap<Ticket, Shed>,
    granted: Granted,
    /// All who wait.
    len: usize,
    max: usize,
    discipline: QueueDiscipline,
    /// One each nanosecond lasts for five hundred years.
    numbers: u64,
}

impl Queue {
    pub(super) const fn new(max: usize, discipline: QueueDiscipline) -> Self {
        Self {
            lanes: BTreeMap::new(),
            turns: BTreeSet::new(),
            lengths: BTreeSet::new(),
            untils: BTreeSet::new(),
            rotations: BTreeMap::new(),
            shed: BTreeMap::new(),
            granted: Granted::new(),
            len: 0,
            max,
            discipline,
            numbers: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// All who wait, and those who will again when they are polled.
    pub(super) fn len_with_sleepers(&self) -> usize {
        self.len.saturating_add(self.granted.asleep())
    }

    pub(super) const fn reconfigure(&mut self, max: usize, discipline: QueueDiscipline) {
        (self.max, self.discipline) = (max, discipline);
    }

    const fn number(&mut self) -> u64 {
        self.numbers = self.numbers.saturating_add(1);
        self.numbers
    }

    /// Whether nobody who waits comes before one who asks now.
    pub(super) fn is_next(&self, ask: &Ask) -> bool {
        self.lanes.last_key_value().is_none_or(|(highest, _)| highest.class() < ask.class)
    }

    /// The same, of those of its part.
    pub(super) fn is_next_of_part(&self, ask: &Ask) -> bool {
        self.first_from(ask.part)
            .is_none_or(|(first, Reverse(highest), ..)| *first != ask.part || *highest < ask.class)
    }

    /// Returns `true` if as many wait as may.
    pub(super) const fn is_full(&self) -> bool {
        self.len >= self.max
    }

    /// Whether one who asks now may wait.
    pub(super) fn has_place(&self, ask: &Ask, now: Timestamp) -> bool {
        !self.is_full() || self.displaced(ask, now).is_some()
    }

    /// Who has to leave for one who asks now: as if that one had joined, and then the longest lane of the lowest class lost
    /// whoever would be served last. None, if that is the one who asks.
    fn displaced(&self, ask: &Ask, now: Timestamp) -> Option<Ticket> {
        let (class, Reverse(longest), lane) = *self.lengths.first()?;
        let own = LaneKey::of(ask);
        let own_length = self.lanes.get(&own).map_or(0, Lane::len).saturating_add(1);
        let loser = match class {
            lowest if lowest > ask.class => return None,
            lowest if lowest == ask.class && own_length >= longest => own,
            _ => lane,
        };
        let waiting = self.lanes.get(&loser)?;
        let last = waiting.last(self.discipline, self.is_overloaded(loser), now);
        let number = if loser == own { last } else { last.or_else(|| waiting.newest()) };
        number.map(|number| Ticket { lane: loser, number })
    }

    /// Takes a place, if there is one, and says who was displaced.
    pub(super) fn enter(&mut self, ask: &Ask, now: Timestamp) -> Option<(Ticket, Option<Waker>)> {
        let loser = if self.is_full() { Some(self.displaced(ask, now)?) } else { None };
        let ticket = Ticket { lane: LaneKey::of(ask), number: self.number() };
        self.insert(ticket, Waiter::new(ask, now), None, now);
        // Afterwards, since a lane that is empty is forgotten, and this one is not empty for a
        // moment.
        let displaced = loser.and_then(|loser| self.turn_away(loser, Shed::Displaced));
        Some((ticket, displaced))
    }

    /// Lets a waiter wait, in a lane that is served at the latest at the turn that it had `before`.
    fn insert(&mut self, ticket: Ticket, waiter: Waiter, before: Option<u64>, now: Timestamp) {
        let Ticket { lane: key, number } = ticket;
        if waiter.until != Timestamp::NEVER {
            self.untils.insert((waiter.until, ticket));
        }
        if !self.lanes.contains_key(&key) {
            let rotation = self.rotations.entry(key.rotation()).or_insert_with(|| Rotation::new(now));
            rotation.lanes = rotation.lanes.saturating_add(1);
        }
        self.change(key, |lane, turn| {
            let lane = lane.get_or_insert_with(|| Lane::new(turn, now));
            lane.turn = before.map_or(lane.turn, |before| before.min(lane.turn));
            lane.insert(number, waiter);
        });
        self.len = self.len.saturating_add(1);
    }

    /// Changes a lane, which may not be there, before or afterwards, and keeps its place in the orders. It is given a turn
    /// that comes after all others.
    fn change<T>(&mut self, key: LaneKey, change: impl FnOnce(&mut Option<Lane>, u64) -> T) -> T {
        let turn = self.number();
        let mut lane = self.lanes.remove(&key);
        if let Some(lane) = &lane {
            self.turns.remove(&(key.part(), Reverse(key.class()), lane.turn, key));
            self.lengths.remove(&(key.class(), Reverse(lane.len()), key));
        }
        let was_there = lane.is_some();
        let changed = change(&mut lane, turn);
        let lane = lane.filter(|lane| lane.len() > 0);
        if was_there && lane.is_none() {
            self.leave_rotation(key);
        }
        if let Some(lane) = lane {
            self.turns.insert((key.part(), Reverse(key.class()), lane.turn, key));
            self.lengths.insert((key.class(), Reverse(lane.len()), key));
            self.lanes.insert(key, lane);
        }
        changed
    }

    fn leave_rotation(&mut self, key: LaneKey) {
        if let Entry::Occupied(mut rotation) = self.rotations.entry(key.rotation()) {
            rotation.get_mut().lanes = rotation.get().lanes.saturating_sub(1);
            if rotation.get().lanes == 0 {
                rotation.remove();
            }
        }
    }

    /// Whether all lanes of the class and part of this one wait too long for their turn.
    fn is_overloaded(&self, key: LaneKey) -> bool {
        self.rotations.get(&key.rotation()).is_some_and(Rotation::is_overloaded)
    }

    /// Has `waker` woken when something has become of it; what is left in `waker` is of no use any more.
    pub(super) fn wait(&mut self, ticket: Ticket, waker: &mut Option<Waker>) -> Stand {
        let waiter = self.lanes.get_mut(&ticket.lane).and_then(|lane| lane.get_mut(ticket.number));
        if let Some(waiter) = waiter {
            std::mem::swap(&mut waiter.waker, waker);
            return Stand::Waits;
        }
        if self.granted.is_asleep(ticket) {
            return Stand::Asleep;
        }
        self.granted.claim(ticket);
        self.shed.remove(&ticket).map_or(Stand::Served, Stand::Shed)
    }

    /// Lets one who slept wait again, in the place that it had.
    pub(super) fn wake_up(&mut self, ticket: Ticket, now: Timestamp) {
        if let Some(Sleeper { waiter, turn }) = self.granted.wake_up(ticket) {
            self.insert(ticket, waiter, Some(turn), now);
        }
    }

    pub(super) fn is_overdue(&self, now: Timestamp) -> bool {
        self.granted.are_overdue(now)
    }

    pub(super) fn grants_are_claimed(&self) -> bool {
        self.granted.are_claimed()
    }

    /// When to look for a grant that has to go to the next waiter, if one waits.
    pub(super) fn looks_at(&self) -> Option<Timestamp> {
        self.granted.overdue_at().filter(|_| self.len > 0)
    }

    /// Takes back a grant that was not claimed in time.
    pub(super) fn take_back(&mut self, now: Timestamp) -> Option<Ticket> {
        self.granted.take_back(now)
    }

    /// Gives up a place, or takes leave of having been turned away; `None` if it was served already. The waker is not
    /// dropped here.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Option<Waker>> {
        let slept = |queue: &mut Self| queue.granted.wake_up(ticket).map(|sleeper| sleeper.waiter);
        if let Some(waiter) = self.remove(ticket, |_, _| {}).or_else(|| slept(self)) {
            return Some(waiter.waker);
        }
        self.granted.claim(ticket);
        self.shed.remove(&ticket).map(|_| None)
    }

    fn remove(&mut self, ticket: Ticket, then: impl FnOnce(&mut Lane, u64)) -> Option<Waiter> {
        let waiter = self.change(ticket.lane, |lane, turn| {
            let lane = lane.as_mut()?;
            let waiter = lane.remove(ticket.number)?;
            then(lane, turn);
            Some(waiter)
        })?;
        self.untils.remove(&(waiter.until, ticket));
        self.len = self.len.saturating_sub(1);
        Some(waiter)
    }

    fn turn_away(&mut self, ticket: Ticket, why: Shed) -> Option<Waker> {
        let waker = self.remove(ticket, |_, _| {})?.waker;
        if !planted!("shed_unseen") {
            self.shed.insert(ticket, why);
        }
        waker
    }

    /// Turns away all who have waited for as long as they may: the wakers of those who have been polled.
    pub(super) fn turn_away_expired(&mut self, now: Timestamp) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while let Some((_, ticket)) = self.untils.first().copied().filter(|(until, _)| *until <= now) {
            wakers.extend(self.turn_away(ticket, Shed::Expired));
        }
        wakers
    }

    /// Turns away all of the lanes that `is_hopeless` says: the wakers of those who have been
    /// polled.
    pub(super) fn turn_away_all(&mut self, is_hopeless: impl Fn(Part, u8) -> bool) -> Vec<Waker> {
        let hopeless = |lane: &&LaneKey| is_hopeless(lane.part(), lane.class());
        let lanes: Vec<_> = self.lanes.keys().filter(hopeless).copied().collect();
        let mut wakers = Vec::new();
        for lane in lanes {
            while let Some(number) = self.lanes.get(&lane).and_then(Lane::newest) {
                wakers.extend(self.turn_away(Ticket { lane, number }, Shed::Displaced));
            }
        }
        wakers
    }

    /// The first lane of a part, or of the next one that has any.
    fn first_from(&self, part: Part) -> Option<&(Part, Reverse<u8>, u64, LaneKey)> {
        self.turns.range((part, Reverse(u8::MAX), 0, LaneKey(0, Part::NONE, 0))..).next()
    }

    /// The lane that is served next: of the highest class and in turn, of those for whose part and class there is room. If
    /// there is none for the first of a part, there is none for the others of it.
    pub(super) fn next_lane(&self, has_room: impl Fn(Part, u8) -> bool) -> Option<LaneKey> {
        let next_part = |(part, ..): &&(Part, _, _, _)| self.first_from(part.next()?);
        std::iter::successors(self.turns.first(), next_part)
            .filter(|(part, Reverse(class), ..)| has_room(*part, *class))
            .min_by_key(|(_, class, turn, _)| (*class, *turn))
            .map(|(.., lane)| *lane)
    }

    /// Turns away one who is in the way of the next of a lane; the waker, if there was such a one and it has been polled.
    pub(super) fn shed_next(&mut self, lane: LaneKey, now: Timestamp, needed: u64) -> Option<Option<Waker>> {
        let all_late = self.is_overloaded(lane);
        let (number, why) = self.lanes.get_mut(&lane)?.shed(self.discipline, all_late, now, needed)?;
        Some(self.turn_away(Ticket { lane, number }, why))
    }

    /// Serves the next one of a lane: its waker, if it has been polled. The lane is the last of its class then.
    pub(super) fn take_next(&mut self, lane: LaneKey, now: Timestamp) -> Option<Waker> {
        let next = self.lanes.get(&lane)?;
        let number = next.next(self.discipline, self.is_overloaded(lane), now)?;
        if let Some(rotation) = self.rotations.get_mut(&lane.rotation()) {
            rotation.serves(self.discipline, next.turn_since, now);
        }
        let (ticket, turn) = (Ticket { lane, number }, next.turn);
        let waiter = self.remove(ticket, |lane, turn| (lane.turn, lane.turn_since) = (turn, now))?;
        self.granted.grant(ticket, Sleeper { waiter, turn }, now)
    }
}
