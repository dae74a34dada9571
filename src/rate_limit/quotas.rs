//! The edge of the state: what is asked of the quotas, and where it is kept what was used of them.
//!
//! Plain numbers go in and come out, so a store that several machines share can be a third kind.

use std::hash::Hash;

use super::config::Settings;
use super::keys::{Change, Keys};
use super::state::{Refusal, Turn};
use super::word::Word;

/// A call that wants a turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    /// The [hash](Quotas::hash) of its key.
    pub(super) key: u64,
    /// At least 1.
    pub(super) cost: u32,
    pub(super) now: u64,
}

#[derive(Debug)]
pub(super) enum Quotas {
    One(Word),
    ByKey(Keys),
}

impl Quotas {
    pub(super) fn new(settings: &Settings, is_keyed: bool) -> Self {
        if is_keyed { Self::ByKey(Keys::new(settings)) } else { Self::One(Word::new(settings.rate)) }
    }

    #[inline]
    pub(super) fn hash(&self, key: &impl Hash) -> u64 {
        match self {
            Self::One(_) => 0,
            Self::ByKey(keys) => keys.hash(key),
        }
    }

    /// Takes a turn that comes in no more than `most` nanoseconds. Also says whether other keys are held than before.
    #[inline]
    pub(super) fn take(&self, ask: Ask, most: u64) -> (Result<Turn, Refusal>, Change) {
        match self {
            Self::One(word) => (word.take(ask.cost, ask.now, most), Change::NONE),
            Self::ByKey(keys) => keys.take(ask, most),
        }
    }

    /// Takes back a turn that was not used.
    pub(super) fn give_back(&self, key: u64, turn: &Turn) {
        match self {
            Self::One(word) => word.give_back(turn),
            Self::ByKey(keys) => keys.give_back(key, turn),
        }
    }

    pub(super) fn reconfigure(&self, settings: &Settings, now: u64) {
        match self {
            Self::One(word) => word.reconfigure(settings.rate, now),
            Self::ByKey(keys) => keys.reconfigure(settings, now),
        }
    }

    /// The largest cost that may be paid now.
    pub(super) fn available(&self, key: u64, now: u64) -> u32 {
        match self {
            Self::One(word) => word.available(now),
            Self::ByKey(keys) => keys.available(key, now),
        }
    }

    /// How many keys are held.
    pub(super) fn keys(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::ByKey(keys) => keys.len(),
        }
    }
}
