//! A bounded store of responses by key, which expire. Callers pass the current time.
//!
//! It runs under a lock, so it never calls user code. Lookups return a reference-counted entry, and
//! the caller compares the key and clones the response outside of the lock.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::base::clock::Timestamp;

/// The index of no slot, at both ends of the list.
const NONE: usize = usize::MAX;

/// The stored responses, in slots that form a list in the order of storing, with an index by the
/// hash of the key.
///
/// ```text
///   places: hash -> slot          oldest                       newest
///                                   │                             │
///   slots:                       [ slot ] <─older─ newer─> ... [ slot ]
/// ```
///
/// The index holds hashes, so that each key is stored once and need not be `Clone`. If two keys
/// have the same hash, the later one replaces the earlier one, and neither receives the other's
/// response.
#[derive(Debug)]
pub(super) struct Store<Key, Res> {
    places: HashMap<u64, usize>,
    slots: Vec<Slot<Key, Res>>,
    oldest: usize,
    newest: usize,
    max_len: usize,
    max_age: Duration,
}

#[derive(Debug)]
struct Slot<Key, Res> {
    hash: u64,
    held: Arc<(Key, Res)>,
    at: Timestamp,
    /// The slots before and after this one in the order of storing.
    older: usize,
    newer: usize,
}

/// The previous content of a slot. It must be dropped outside of the lock, since that runs user
/// code.
#[derive(Debug)]
#[allow(dead_code, reason = "it is only dropped")]
pub(super) enum Replaced<Key, Res> {
    Nothing,
    Content(Key, Res),
    /// A caller still holds a reference to the entry.
    Held(Arc<(Key, Res)>),
}

impl<Key, Res> Store<Key, Res> {
    /// Creates a store for `max_len` responses, at least one.
    pub(super) fn new(max_len: usize, max_age: Duration) -> Self {
        Self { places: HashMap::new(), slots: Vec::new(), oldest: NONE, newest: NONE, max_len, max_age }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns the entry for this hash and its age at `now`, unless it has expired.
    pub(super) fn get(&self, hash: u64, now: Timestamp) -> Option<(Arc<(Key, Res)>, Duration)> {
        let slot = self.slots.get(*self.places.get(&hash)?)?;
        let age = now.since(slot.at);
        (age <= self.max_age).then(|| (Arc::clone(&slot.held), age))
    }

    /// Stores a response. Allocates nothing if it replaces an entry to which no caller holds a
    /// reference.
    #[must_use]
    pub(super) fn put(&mut self, hash: u64, key: Key, answer: Res, now: Timestamp) -> Replaced<Key, Res> {
        let place = match self.places.get(&hash) {
            Some(place) => *place,
            None => {
                let place = self.free_place(now);
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
        let Some(slot) = self.slots.get_mut(place) else {
            self.slots.push(Slot { hash, held: Arc::new((key, answer)), at: now, older, newer: NONE });
            return Replaced::Nothing;
        };
        (slot.hash, slot.at, slot.older, slot.newer) = (hash, now, older, NONE);
        match Arc::get_mut(&mut slot.held) {
            Some(held) => {
                let (key, answer) = mem::replace(held, (key, answer));
                Replaced::Content(key, answer)
            }
            None => Replaced::Held(mem::replace(&mut slot.held, Arc::new((key, answer)))),
        }
    }

    /// Returns the slot for a new hash: the oldest one if it has expired or the store is full,
    /// otherwise a new one.
    fn free_place(&mut self, now: Timestamp) -> usize {
        match self.slots.get(self.oldest) {
            Some(oldest) if self.slots.len() >= self.max_len || now.since(oldest.at) > self.max_age => {
                self.places.remove(&oldest.hash);
                self.oldest
            }
            _ => self.slots.len(),
        }
    }

    /// Takes the slot at `place`, if there is one, out of the list.
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
        mem::replace(self, Self::new(self.max_len, self.max_age))
    }
}
