//! The edge of the state: what is asked of the quotas, and where it is kept what was used of them.

use std::hash::Hash;

use super::config::Settings;
use super::keys::{Change, Keys};
use super::state::{Refusal, Turn};
use super::word::Word;

/// A call that wants a turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    /// The [hash](Local::hash) of its key.
    pub(super) key: u64,
    /// At least 1.
    pub(super) cost: u32,
    pub(super) now: u64,
}

/// Knows what was used of the quotas. Nothing else of a rate limit does, and plain numbers go in and come out: a store that
/// several machines share can be one more.
pub(super) trait Quotas {
    /// Takes a turn that comes in no more than `most` nanoseconds. Also says whether other keys are held than before.
    fn take(&self, ask: Ask, most: u64) -> (Result<Turn, Refusal>, Change);

    /// Takes back a turn that was not used.
    fn give_back(&self, key: u64, turn: &Turn);

    fn reconfigure(&self, settings: &Settings, now: u64);

    /// The largest cost that may be paid now.
    fn available(&self, key: u64, now: u64) -> u32;

    /// How many keys are held.
    fn keys(&self) -> usize;
}

impl Quotas for Word {
    #[inline]
    fn take(&self, ask: Ask, most: u64) -> (Result<Turn, Refusal>, Change) {
        (self.take(ask.cost, ask.now, most), Change::NONE)
    }

    fn give_back(&self, _: u64, turn: &Turn) {
        self.give_back(turn);
    }

    fn reconfigure(&self, settings: &Settings, now: u64) {
        self.reconfigure(settings.rate, now);
    }

    fn available(&self, _: u64, now: u64) -> u32 {
        self.available(now)
    }

    fn keys(&self) -> usize {
        0
    }
}

/// Quotas of this process: one for all calls, or one for each key.
#[derive(Debug)]
pub(super) enum Local {
    One(Word),
    ByKey(Keys),
}

impl Local {
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
}

/// Not by a pointer: the call of one that is known can be inlined.
macro_rules! whichever {
    ($local:expr, $method:ident($($argument:expr),*)) => {
        match $local {
            Local::One(word) => Quotas::$method(word, $($argument),*),
            Local::ByKey(keys) => Quotas::$method(keys, $($argument),*),
        }
    };
}

impl Quotas for Local {
    #[inline]
    fn take(&self, ask: Ask, most: u64) -> (Result<Turn, Refusal>, Change) {
        whichever!(self, take(ask, most))
    }

    fn give_back(&self, key: u64, turn: &Turn) {
        whichever!(self, give_back(key, turn));
    }

    fn reconfigure(&self, settings: &Settings, now: u64) {
        whichever!(self, reconfigure(settings, now));
    }

    fn available(&self, key: u64, now: u64) -> u32 {
        whichever!(self, available(key, now))
    }

    fn keys(&self) -> usize {
        whichever!(self, keys())
    }
}
