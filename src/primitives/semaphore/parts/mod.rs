//! Parts of a limit, of each of which some is kept for those who belong to it.
//!
//! ```text
//! slot of a part   [ kept for it | permits out ]
//! word             [ somebody waits | limit | charged ]    charged: of each part what is out, or kept if that is more
//! ```
//!
//! What is kept is charged in advance. So a permit within it needs nothing but the slot of its part, one beyond it is
//! charged to the word as all are that know no parts, and nobody looks at the slots of others, nor could be misled by what they
//! were a moment ago.
//!
//! What is charged is never less than what is out. It is made more before a slot needs more, and less after a slot needs
//! less: in between others find less room than there is, and somebody may be refused who came at that moment, but nobody
//! takes what is kept for another.
//!
//! No one who waits is forgotten. Whatever makes room, in a slot or in the word, exchanges the word afterwards and looks
//! whether somebody waits; who begins to wait marks the word first and looks for room then. One of these exchanges comes first:
//! either the room is seen, or the mark is.
//!
//! A class has its share of what is kept for nobody. What is kept for a part counts neither as used
//! nor as part of the limit that the share is of. Of what is kept for its own part a class has its
//! share too, and more only while it has room besides.
//!
//! When the limit is lowered, or divided in another way, more may be charged than it allows. Until that has become less, what is
//! kept is given out under the lock, by the sum of all slots.

mod slot;

pub(crate) use slot::{Fraction, Part};

use super::queue::{Ask, Queue};
use super::word::{Share, Word};
use super::{Owner, Permits};
use crate::base::sync::planted;
use crate::base::sync::{AtomicU64, Mutex, Ordering, lock};
use slot::Slot;

/// The slots of the parts.
#[derive(Debug)]
pub(super) struct Parts {
    /// One for each part, and one for those who belong to none, of which nothing is kept.
    slots: Box<[AtomicU64]>,
    /// How much of the limit is kept for each part. Held while what is kept is changed.
    kept: Mutex<Box<[Fraction]>>,
    /// The sum of what is kept for all parts. While that changes, it may not be that of the slots
    /// and the word: then a class has more or less than its share for a moment, but nobody takes
    /// more than the limit, and a grant follows.
    all_kept: AtomicU64,
}

impl Parts {
    /// How many permits are out.
    pub(super) fn out(&self) -> u64 {
        self.slots.iter().fold(0, |out, slot| out.saturating_add(Slot(slot.load(Ordering::Relaxed)).out()))
    }

    /// The same, and nobody else's exchange is missed.
    fn out_now(&self) -> u64 {
        self.slots
            .iter()
            .fold(0, |out, slot| out.saturating_add(Slot(slot.fetch_add(0, Ordering::AcqRel)).out()))
    }

    /// What is kept of a limit for each part: those at the beginning come first if there is too little for all.
    ///
    /// If that would leave nothing to one of the others, or nothing that is for all although some
    /// is meant to be, one fewer is kept: otherwise some could not be served even if nothing is out.
    fn divided(limit: u32, kept: &[Fraction]) -> impl Iterator<Item = u32> {
        let mut wanted: u64 = 0;
        let has_nothing = |fraction: &Fraction| {
            let (before, own) = (wanted, u64::from(fraction.of(limit)));
            wanted = before.saturating_add(own);
            own > 0 && before >= limit.into()
        };
        let are_starved = kept.iter().filter(|fraction| fraction.of(limit) > 0).any(has_nothing);
        let is_exhausted = wanted >= limit.into() && !Fraction::are_whole(kept);
        let mut left = limit.saturating_sub(u32::from(are_starved || is_exhausted));
        kept.iter().map(move |fraction| {
            let kept = fraction.of(limit).min(left);
            left = left.saturating_sub(kept);
            kept
        })
    }
}

/// A permit that was taken.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(super) struct Taken {
    /// A charge came back, and somebody may wait for it.
    frees: bool,
}

impl Taken {
    pub(super) const ALONE: Self = Self { frees: false };

    /// Not under the lock.
    pub(super) fn tell(self, owner: &impl Owner) {
        if self.frees {
            Permits::grant(owner);
        }
    }
}

/// Whether it is somebody's turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// Of those of its part.
    is_next_of_part: bool,
    /// Of all.
    is_next: bool,
    /// The queue is locked, and nobody overtakes who waits there.
    is_locked: bool,
}

impl Turn {
    /// Under the lock.
    pub(super) const NEXT: Self = Self { is_next_of_part: true, is_next: true, is_locked: true };
    /// If nobody waits.
    const UNQUEUED: Self = Self { is_locked: false, ..Self::NEXT };

    fn of(queue: &Queue, ask: &Ask) -> Self {
        let (is_next_of_part, is_next) = (queue.is_next_of_part(ask), queue.is_next(ask));
        Self { is_next_of_part, is_next, is_locked: true }
    }

    const fn may_take_from(self, word: Word) -> bool {
        self.is_locked || !word.has_waiting()
    }
}

impl Permits {
    /// Keeps so much of the limit for each of some parts, if there are any.
    pub(crate) fn parted(mut self, kept: Box<[Fraction]>) -> Self {
        if kept.is_empty() {
            return self;
        }
        let word = self.load();
        let limit = u32::try_from(word.limit()).unwrap_or(Self::MAX);
        let mut charged: u64 = 0;
        let mut slots = Vec::with_capacity(kept.len().saturating_add(1));
        for kept in Parts::divided(limit, &kept) {
            charged = charged.saturating_add(u64::from(kept));
            slots.push(AtomicU64::new(Slot::new(kept, 0).0));
        }
        slots.push(AtomicU64::new(0));
        self.word = AtomicU64::new(Word::new(limit, charged, false).0);
        let (slots, all_kept) = (slots.into(), AtomicU64::new(charged));
        self.parts = Some(Box::new(Parts { slots, kept: Mutex::new(kept), all_kept }));
        self
    }

    #[inline]
    pub(super) fn slot(&self, part: Part) -> Option<&AtomicU64> {
        self.parts.as_ref()?.slots.get(part.place()?)
    }

    /// How many permits of a part are out, and how many are kept for it.
    pub(crate) fn counts_of(&self, part: Part) -> (u32, u32) {
        let slot = self.slot(part).map_or(Slot(0), |slot| Slot(slot.load(Ordering::Relaxed)));
        let count = |bits| u32::try_from(bits).unwrap_or(u32::MAX);
        (count(slot.out()), count(slot.kept()))
    }

    /// Whether there may be a permit for somebody of a part who has not waited.
    pub(crate) fn has_room_in_parts(&self) -> bool {
        let word = self.load();
        !word.has_waiting() && self.parts.as_ref().is_some_and(|parts| parts.out() < word.limit())
    }

    /// Whether there is a permit for one of a part who is the next.
    pub(super) fn has_room_in(&self, part: Part, share: Share) -> bool {
        match self.slot(part) {
            None => self.load().has_room(share),
            Some(slot) => {
                let seen = Slot(slot.load(Ordering::Acquire));
                self.is_within(seen, self.load(), share, Turn::NEXT)
            }
        }
    }

    fn is_within(&self, seen: Slot, word: Word, share: Share, turn: Turn) -> bool {
        let is_kept =
            turn.is_next_of_part && seen.out() < share.of(seen.kept()) && self.has_total(word, turn);
        is_kept || turn.is_next && word.has_room_besides(self.all_kept(), share)
    }

    fn all_kept(&self) -> u64 {
        self.parts.as_ref().map_or(0, |parts| parts.all_kept.load(Ordering::Relaxed))
    }

    /// Whether there could be a permit for one of a part if none was out: otherwise it would wait
    /// for nothing.
    pub(super) fn can_serve(&self, part: Part, share: Share) -> bool {
        let Some(slot) = self.slot(part) else { return true };
        let kept = Slot(slot.load(Ordering::Relaxed)).kept();
        let for_all = self.load().limit().saturating_sub(self.all_kept());
        share.of(kept) > 0 || share.of(for_all) > 0
    }

    /// Turns away those who wait and for whom there can be no room any more.
    #[cold]
    pub(crate) fn turn_away_hopeless(owner: &impl Owner) {
        let permits = owner.permits();
        if permits.parts.is_none() {
            return;
        }
        let mut queue = lock(&permits.queue);
        let turned_away = queue.turn_away_all(|part, class| !permits.can_serve(part, owner.share(class)));
        permits.unmark_if_empty(&queue);
        drop(queue);
        turned_away.into_iter().for_each(super::wake);
    }

    /// Whether fewer are out than the limit.
    fn has_total(&self, word: Word, turn: Turn) -> bool {
        let out = || self.parts.as_ref().map_or(0, |parts| parts.out_now());
        !word.is_overcharged() || turn.is_locked && out() < word.limit()
    }

    /// Takes a permit, if there is one and it is the turn of who asks.
    pub(super) fn take_of(&self, slot: &AtomicU64, share: Share, turn: Turn) -> Option<Taken> {
        loop {
            let seen = Slot(slot.load(Ordering::Acquire));
            let word = self.load();
            if !turn.may_take_from(word) || !self.is_within(seen, word, share, turn) {
                return None;
            }
            if seen.has_idle() {
                let changed = seen.0.wrapping_add(1);
                // Pairs with the release of the permits that are out no more: what was done under them is seen.
                let exchanged =
                    slot.compare_exchange_weak(seen.0, changed, Ordering::AcqRel, Ordering::Relaxed);
                if exchanged.is_ok() {
                    return Some(Taken::ALONE);
                }
            } else {
                let kept = self.all_kept();
                let has_room = |word: Word| turn.may_take_from(word) && word.has_room_besides(kept, share);
                if self.change(|word| has_room(word).then(|| word.with_one_more())).is_ok() {
                    return Some(self.take_charged(slot));
                }
            }
        }
    }

    /// Takes a permit that is charged to the word.
    fn take_charged(&self, slot: &AtomicU64) -> Taken {
        let before = Slot(slot.fetch_add(1, Ordering::AcqRel));
        // Another one of this part has come back meanwhile, and this one is within what is kept.
        let is_charged_twice = before.has_idle() && !planted!("part_charged_twice");
        Taken { frees: is_charged_twice && self.uncharge(1) }
    }

    /// Takes a permit whether there is one or not. It is charged beyond the limit, and nobody else
    /// has room until that is less.
    pub(super) fn take_beyond(&self, part: Part) -> Taken {
        // Pairs with the release of the permits that are out no more: what was done under them is
        // seen.
        self.word.fetch_add(1, Ordering::AcqRel);
        self.slot(part).map_or(Taken::ALONE, |slot| self.take_charged(slot))
    }

    /// Takes a permit for one who has not waited.
    pub(super) fn take_unqueued(&self, slot: &AtomicU64, share: Share) -> Option<Taken> {
        let taken = self.take_of(slot, share, Turn::UNQUEUED);
        if taken.is_some() || !self.load().is_overcharged() {
            return taken;
        }
        let queue = lock(&self.queue);
        if queue.len() == 0 { self.take_of(slot, share, Turn::NEXT) } else { None }
    }

    /// Takes a permit for one who asks, or marks that it waits.
    pub(super) fn take_of_or_mark(
        &self,
        slot: &AtomicU64,
        share: Share,
        queue: &Queue,
        ask: &Ask,
        may_wait: bool,
    ) -> Option<Taken> {
        let looks_first =
            planted!("part_looked_at_before_marked").then(|| self.take_of(slot, share, Turn::of(queue, ask)));
        if may_wait {
            let _ = self.change(|seen| Some(seen.waiting(true)));
        }
        let taken = looks_first.unwrap_or_else(|| self.take_of(slot, share, Turn::of(queue, ask)));
        if taken.is_some() {
            self.unmark_if_empty(queue);
        }
        taken
    }

    /// Takes note that a permit of a part is about to come back, and charges it to the word if it is not yet: so it comes
    /// back from there as all others do, and who waits hears of it.
    pub(crate) fn leave(&self, part: Part) {
        let Some(slot) = self.slot(part) else { return };
        // Pairs with the exchange by which the next one takes the permit.
        let before = Slot(slot.fetch_add(1_u64.wrapping_neg(), Ordering::AcqRel));
        let is_charged = before.out() > before.kept() || planted!("part_left_uncharged");
        if !is_charged {
            self.word.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Charges so many fewer: whether somebody waits.
    fn uncharge(&self, charge: u64) -> bool {
        Word(self.word.fetch_add(charge.wrapping_neg(), Ordering::AcqRel)).has_waiting()
    }

    /// Keeps so much of the limit for each part from the next [`limit_to`](Self::limit_to) on, for as many parts as there
    /// were before.
    pub(crate) fn keep(&self, kept: &[Fraction]) {
        if let Some(parts) = &self.parts {
            lock(&parts.kept).iter_mut().zip(kept).for_each(|(kept, new)| *kept = *new);
        }
    }

    /// Sets the limit and what is kept of it. What is charged is at no time less than before or than afterwards.
    pub(super) fn divide(&self, parts: &Parts, limit: u32) {
        let limit = limit.min(Self::MAX);
        let fractions = lock(&parts.kept);
        let set = |allowed: fn(u64, u64) -> u64| {
            let lower = |seen: Word| u32::try_from(allowed(seen.limit(), u64::from(limit))).unwrap_or(limit);
            let _ = self.change(|seen| Some(Word::new(lower(seen), seen.out(), seen.has_waiting())));
        };
        // The lower of both until all is set: at no time does it look as if nothing was kept for
        // nobody.
        let all_kept = Parts::divided(limit, &fractions).map(u64::from).sum();
        let before = parts.all_kept.load(Ordering::Relaxed);
        parts.all_kept.store(before.min(all_kept), Ordering::Relaxed);
        set(u64::min);
        let kept = || parts.slots.iter().zip(Parts::divided(limit, &fractions));
        for (slot, kept) in kept() {
            self.keep_more(slot, kept);
        }
        for (slot, kept) in kept() {
            let before = Self::exchange_kept(slot, kept);
            self.uncharge(before.charged().saturating_sub(Slot::new(kept, before.out()).charged()));
        }
        set(u64::max);
        parts.all_kept.store(all_kept, Ordering::Relaxed);
    }

    fn keep_more(&self, slot: &AtomicU64, kept: u32) {
        let more = u64::from(kept).saturating_sub(Slot(slot.load(Ordering::Relaxed)).kept());
        if more > 0 {
            self.word.fetch_add(more, Ordering::AcqRel);
            let before = Self::exchange_kept(slot, kept);
            let due = Slot::new(kept, before.out()).charged().saturating_sub(before.charged());
            self.uncharge(more.saturating_sub(due));
        }
    }

    /// What was in the slot before.
    fn exchange_kept(slot: &AtomicU64, kept: u32) -> Slot {
        let mut seen = Slot(slot.load(Ordering::Relaxed));
        loop {
            let changed = Slot::new(kept, seen.out());
            match slot.compare_exchange_weak(seen.0, changed.0, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return seen,
                Err(other) => seen = Slot(other),
            }
        }
    }
}

#[cfg(all(test, stanchion_loom))]
mod model;
#[cfg(all(test, not(stanchion_loom)))]
mod tests;
