//! The state of a circuit in one word, and numbers that belong to one of its generations.

use super::pass::Pass;
use super::transition::State;
use crate::base::sync::planted;
use crate::base::sync::{AtomicU64, Ordering};

/// `[generation, of which 40 bits are used | state 3]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) generation: u64,
    pub(super) state: State,
}

impl Word {
    pub(super) const STATE_BITS: u32 = 3;
    pub(super) const STATE: u64 = (1 << Self::STATE_BITS) - 1;
    /// No more than a [`Pass`] can carry.
    pub(super) const GENERATIONS: u64 = Pass::LAST_GENERATION;

    pub(super) const fn pack(self) -> u64 {
        self.generation << Self::STATE_BITS | self.state as u64
    }

    #[inline]
    pub(super) const fn unpack(word: u64) -> Self {
        let state = match word & Self::STATE {
            0 => State::Closed,
            1 => State::Open,
            2 => State::HalfOpen,
            3 => State::Recovering,
            4 => State::Disabled,
            5 => State::ForcedOpen,
            // Eight numbers, seven states: the eighth is never written.
            _ => State::ObserveOnly,
        };
        Self { generation: word >> Self::STATE_BITS, state }
    }

    /// Whether a call may be let through without asking for more.
    #[inline]
    pub(super) const fn is_passing(self) -> bool {
        !matches!(self.state, State::Open | State::HalfOpen | State::ForcedOpen)
    }

    pub(super) const fn next(self, state: State) -> Self {
        Self { generation: self.generation.wrapping_add(1) & Self::GENERATIONS, state }
    }
}

/// Changes a number that belongs to a generation, and is zero in each new one.
pub(super) fn update(number: &AtomicU64, generation: u64, next: impl Fn(u32) -> u32) -> u32 {
    let generation = generation << 32;
    let mut seen = number.load(Ordering::Relaxed);
    loop {
        let before = if seen ^ generation <= u64::from(u32::MAX) { low_half(seen) } else { 0 };
        let after = next(before);
        if after == before {
            return after;
        }
        let changed = generation | u64::from(after);
        if planted!("run_overwritten") {
            number.store(changed, Ordering::Relaxed);
            return after;
        }
        match number.compare_exchange_weak(seen, changed, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return after,
            Err(other) => seen = other,
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "that is what it is for")]
const fn low_half(word: u64) -> u32 {
    word as u32
}
