//! Permits to be at work, of which only so many are out at a time.
//!
//! ```text
//! word   [ somebody waits | limit | permits out ]
//! queue  those who wait, in lanes, behind a lock that is taken only if somebody does
//! ```
//!
//! A permit is taken by one exchange of the word, and given back by one subtraction, which also tells whether
//! somebody waits. While somebody does, nobody overtakes but those of a higher class, and they do so under the lock. The
//! mark in the word is changed under the lock only, and set in the same exchange that finds no room: whoever gives a permit
//! back afterwards sees it.
//!
//! A waiter that is granted a permit and does not claim it, since its future is kept and not
//! polled, loses it after a while if another one waits. Whoever comes, gives a permit back or is
//! polled looks for such grants, and the owner is asked to do so as well when the oldest of them is
//! due. The waiter waits again, in its old place, when it is polled.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

mod acquire;
mod discipline;
mod granted;
mod lane;
mod parts;
mod queue;
mod word;

pub(crate) use acquire::Acquire;
pub use discipline::QueueDiscipline;
pub(crate) use parts::{Fraction, Part};
pub(crate) use queue::{Ask, Shed};
pub(crate) use word::Share;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;

use parts::{Parts, Taken, Turn};
use queue::Queue;
use word::Word;

use crate::base::clock::Timestamp;
use crate::base::sync::planted;
use crate::base::sync::{AtomicU64, Mutex, Ordering, lock};

/// So many permits, some of them out, and who waits for one.
pub(crate) struct Permits {
    word: AtomicU64,
    queue: Mutex<Queue>,
    /// None, if the limit is one for all.
    parts: Option<Box<Parts>>,
}

/// What has permits to give. It is asked for the time only if somebody waits.
pub(crate) trait Owner {
    fn permits(&self) -> &Permits;

    fn now(&self) -> Timestamp;

    /// How much time, in nanoseconds, must be left for one who is given a permit.
    fn needed(&self, now: Timestamp) -> u64;

    /// How much of the limit those of `class` may use: no less than those of a lower one. When that changes a
    /// [`grant`](Permits::grant) has to follow.
    fn share(&self, class: u8) -> Share;

    /// Has [`grant`](Permits::grant) called at this time, since a grant may be unclaimed then for
    /// which another one waits. It is not called under the lock.
    fn look_at(&self, at: Timestamp);
}

/// What has become of those who wait.
enum Told {
    /// One of them has a permit now, or will never have one: its waker, if it has been polled.
    Next(Option<Waker>),
    /// Nobody can be served: when to look for a grant that was not claimed, if others wait for it.
    Nobody(Option<Timestamp>),
}

impl Permits {
    /// No limit is higher.
    pub(crate) const MAX: u32 = u32::MAX >> 1;

    /// `limit` permits, for which `max_queued` may wait.
    pub(crate) fn new(limit: u32, max_queued: usize, discipline: QueueDiscipline) -> Self {
        let word = Word::new(limit, 0, false);
        let queue = Mutex::new(Queue::new(max_queued, discipline));
        Self { word: AtomicU64::new(word.0), queue, parts: None }
    }

    #[inline]
    fn load(&self) -> Word {
        Word(self.word.load(Ordering::Relaxed))
    }

    /// Exchanges the word for what `change` makes of it, if that is anything.
    #[inline]
    fn change(&self, mut change: impl FnMut(Word) -> Option<Word>) -> Result<Word, Word> {
        let mut seen = self.load();
        loop {
            let Some(changed) = change(seen) else { return Err(seen) };
            // Pairs with the release of the permits that are out no more: what was done under them is seen.
            match self.word.compare_exchange_weak(seen.0, changed.0, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Ok(changed),
                Err(other) => seen = Word(other),
            }
        }
    }

    /// Whether there is a permit for somebody who has not waited.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.load().is_free(Share::WHOLE)
    }

    #[inline]
    fn take(&self, share: Share) -> bool {
        if planted!("permit_too_many") {
            return self.load().is_free(share) && {
                self.word.fetch_add(1, Ordering::AcqRel);
                true
            };
        }
        self.change(|seen| seen.is_free(share).then(|| seen.with_one_more())).is_ok()
    }

    #[inline]
    fn give_back(&self) -> bool {
        let overlooks = planted!("waiter_overlooked").then(|| self.load());
        // Pairs with the exchange by which the next one takes the permit.
        let before = Word(self.word.fetch_add(1_u64.wrapping_neg(), Ordering::AcqRel));
        overlooks.unwrap_or(before).has_waiting()
    }

    /// Gives what is there to those who wait, and turns away those who have waited for too long.
    #[cold]
    pub(crate) fn grant(owner: &impl Owner) {
        let now = owner.now();
        let needed = owner.needed(now);
        loop {
            match Self::serve_one(owner, now, needed) {
                // Not under the lock: it is somebody else's code.
                Told::Next(Some(waker)) => wake(waker),
                Told::Next(None) => {}
                Told::Nobody(looks_at) => return looks_at.into_iter().for_each(|at| owner.look_at(at)),
            }
        }
    }

    /// Serves or turns away one who waits, if that is possible.
    fn serve_one(owner: &impl Owner, now: Timestamp, needed: u64) -> Told {
        let permits = owner.permits();
        let mut queue = lock(&permits.queue);
        // Of a part, somebody may take a permit who saw nobody waiting before.
        loop {
            let next = queue.next_lane(|part, class| permits.has_room_in(part, owner.share(class)));
            let Some(lane) = next else {
                if queue.len() > 0 && permits.take_back(&mut queue, now) {
                    continue;
                }
                return Told::Nobody(queue.looks_at());
            };
            if let Some(waker) = queue.shed_next(lane, now, needed) {
                if planted!("unmarked_too_late") {
                    let is_empty = queue.len() == 0;
                    drop(queue);
                    let _ = permits.change(|seen| is_empty.then(|| seen.waiting(false)));
                    return Told::Next(waker);
                }
                permits.unmark_if_empty(&queue);
                return Told::Next(waker);
            }
            let overlooks = planted!("crowd_overlooked") && queue.len() == 4;
            let others_wait = queue.len() > 1 && !overlooks;
            if permits.take_in_turn(lane.part(), owner.share(lane.class()), others_wait) {
                return Told::Next(queue.take_next(lane, now));
            }
        }
    }

    /// Takes back a permit that was granted to a waiter that has not claimed it in time, if there
    /// is one.
    fn take_back(&self, queue: &mut Queue, now: Timestamp) -> bool {
        let Some(ticket) = queue.take_back(now) else { return false };
        self.leave(ticket.lane().part());
        // Pairs with the exchange by which the next one takes the permit.
        self.word.fetch_add(1_u64.wrapping_neg(), Ordering::AcqRel);
        true
    }

    /// Takes a permit for one who asks, or marks that it waits.
    fn take_or_mark(&self, is_next: bool, share: Share, may_wait: bool) -> Option<Taken> {
        let mut taken = None;
        let _ = self.change(|seen| {
            taken = (is_next && seen.has_room(share)).then_some(Taken::ALONE);
            if planted!("overtaker_unmarks") && taken.is_some() {
                return Some(seen.with_one_more().waiting(false));
            }
            if taken.is_some() { Some(seen.with_one_more()) } else { may_wait.then(|| seen.waiting(true)) }
        });
        taken
    }

    /// The same, for one of any part.
    fn take_from_queue(&self, queue: &Queue, ask: &Ask, share: Share, may_wait: bool) -> Option<Taken> {
        match self.slot(ask.part) {
            None => self.take_or_mark(queue.is_next(ask), share, may_wait),
            Some(slot) => self.take_of_or_mark(slot, share, queue, ask, may_wait),
        }
    }

    /// Takes a permit for one of those who wait.
    fn take_in_turn(&self, part: Part, share: Share, others_wait: bool) -> bool {
        match self.slot(part) {
            None => {
                let one_more = |seen: Word| seen.with_one_more().waiting(others_wait);
                self.change(|seen| seen.has_room(share).then(|| one_more(seen))).is_ok()
            }
            Some(slot) => {
                let taken = self.take_of(slot, share, Turn::NEXT).is_some();
                if taken && !others_wait {
                    self.unmark();
                }
                taken
            }
        }
    }

    fn unmark_if_empty(&self, queue: &Queue) {
        if queue.len() == 0 {
            self.unmark();
        }
    }

    fn unmark(&self) {
        let _ = self.change(|seen| Some(seen.waiting(false)));
    }

    /// Allows `limit` permits at a time, at most [`MAX`](Self::MAX). Those that are out stay so; if they are more, the
    /// next is given out when they have become fewer. Those who wait hear of it by the [`grant`](Self::grant) that has to
    /// follow, which is no part of this so that it can be made without a lock, unless there are parts.
    pub(crate) fn limit_to(&self, limit: u32) {
        if planted!("limit_overwrites") {
            let seen = self.load();
            return self.word.store(Word::new(limit, seen.out(), seen.has_waiting()).0, Ordering::Release);
        }
        if let Some(parts) = &self.parts {
            return self.divide(parts, limit);
        }
        let _ = self.change(|seen| Some(Word::new(limit, seen.out(), seen.has_waiting())));
    }

    /// Lets `max` wait, and serves them by `discipline`. Those who wait already stay.
    pub(crate) fn queue_by(&self, max: usize, discipline: QueueDiscipline) {
        lock(&self.queue).reconfigure(max, discipline);
    }

    /// How many permits are out, and how many may be.
    pub(crate) fn counts(&self) -> (u32, u32) {
        let word = self.load();
        let count = |bits| u32::try_from(bits).unwrap_or(u32::MAX);
        let out = self.parts.as_ref().map_or(word.out(), |parts| parts.out());
        (count(out), count(word.limit()))
    }

    /// How many wait.
    pub(crate) fn queued(&self) -> usize {
        lock(&self.queue).len_with_sleepers()
    }
}

/// Wakes a task, not under the lock. A waker is somebody else's code: one that panics must not cost other waiters their
/// turn, nor the caller what it was about to do.
fn wake(waker: Waker) {
    let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (out, limit) = self.counts();
        f.debug_struct("Permits").field("limit", &limit).field("in_flight", &out).finish()
    }
}

/// One permit; dropping it gives it to the next.
#[must_use = "a permit that is dropped is given back"]
pub(crate) struct Permit<O: Owner> {
    owner: Arc<O>,
}

impl<O: Owner> Permit<O> {
    /// The permit that was taken for its owner.
    const fn of(owner: Arc<O>) -> Self {
        Self { owner }
    }

    /// A permit, if there is one within `share` of the limit and nobody waits.
    #[inline]
    pub(crate) fn try_acquire(owner: &Arc<O>, share: Share) -> Option<Self> {
        owner.permits().take(share).then(|| Self { owner: Arc::clone(owner) })
    }

    /// A permit for one of a part who is exempt from the limit, who has to [leave](Permits::leave)
    /// the part as well.
    #[cold]
    pub(crate) fn exempt(owner: &Arc<O>, part: Part) -> Self {
        let mut acquired = Acquire::exempt(owner, part);
        Self::of(acquired.owner.take().expect("it has just been put there"))
    }

    /// A permit for somebody of a part of the limit, if there is one, who has to
    /// [leave](Permits::leave) that before this is dropped.
    pub(crate) fn try_acquire_of(owner: &Arc<O>, part: Part, share: Share) -> Option<Self> {
        let Some(slot) = owner.permits().slot(part) else { return Self::try_acquire(owner, share) };
        let taken = owner.permits().take_unqueued(slot, share)?;
        // Before others are woken: it leaves its part if that panics.
        let mut acquired = Acquire { owner: Some(Arc::clone(owner)), ticket: None, part };
        taken.tell(&**owner);
        acquired.owner.take().map(|owner| Self { owner })
    }

    #[inline]
    pub(crate) fn owner(&self) -> &O {
        &self.owner
    }
}

impl<O: Owner> Drop for Permit<O> {
    #[inline]
    fn drop(&mut self) {
        if self.owner.permits().give_back() {
            Permits::grant(&*self.owner);
        }
    }
}

impl<O: Owner> fmt::Debug for Permit<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

#[cfg(all(test, stanchion_loom))]
mod model;
#[cfg(test)]
mod owner;
#[cfg(all(test, stanchion_shuttle))]
mod schedules;
#[cfg(all(test, not(stanchion_loom)))]
mod tests;
