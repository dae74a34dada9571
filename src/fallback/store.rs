//! The last answers, one for each key: so many at most, and none that is too old. Given the time.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use std::collections::HashMap;
use std::mem;
use std::time::Duration;

use crate::clock::Timestamp;

/// No slot: where the list ends.
const NONE: usize = usize::MAX;

/// Answers in slots, which are linked in the order in which they were stored, and found by the hash of their key.
///
/// By the hash and not by the key, so that the key is held once and need not be `Clone`. Two keys of the same hash take
/// the slot from one another, and neither gets the other's answer.
#[derive(Debug)]
pub(super) struct Store<Key, Res> {
    places: HashMap<u64, usize>,
    slots: Vec<Slot<Key, Res>>,
    oldest: usize,
    newest: usize,
    most: usize,
    max_age: Duration,
}

#[derive(Debug)]
struct Slot<Key, Res> {
    hash: u64,
    key: Key,
    answer: Res,
    at: Timestamp,
    /// The slots that were stored before and after it.
    older: usize,
    newer: usize,
}

impl<Key: Eq, Res> Store<Key, Res> {
    /// The answer for `key`, and its age at `now`.
    pub(super) fn get(&self, hash: u64, key: &Key, now: Timestamp) -> Option<(&Res, Duration)> {
        let slot = self.slots.get(*self.places.get(&hash)?)?;
        let age = now.since(slot.at);
        (age <= self.max_age && slot.key == *key).then_some((&slot.answer, age))
    }
}

impl<Key, Res> Store<Key, Res> {
    /// Holds `most` answers, at least one.
    pub(super) fn new(most: usize, max_age: Duration) -> Self {
        Self { places: HashMap::new(), slots: Vec::new(), oldest: NONE, newest: NONE, most, max_age }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Stores an answer. What it takes the place of is given back, to be dropped where no lock is held.
    #[must_use]
    pub(super) fn put(&mut self, hash: u64, key: Key, answer: Res, now: Timestamp) -> Option<(Key, Res)> {
        let place = match self.places.get(&hash) {
            Some(place) => *place,
            None => {
                let place = self.place_of_another(now);
                self.places.insert(hash, place);
                place
            }
        };
        self.unlink(place);
        let older = mem::replace(&mut self.newest, place);
        match self.slots.get_mut(older) {
            Some(slot) => slot.newer = place,
            None => self.oldest = place,
        }
        let slot = Slot { hash, key, answer, at: now, older, newer: NONE };
        match self.slots.get_mut(place) {
            Some(present) => {
                let Slot { key, answer, .. } = mem::replace(present, slot);
                Some((key, answer))
            }
            None => {
                self.slots.push(slot);
                None
            }
        }
    }

    /// Where to put the answer of a key that has none: in place of the oldest, if that is too old or there is no room
    /// beside it.
    fn place_of_another(&mut self, now: Timestamp) -> usize {
        match self.slots.get(self.oldest) {
            Some(oldest) if self.slots.len() >= self.most || now.since(oldest.at) > self.max_age => {
                self.places.remove(&oldest.hash);
                self.oldest
            }
            _ => self.slots.len(),
        }
    }

    /// Takes a slot, if there is one at `place`, out of the order.
    fn unlink(&mut self, place: usize) {
        let Some(&Slot { older, newer, .. }) = self.slots.get(place) else { return };
        match self.slots.get_mut(older) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
    }

    /// Forgets all answers. They are given back, to be dropped where no lock is held.
    #[must_use]
    pub(super) fn clear(&mut self) -> Self {
        mem::replace(self, Self::new(self.most, self.max_age))
    }
}
