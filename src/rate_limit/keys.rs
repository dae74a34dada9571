use std::hash::{BuildHasher, Hash, RandomState};

use super::config::Settings;
use super::state::{Refusal, Turn};
use super::store::Store;
use crate::sync::{Mutex, MutexGuard, lock};

/// A quota for each key, in parts with a lock for each.
///
/// Keys are known by their hash, which nobody outside can foresee: two keys of the same hash, one pair in a million times a
/// million keys, share a quota.
#[derive(Debug)]
pub(super) struct Keys {
    parts: Box<[Mutex<Store>]>,
    hasher: RandomState,
}

impl Keys {
    pub(super) fn new(settings: &Settings) -> Self {
        // So many keys to a part that chance fills all parts to about the same degree.
        const KEYS_IN_A_PART: usize = 256;
        const MOST_PARTS: usize = 16;
        let parts = (settings.max_keys / KEYS_IN_A_PART).clamp(1, MOST_PARTS);
        let part = |number| Mutex::new(Store::new(settings.rate, share(settings.max_keys, parts, number)));
        Self { parts: (0..parts).map(part).collect(), hasher: RandomState::new() }
    }

    pub(super) fn hash(&self, key: &impl Hash) -> u64 {
        self.hasher.hash_one(key)
    }

    fn part(&self, hash: u64) -> Option<MutexGuard<'_, Store>> {
        // Of bits that the tables make no use of.
        let place = (hash >> 32 & 0xffff).checked_rem(self.parts.len() as u64)?;
        self.parts.get(usize::try_from(place).ok()?).map(lock)
    }

    /// The turn, and how many keys more are held than before.
    pub(super) fn take(&self, hash: u64, cost: u32, now: u64, most: u64) -> (Result<Turn, Refusal>, Change) {
        let Some(mut part) = self.part(hash) else { return (Err(Refusal::Never), Change::default()) };
        let before = part.len();
        let turn = part.take(hash, cost, now, most);
        (turn, Change { before, after: part.len() })
    }

    pub(super) fn give_back(&self, hash: u64, turn: &Turn) {
        if let Some(mut part) = self.part(hash) {
            part.give_back(hash, turn);
        }
    }

    pub(super) fn reconfigure(&self, settings: &Settings, now: u64) {
        for (number, part) in self.parts.iter().enumerate() {
            let most = share(settings.max_keys, self.parts.len(), number);
            lock(part).reconfigure(settings.rate, most, now);
        }
    }

    pub(super) fn available(&self, hash: u64, now: u64) -> u32 {
        self.part(hash).map_or(0, |part| part.available(hash, now))
    }

    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| lock(part).len()).sum()
    }
}

/// How many keys a part held.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change {
    before: usize,
    after: usize,
}

impl Change {
    /// How many more it holds, if that is another number.
    pub(super) fn by(self) -> Option<i64> {
        let count = |keys| i64::try_from(keys).unwrap_or(i64::MAX);
        (self.before != self.after).then(|| count(self.after).saturating_sub(count(self.before)))
    }
}

/// The part's share of the keys, at least one.
const fn share(keys: usize, parts: usize, number: usize) -> usize {
    match (keys.checked_div(parts), keys.checked_rem(parts)) {
        (Some(each), Some(rest)) if each > 0 => each.saturating_add((number < rest) as usize),
        _ => 1,
    }
}
