//! One quota for all calls, in one word.
//!
//! ```text
//! word    [arrival | generation]     62 and 2 bits, changed by compare-and-swap only
//! rates   one for each generation
//! ```
//!
//! A word tells which rate it is of, so a change of the rate and of what was used are one step, and a call that has
//! read the old rate finds another word. A thread that rests between two instructions for four changes may take
//! the new rate for the old one, for one call.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use super::state::{Rate, Refusal, Turn};
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

const BITS: u32 = 2;
const GENERATIONS: usize = 1 << BITS;
const GENERATION: u64 = (1 << BITS) - 1;

/// On cache lines of its own: what else the calls share is only read.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Word {
    word: AtomicU64,
    rates: [Published; GENERATIONS],
    changing: Mutex<()>,
}

#[derive(Debug)]
struct Published {
    interval: AtomicU64,
    burst: AtomicU64,
}

#[derive(Clone, Copy)]
struct Unpacked {
    arrival: u64,
    generation: u64,
}

impl Unpacked {
    #[inline]
    const fn of(word: u64) -> Self {
        Self { arrival: word >> BITS, generation: word & GENERATION }
    }

    /// An arrival is never after [`Rate::LAST`].
    #[inline]
    const fn pack(self) -> u64 {
        self.arrival << BITS | self.generation
    }

    #[inline]
    const fn with(self, arrival: u64) -> u64 {
        Self { arrival, generation: self.generation }.pack()
    }

    const fn next(self) -> u64 {
        self.generation.wrapping_add(1) & GENERATION
    }
}

impl Word {
    pub(super) fn new(rate: Rate) -> Self {
        let published =
            || Published { interval: AtomicU64::new(rate.interval), burst: AtomicU64::new(rate.burst) };
        Self {
            word: AtomicU64::new(0),
            rates: std::array::from_fn(|_| published()),
            changing: Mutex::new(()),
        }
    }

    #[inline]
    fn rate(&self, generation: u64) -> Rate {
        let [first, ..] = &self.rates;
        // There is one for each: nothing is compared.
        let published = usize::try_from(generation).ok().and_then(|place| self.rates.get(place));
        let published = published.unwrap_or(first);
        Rate {
            interval: published.interval.load(Ordering::Relaxed),
            burst: published.burst.load(Ordering::Relaxed),
        }
    }

    #[inline]
    pub(super) fn take(&self, cost: u32, now: u64, most: u64) -> Result<Turn, Refusal> {
        let mut seen = self.word.load(Ordering::Acquire);
        loop {
            let unpacked = Unpacked::of(seen);
            let turn = self.rate(unpacked.generation).ask(unpacked.arrival, cost, now, most)?;
            match self.change(seen, unpacked.with(turn.with)) {
                Ok(_) => return Ok(turn),
                Err(changed) => seen = changed,
            }
        }
    }

    #[inline]
    fn change(&self, from: u64, to: u64) -> Result<u64, u64> {
        if cfg!(stanchion_planted_bug = "turn_taken_twice") {
            self.word.store(to, Ordering::Release);
            return Ok(from);
        }
        self.word.compare_exchange_weak(from, to, Ordering::AcqRel, Ordering::Acquire)
    }

    /// Takes a turn back that was not used, if it is the last one that was taken.
    pub(super) fn give_back(&self, turn: &Turn) {
        let mut seen = self.word.load(Ordering::Acquire);
        while Unpacked::of(seen).arrival == turn.with {
            match self.change(seen, Unpacked::of(seen).with(turn.without)) {
                Ok(_) => return,
                Err(changed) => seen = changed,
            }
        }
    }

    pub(super) fn reconfigure(&self, rate: Rate, now: u64) {
        let changing = lock(&self.changing);
        let mut seen = self.word.load(Ordering::Acquire);
        // Others change the arrival, and only who holds the lock the generation.
        let next = Unpacked::of(seen).next();
        let old = self.rate(Unpacked::of(seen).generation);
        if let Some(published) = usize::try_from(next).ok().and_then(|next| self.rates.get(next)) {
            published.interval.store(rate.interval, Ordering::Relaxed);
            published.burst.store(rate.burst, Ordering::Relaxed);
        }
        loop {
            let arrival = rate.take_over(old, Unpacked::of(seen).arrival, now);
            let changed = Unpacked { arrival, generation: next }.pack();
            if cfg!(stanchion_planted_bug = "quota_change_forgets_a_call") {
                self.word.store(changed, Ordering::Release);
                break;
            }
            match self.word.compare_exchange_weak(seen, changed, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(changed) => seen = changed,
            }
        }
        drop(changing);
    }

    pub(super) fn available(&self, now: u64) -> u32 {
        let seen = Unpacked::of(self.word.load(Ordering::Acquire));
        self.rate(seen.generation).available(seen.arrival, now)
    }
}
