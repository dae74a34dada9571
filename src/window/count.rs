//! The last N calls, as a log of two-bit outcomes.
//!
//! ```text
//! cursor   which chunk is being filled                         one word, changes every 16 calls
//! chunks   [stamp: era, lap | filled | 16 outcomes of 2 bits]   one word for 16 calls
//! totals   [era | failures | slow | slow failures]              one word, changes when they do
//! ```
//!
//! A record is one compare-and-swap on the chunk under the cursor. It takes the next free place, and the
//! outcome that stood there one lap (N calls) ago leaves the window in the same instruction: position and
//! content cannot disagree. The totals follow by the difference of the two outcomes, which for a good call
//! that replaces a good call is none.
//!
//! Why a thread that stalls anywhere does no harm: a chunk is only appended to where it is exactly as it was
//! read, and only opened for a new lap if the cursor still pointed at it after it was read. Stamps tell the
//! laps apart, and repeat only after 2,048 laps.

use super::{Counts, Outcome};
use crate::sync::{AtomicU64, Ordering};

/// More calls than this are a time window's job; it also keeps each total within its 16 bits, with room for
/// the moment in which an outcome has left the window before its own record reached the totals.
pub(super) const MOST_CALLS: u32 = 10_000;

const PER_CHUNK: u32 = 16;

#[derive(Debug)]
pub(crate) struct CountWindow {
    cursor: AtomicU64,
    totals: AtomicU64,
    chunks: Box<[AtomicU64]>,
    calls: u32,
}

impl CountWindow {
    /// An empty window of the last `calls` calls, 1 to [`MOST_CALLS`].
    pub(super) fn new(calls: u32) -> Self {
        let chunks = (0..calls.div_ceil(PER_CHUNK)).map(|_| AtomicU64::new(0)).collect();
        Self {
            cursor: AtomicU64::new(Cursor { era: 0, chunk: 0 }.pack()),
            totals: AtomicU64::new(Totals::empty(0).pack()),
            chunks,
            calls,
        }
    }


    pub(super) fn begin(&self, era: u64) {
        self.totals.store(Totals::empty(era).pack(), Ordering::Relaxed);
        // Release: a thread that finds the new era here finds its totals empty.
        self.cursor.store(Cursor { era: era_bits(era), chunk: 0 }.pack(), Ordering::Release);
    }

    pub(super) fn record(&self, era: u64, outcome: Outcome) -> bool {
        loop {
            // Acquire: pairs with `begin`.
            let seen = self.cursor.load(Ordering::Acquire);
            let cursor = Cursor::unpack(seen);
            if cursor.era != era_bits(era) {
                return false;
            }
            let Some((word, lap, places)) = self.chunk(cursor) else { return false };
            let raw = word.load(Ordering::Acquire);
            let Some(chunk) = self.current(raw, seen, cursor, lap) else { continue };
            if chunk.filled == places {
                let next = Cursor { chunk: cursor.chunk.wrapping_add(1), ..cursor }.pack();
                // If it fails, another thread has moved on already.
                let _ = self.cursor.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed);
                continue;
            }
            let (filled, evicted) = chunk.append(outcome);
            // AcqRel: an outcome is seen by whoever sees one recorded after it.
            if word.compare_exchange(raw, filled.pack(), Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                let evicted = if lap == 0 { Outcome::ALL[0] } else { evicted };
                self.replace(era, evicted, outcome);
                return true;
            }
        }
    }

    /// Counts `new` instead of `old` in the totals of `era`, unless that is over.
    fn replace(&self, era: u64, old: Outcome, new: Outcome) {
        if old == new {
            return;
        }
        let mut seen = self.totals.load(Ordering::Relaxed);
        loop {
            let Some(totals) = Totals::unpack(seen).replace(era, old, new) else { return };
            match self.totals.compare_exchange_weak(seen, totals.pack(), Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(changed) => seen = changed,
            }
        }
    }

    pub(super) fn counts(&self, era: u64) -> Counts {
        loop {
            let seen = self.cursor.load(Ordering::Acquire);
            let cursor = Cursor::unpack(seen);
            if cursor.era != era_bits(era) {
                return Counts::default();
            }
            let Some((word, lap, _)) = self.chunk(cursor) else { return Counts::default() };
            let Some(chunk) = self.current(word.load(Ordering::Acquire), seen, cursor, lap) else { continue };
            let calls = if lap > 0 {
                u64::from(self.calls)
            } else {
                cursor.chunk.saturating_mul(u64::from(PER_CHUNK)).saturating_add(u64::from(chunk.filled))
            };
            let totals = Totals::unpack(self.totals.load(Ordering::Acquire));
            if totals.era != era_bits(era) {
                // The next era is just beginning.
                return Counts::default();
            }
            return Counts {
                calls,
                failures: totals.failures(),
                slow: totals.slow(),
                slow_failures: totals.slow_failures(),
            };
        }
    }

    /// The word of the chunk at `cursor`, the lap the cursor is in, and how many outcomes the chunk holds:
    /// the last one of the ring may be shorter.
    fn chunk(&self, cursor: Cursor) -> Option<(&AtomicU64, u64, u32)> {
        let ring = self.chunks.len() as u64;
        let (lap, place) = (cursor.chunk.checked_div(ring)?, cursor.chunk.checked_rem(ring)?);
        let before = u32::try_from(place).ok()?.checked_mul(PER_CHUNK)?;
        let word = self.chunks.get(usize::try_from(place).ok()?)?;
        Some((word, lap, self.calls.saturating_sub(before).min(PER_CHUNK)))
    }

    /// The chunk as its owner of this lap sees it: as it is, or still to be opened. `None` if the cursor has
    /// moved on, so that `raw` says nothing.
    fn current(&self, raw: u64, seen: u64, cursor: Cursor, lap: u64) -> Option<Chunk> {
        let chunk = Chunk::unpack(raw);
        let stamp = stamp(cursor.era, lap);
        if chunk.stamp == stamp {
            Some(chunk)
        } else if self.cursor.load(Ordering::Acquire) == seen {
            Some(Chunk { stamp, filled: 0, outcomes: chunk.outcomes })
        } else {
            None
        }
    }
}

const ERA_BITS: u32 = 16;
const LAP_BITS: u32 = 11;

/// The part of an era's number that is kept. Eras meet again after 65,536 of them, and what they would have
/// to meet in is the time between two instructions.
const fn era_bits(era: u64) -> u64 {
    era & ((1 << ERA_BITS) - 1)
}

/// Tells one filling of a chunk from the next ones.
const fn stamp(era: u64, lap: u64) -> u64 {
    era << LAP_BITS | (lap & ((1 << LAP_BITS) - 1))
}

/// Which chunk is being filled, counted from the beginning of the era.
#[derive(Clone, Copy)]
struct Cursor {
    era: u64,
    chunk: u64,
}

impl Cursor {
    const CHUNK_BITS: u32 = 64 - ERA_BITS;

    const fn pack(self) -> u64 {
        self.era << Self::CHUNK_BITS | (self.chunk & ((1 << Self::CHUNK_BITS) - 1))
    }

    const fn unpack(word: u64) -> Self {
        Self { era: word >> Self::CHUNK_BITS, chunk: word & ((1 << Self::CHUNK_BITS) - 1) }
    }
}

/// Up to sixteen outcomes, and those of the lap before in the places not yet filled.
#[derive(Clone, Copy)]
struct Chunk {
    stamp: u64,
    filled: u32,
    outcomes: u32,
}

impl Chunk {
    const fn pack(self) -> u64 {
        self.stamp << 37 | (self.filled as u64) << 32 | self.outcomes as u64
    }

    #[allow(clippy::cast_possible_truncation, reason = "taking the fields out of the word")]
    const fn unpack(word: u64) -> Self {
        Self { stamp: word >> 37, filled: (word >> 32) as u32 & 0x1f, outcomes: word as u32 }
    }

    /// The chunk with one more outcome, and the one it took the place of.
    fn append(self, outcome: Outcome) -> (Self, Outcome) {
        let shift = self.filled.saturating_mul(2);
        let evicted = (self.outcomes >> shift & 3) as usize;
        let code = u32::try_from(outcome.index()).unwrap_or(0);
        let outcomes = self.outcomes & !(3 << shift) | code << shift;
        let evicted = Outcome::ALL.get(evicted).copied().unwrap_or(outcome);
        (Self { filled: self.filled.saturating_add(1), outcomes, ..self }, evicted)
    }
}

/// Sixteen bits each; a count may be one below zero for a moment.
#[derive(Clone, Copy)]
struct Totals {
    era: u64,
    counts: [i16; 3],
}

impl Totals {
    const fn empty(era: u64) -> Self {
        Self { era: era_bits(era), counts: [0; 3] }
    }

    fn pack(self) -> u64 {
        let [failures, slow, slow_failures] = self.counts.map(|count| u64::from(count.cast_unsigned()));
        self.era << 48 | failures << 32 | slow << 16 | slow_failures
    }

    #[allow(clippy::cast_possible_truncation, reason = "taking the fields out of the word")]
    const fn unpack(word: u64) -> Self {
        Self { era: word >> 48, counts: [(word >> 32) as i16, (word >> 16) as i16, word as i16] }
    }

    fn replace(self, era: u64, old: Outcome, new: Outcome) -> Option<Self> {
        (self.era == era_bits(era)).then(|| {
            let difference = |of: fn(Outcome) -> bool| i16::from(of(new)) - i16::from(of(old));
            let [failures, slow, slow_failures] = self.counts;
            let counts = [
                failures.wrapping_add(difference(|outcome| outcome.failed)),
                slow.wrapping_add(difference(|outcome| outcome.slow)),
                slow_failures.wrapping_add(difference(|outcome| outcome.failed && outcome.slow)),
            ];
            Self { counts, ..self }
        })
    }

    fn failures(self) -> u64 {
        u64::try_from(self.counts[0]).unwrap_or(0)
    }

    fn slow(self) -> u64 {
        u64::try_from(self.counts[1]).unwrap_or(0)
    }

    fn slow_failures(self) -> u64 {
        u64::try_from(self.counts[2]).unwrap_or(0)
    }
}
