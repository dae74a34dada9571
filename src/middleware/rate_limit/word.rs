//! One quota for all calls, in one word.
//!
//! ```text
//! word    [arrival | generation]     62 and 2 bits, changed by compare-and-swap only
//! rates   one for each generation, with the moment at which its calls begin
//! ```
//!
//! A word tells which rate it is of, so a change of the rate and of what was used are one step, and a call that has
//! read the old rate finds another word. A thread that rests between two instructions for four changes may take
//! the new rate for the old one, for one call.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

use super::state::{Rate, Refusal, Turn, Used};
use crate::base::sync::planted;
use crate::base::sync::{AtomicU64, Mutex, Ordering, lock};

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
    opens: AtomicU64,
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
        let published = || Published {
            interval: AtomicU64::new(rate.interval),
            burst: AtomicU64::new(rate.burst),
            opens: AtomicU64::new(0),
        };
        Self {
            word: AtomicU64::new(0),
            rates: std::array::from_fn(|_| published()),
            changing: Mutex::new(()),
        }
    }

    #[inline]
    fn published(&self, generation: u64) -> &Published {
        let [first, ..] = &self.rates;
        // There is one for each: nothing is compared.
        usize::try_from(generation).ok().and_then(|place| self.rates.get(place)).unwrap_or(first)
    }

    /// The rate that a word is of, and what was used of it.
    #[inline]
    fn read(&self, word: u64) -> (Rate, Used) {
        let Unpacked { arrival, generation } = Unpacked::of(word);
        let published = self.published(generation);
        let rate = Rate {
            interval: published.interval.load(Ordering::Relaxed),
            burst: published.burst.load(Ordering::Relaxed),
        };
        (rate, Used { arrival, opens: published.opens.load(Ordering::Relaxed) })
    }

    #[inline]
    pub(super) fn take(&self, cost: u32, now: u64, most: u64) -> Result<Turn, Refusal> {
        let mut seen = self.word.load(Ordering::Acquire);
        loop {
            let (rate, used) = self.read(seen);
            let turn = rate.ask(used, cost, now, most)?;
            match self.change(seen, Unpacked::of(seen).with(turn.with)) {
                Ok(_) => return Ok(turn),
                Err(changed) => seen = changed,
            }
        }
    }

    #[inline]
    fn change(&self, from: u64, to: u64) -> Result<u64, u64> {
        if planted!("turn_taken_twice") {
            self.word.store(to, Ordering::Release);
            return Ok(from);
        }
        self.word.compare_exchange_weak(from, to, Ordering::AcqRel, Ordering::Acquire)
    }

    /// Takes a turn back that was not used, if it is the last one that was taken.
    pub(super) fn give_back(&self, turn: &Turn) {
        let mut seen = self.word.load(Ordering::Acquire);
        while Unpacked::of(seen).arrival == turn.with {
            // The arrival is the same, and so is the rate; what turns that were given before it have left stays.
            let (_, Used { opens, .. }) = self.read(seen);
            match self.change(seen, Unpacked::of(seen).with(turn.without.max(opens))) {
                Ok(_) => return,
                Err(changed) => seen = changed,
            }
        }
    }

    pub(super) fn reconfigure(&self, rate: Rate, now: u64) {
        let changing = lock(&self.changing);
        let mut seen = self.word.load(Ordering::Acquire);
        if self.read(seen).0 == rate {
            return;
        }
        // Others change the arrival, and only who holds the lock the generation.
        let next = Unpacked::of(seen).next();
        let published = self.published(next);
        published.interval.store(rate.interval, Ordering::Relaxed);
        published.burst.store(rate.burst, Ordering::Relaxed);
        let mut is_told = false;
        loop {
            let (old, used) = self.read(seen);
            let taken_over = rate.take_over(old, used, now);
            if !(is_told && planted!("turn_overtaken_after_a_change")) {
                published.opens.store(taken_over.opens, Ordering::Relaxed);
                is_told = true;
            }
            let changed = Unpacked { arrival: taken_over.arrival, generation: next }.pack();
            if planted!("quota_change_forgets_a_call") {
                self.word.store(changed, Ordering::Release);
                break;
            }
            // Publishes the rate and the moment: `take` acquires the word that tells where they are.
            match self.word.compare_exchange_weak(seen, changed, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(changed) => seen = changed,
            }
        }
        drop(changing);
    }

    pub(super) fn available(&self, now: u64) -> u32 {
        let (rate, used) = self.read(self.word.load(Ordering::Acquire));
        rate.available(used, now)
    }
}
