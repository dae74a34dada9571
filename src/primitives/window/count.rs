//! The last N calls, as a log of two-bit outcomes.
//!
//! ```text
//! cursor   [era | lap | chunk being filled]                     one word, changes every 16 calls
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

use super::{Calls, Counts, Outcome};
use crate::base::sync::planted;
use crate::base::sync::{AtomicU64, Ordering};

/// More calls than this are a time window's job; it also keeps each total within its 16 bits, with room for
/// the moment in which an outcome has left the window before its own record reached the totals.
pub(super) const MOST_CALLS: u32 = 10_000;

const PER_CHUNK: u64 = 16;
const PLACES: u32 = 16;

#[derive(Debug)]
pub(crate) struct CountWindow {
    cursor: AtomicU64,
    totals: AtomicU64,
    chunks: Box<[AtomicU64]>,
    calls: u32,
    last_places: u32,
    /// The era as a whole number, of which the words keep a part.
    era: AtomicU64,
}

impl CountWindow {
    /// An empty window of the last `calls` calls, 1 to [`MOST_CALLS`].
    pub(super) fn new(calls: u32) -> Self {
        let chunks = (0..u64::from(calls).div_ceil(PER_CHUNK)).map(|_| AtomicU64::new(0)).collect();
        Self {
            cursor: AtomicU64::new(Cursor::first(0).0),
            totals: AtomicU64::new(Totals::empty(0).pack()),
            chunks,
            calls,
            last_places: (calls.wrapping_sub(1) % PLACES).saturating_add(1),
            era: AtomicU64::new(0),
        }
    }

    pub(super) fn begin(&self, era: u64) {
        // Swapped and not stored, so that each is in one order with what the era before still writes.
        self.totals.swap(Totals::empty(era).pack(), Ordering::AcqRel);
        // Release: a thread that finds the new era here finds its totals empty.
        self.cursor.swap(Cursor::first(era).0, Ordering::AcqRel);
        let before = self.era.swap(era, Ordering::Relaxed);
        if era >> ERA_BITS != before >> ERA_BITS && !planted!("stamps_kept") {
            self.forget_stamps(era >> ERA_BITS);
        }
    }

    /// Makes each chunk one that no era takes for its own before it has filled it. Once in 65,536
    /// eras, of which those with the same bits would otherwise find what the other has left.
    #[cold]
    fn forget_stamps(&self, round: u64) {
        for word in &self.chunks {
            // Never the word that is there: a thread of the era before must not succeed after this.
            word.swap(Chunk::forgotten(round).0, Ordering::AcqRel);
        }
    }

    #[inline]
    pub(super) fn record(&self, era: u64, outcome: Outcome) -> Option<u64> {
        match self.try_record(era, outcome) {
            Attempt::Recorded => Some(era),
            failed => self.record_again(era, outcome, failed),
        }
    }

    /// The rest of [`record`](Self::record), which has seldom to be done: what is done on each call stays short.
    #[cold]
    fn record_again(&self, era: u64, outcome: Outcome, mut failed: Attempt) -> Option<u64> {
        let mut moment = era;
        loop {
            match failed {
                Attempt::Recorded => return Some(moment),
                Attempt::Replaced(evicted) => {
                    self.replace(era, evicted, outcome);
                    return Some(moment);
                }
                Attempt::Over => return None,
                Attempt::Full(cursor) => {
                    self.advance(cursor);
                    if cursor.is_fourth() {
                        moment = Calls::SAMPLE;
                    }
                }
                Attempt::Lost => {}
            }
            failed = self.try_record(era, outcome);
        }
    }

    #[inline]
    fn try_record(&self, era: u64, outcome: Outcome) -> Attempt {
        // Acquire: pairs with `begin`.
        let cursor = Cursor(self.cursor.load(Ordering::Acquire));
        if cursor.era() != era_bits(era) && !planted!("stale_verdict") {
            return Attempt::Over;
        }
        let place = cursor.chunk();
        let Some(word) = self.chunks.get(place) else { return Attempt::Over };
        let seen = word.load(Ordering::Acquire);
        let Some(chunk) = self.current(seen, cursor) else { return Attempt::Lost };
        if chunk.filled() == self.places(place) {
            return Attempt::Full(cursor);
        }
        // AcqRel: an outcome is seen by whoever sees one recorded after it.
        if word.compare_exchange(seen, chunk.append(outcome).0, Ordering::AcqRel, Ordering::Relaxed).is_err()
        {
            return Attempt::Lost;
        }
        let evicted = if cursor.is_first_lap() { Outcome::GOOD } else { chunk.evicted() };
        if evicted == outcome { Attempt::Recorded } else { Attempt::Replaced(evicted) }
    }

    /// Moves the cursor on from a chunk that is full.
    fn advance(&self, cursor: Cursor) {
        let next = cursor.next(self.chunks.len());
        // If it fails, another thread has moved on already.
        let _ = self.cursor.compare_exchange(cursor.0, next.0, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Counts `new` instead of `old`, which are different, in the totals of `era`, unless that is over.
    fn replace(&self, era: u64, old: Outcome, new: Outcome) {
        let mut seen = self.totals.load(Ordering::Relaxed);
        loop {
            let Some(totals) = Totals::unpack(seen).replace(era, old, new) else { return };
            if planted!("totals_overwritten") {
                return self.totals.store(totals.pack(), Ordering::Relaxed);
            }
            match self.totals.compare_exchange_weak(seen, totals.pack(), Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return,
                Err(changed) => seen = changed,
            }
        }
    }

    pub(super) fn counts(&self, era: u64) -> Counts {
        loop {
            // Before the calls: what is in the totals has been recorded.
            let totals = Totals::unpack(self.totals.load(Ordering::Acquire));
            let cursor = Cursor(self.cursor.load(Ordering::Acquire));
            if cursor.era() != era_bits(era) || totals.era != era_bits(era) {
                return Counts::default();
            }
            let Some(word) = self.chunks.get(cursor.chunk()) else { return Counts::default() };
            let Some(chunk) = self.current(word.load(Ordering::Acquire), cursor) else { continue };
            let calls = if cursor.is_first_lap() {
                (cursor.chunk() as u64).wrapping_mul(PER_CHUNK).wrapping_add(chunk.filled())
            } else {
                u64::from(self.calls)
            };
            return Counts {
                calls,
                failures: totals.failures(),
                slow: totals.slow(),
                slow_failures: totals.slow_failures(),
            };
        }
    }

    /// The outcomes that the window holds, the oldest first. Those that are recorded meanwhile may be missing.
    pub(super) fn latest(&self, era: u64) -> Vec<Outcome> {
        // Acquire: pairs with `begin` and `advance`.
        let cursor = Cursor(self.cursor.load(Ordering::Acquire));
        if cursor.era() != era_bits(era) {
            return Vec::new();
        }
        let chunk = |index: usize| {
            // Acquire: pairs with `try_record`.
            Chunk(self.chunks.get(index).map_or(0, |word| word.load(Ordering::Acquire)))
        };
        let present = chunk(cursor.chunk());
        let filled = if Stamp::is_same(present.0, cursor.0) { present.filled() } else { 0 };
        let outcomes_of =
            |word: Chunk, from: u64, until: u64| (from..until).map(move |place| word.outcome(place));
        let places = |index: usize, from: u64, until: u64| outcomes_of(chunk(index), from, until);
        let mut outcomes = Vec::new();
        if !cursor.is_first_lap() {
            outcomes.extend(places(cursor.chunk(), filled, self.places(cursor.chunk())));
            let rest = cursor.chunk().saturating_add(1)..self.chunks.len();
            outcomes.extend(rest.flat_map(|index| places(index, 0, self.places(index))));
        }
        outcomes.extend((0..cursor.chunk()).flat_map(|index| places(index, 0, self.places(index))));
        outcomes.extend(places(cursor.chunk(), 0, filled));
        outcomes
    }

    /// How many of the first `some` of `all` calls there is room for, if all are to have the same share of it.
    pub(super) fn share(&self, some: u64, all: u64) -> u64 {
        let room = u64::from(self.calls);
        let all = all.max(room);
        let scaled = u128::from(some).saturating_mul(room.into()).saturating_add(u128::from(all >> 1));
        let share = scaled.checked_div(all.into()).unwrap_or(0);
        u64::try_from(share).unwrap_or(room).min(room)
    }

    /// How many outcomes a chunk holds: the last one of the ring may be shorter.
    #[inline]
    fn places(&self, chunk: usize) -> u64 {
        if chunk.wrapping_add(1) == self.chunks.len() { u64::from(self.last_places) } else { PER_CHUNK }
    }

    /// The chunk under the cursor as it is in this lap, or empty if it is still to be opened. `None` if the
    /// cursor has moved on, so that what was seen says nothing.
    #[inline]
    fn current(&self, seen: u64, cursor: Cursor) -> Option<Chunk> {
        if Stamp::is_same(seen, cursor.0) {
            Some(Chunk(seen))
        } else if self.cursor.load(Ordering::Acquire) == cursor.0 {
            Some(Chunk::open(seen, cursor))
        } else {
            None
        }
    }
}

/// How an attempt to record ended.
enum Attempt {
    Recorded,
    /// Recorded, and another outcome went out.
    Replaced(Outcome),
    /// The chunk must be left behind first.
    Full(Cursor),
    /// Another thread was faster.
    Lost,
    /// So is the era.
    Over,
}

const ERA_BITS: u32 = 16;

/// The part of an era's number that is kept. Eras have the same after 65,536 of them; what they
/// would have to meet in is the time between two instructions, since no stamp lasts as long.
#[inline]
const fn era_bits(era: u64) -> u64 {
    era & ((1 << ERA_BITS) - 1)
}

/// The upper 27 bits of cursor and chunk alike: 16 of the era, 11 of the lap. They tell one filling of a chunk
/// from the next ones.
struct Stamp;

impl Stamp {
    const SHIFT: u32 = 37;
    const ERA_SHIFT: u32 = 48;
    const ONE_LAP: u64 = 1 << Self::SHIFT;
    const LAPS: u64 = (1 << Self::ERA_SHIFT) - Self::ONE_LAP;

    #[inline]
    const fn is_same(one: u64, other: u64) -> bool {
        (one ^ other) >> Self::SHIFT == 0
    }
}

/// `[era 16 | lap 11 | later lap 1 | 26 unused | chunk 10]`: which chunk is being filled.
#[derive(Clone, Copy, PartialEq)]
struct Cursor(u64);

impl Cursor {
    const LATER_LAP: u64 = 1 << 36;
    const CHUNKS: u64 = (1 << 10) - 1;

    const fn first(era: u64) -> Self {
        Self(era_bits(era) << Stamp::ERA_SHIFT)
    }

    #[inline]
    const fn era(self) -> u64 {
        self.0 >> Stamp::ERA_SHIFT
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "ten bits fit anything")]
    const fn chunk(self) -> usize {
        (self.0 & Self::CHUNKS) as usize
    }

    /// Returns `true` for one chunk of four, counted on over the laps.
    const fn is_fourth(self) -> bool {
        let lap = (self.0 & Stamp::LAPS) / Stamp::ONE_LAP;
        (self.0 & Self::CHUNKS).wrapping_add(lap) & 3 == 0
    }

    #[inline]
    const fn is_first_lap(self) -> bool {
        self.0 & Self::LATER_LAP == 0
    }

    const fn next(self, ring: usize) -> Self {
        if self.chunk().wrapping_add(1) < ring {
            return Self(self.0.wrapping_add(1));
        }
        let lap = self.0.wrapping_add(Stamp::ONE_LAP) & Stamp::LAPS;
        Self(self.era() << Stamp::ERA_SHIFT | lap | Self::LATER_LAP)
    }
}

/// `[era 16 | lap 11 | filled 5 | 16 outcomes of 2]`: in the places not yet filled, the outcomes of the lap
/// before.
#[derive(Clone, Copy)]
struct Chunk(u64);

impl Chunk {
    const FILLED_SHIFT: u32 = 32;
    const ONE_FILLED: u64 = 1 << Self::FILLED_SHIFT;
    const OUTCOMES: u64 = Self::ONE_FILLED - 1;

    /// The chunk `seen` as the lap of `cursor` begins to fill it.
    #[inline]
    const fn open(seen: u64, cursor: Cursor) -> Self {
        Self(cursor.0 >> Stamp::SHIFT << Stamp::SHIFT | (seen & Self::OUTCOMES))
    }

    /// A chunk with the stamp of the last lap of the last era, in which no chunk can be that was
    /// not there in a lap before.
    const fn forgotten(round: u64) -> Self {
        Self(u64::MAX >> Stamp::SHIFT << Stamp::SHIFT | (round & 0x1f) << Self::FILLED_SHIFT)
    }

    #[inline]
    const fn filled(self) -> u64 {
        self.0 >> Self::FILLED_SHIFT & 0x1f
    }

    #[inline]
    const fn shift(self) -> u64 {
        self.filled() << 1 & 31
    }

    /// What stands in the next place, from one lap ago.
    #[inline]
    const fn evicted(self) -> Outcome {
        Outcome::from_code(self.0 >> self.shift() & 3)
    }

    /// What stands in a place.
    const fn outcome(self, place: u64) -> Outcome {
        Outcome::from_code(self.0 >> (place << 1 & 31) & 3)
    }

    /// The chunk with one more outcome.
    #[inline]
    const fn append(self, outcome: Outcome) -> Self {
        let cleared = self.0 & !(3 << self.shift());
        Self((cleared | outcome.code() << self.shift()).wrapping_add(Self::ONE_FILLED))
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
        let [failures, slow, slow_failures] =
            self.counts.map(|count| u64::from(u16::from_ne_bytes(count.to_ne_bytes())));
        self.era << 48 | failures << 32 | slow << 16 | slow_failures
    }

    #[allow(clippy::cast_possible_truncation, reason = "taking the fields out of the word")]
    const fn unpack(word: u64) -> Self {
        Self { era: word >> 48, counts: [(word >> 32) as i16, (word >> 16) as i16, word as i16] }
    }

    fn replace(self, era: u64, old: Outcome, new: Outcome) -> Option<Self> {
        (self.era == era_bits(era)).then(|| {
            let difference = |of: fn(Outcome) -> bool| i16::from(of(new)).wrapping_sub(i16::from(of(old)));
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
