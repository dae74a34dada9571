//! Permits to be at work, of which only so many are out at a time.
//!
//! ```text
//! word   [ somebody waits | limit | permits out ]
//! queue  the tickets of those who wait, behind a lock that is taken only if somebody does
//! ```
//!
//! A permit is taken by one exchange of the word, and given back by one subtraction, which also tells whether
//! somebody waits. While somebody does, nobody overtakes. The mark in the word is changed under the lock only, and
//! set in the same exchange that finds no room: whoever gives a permit back afterwards sees it.

#![warn(clippy::arithmetic_side_effects, reason = "what is configured may be as large as it likes")]

mod queue;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use queue::{Queue, Ticket};

use crate::sync::{AtomicU64, Mutex, Ordering, lock};

/// So many permits, some of them out, and who waits for one.
pub(crate) struct Permits {
    word: AtomicU64,
    queue: Mutex<Queue>,
}

/// What is in the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word(u64);

impl Word {
    const OUT_BITS: u32 = 32;
    const OUT: u64 = (1 << Self::OUT_BITS) - 1;
    const WAITING: u64 = 1 << 63;

    fn new(limit: u32, out: u64, waiting: bool) -> Self {
        let mark = if waiting { Self::WAITING } else { 0 };
        Self(mark | u64::from(limit.min(Permits::MAX)) << Self::OUT_BITS | out & Self::OUT)
    }

    #[inline]
    const fn out(self) -> u64 {
        self.0 & Self::OUT
    }

    #[inline]
    const fn limit(self) -> u64 {
        (self.0 & !Self::WAITING) >> Self::OUT_BITS
    }

    #[inline]
    const fn has_waiting(self) -> bool {
        self.0 & Self::WAITING != 0
    }

    /// Whether there is a permit for the one who is the next.
    #[inline]
    const fn has_room(self) -> bool {
        self.out() < self.limit()
    }

    /// Whether there is a permit for somebody who has not waited.
    #[inline]
    const fn is_free(self) -> bool {
        self.has_room() && !self.has_waiting()
    }

    /// With one more permit out. There is room for it, so the count stays below the limit's highest.
    #[inline]
    const fn with_one_more(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    const fn waiting(self, waiting: bool) -> Self {
        Self(if waiting { self.0 | Self::WAITING } else { self.0 & !Self::WAITING })
    }
}

impl Permits {
    /// No limit is higher.
    pub(crate) const MAX: u32 = u32::MAX >> 1;

    /// `limit` permits, for which `max_queued` may wait.
    pub(crate) fn new(limit: u32, max_queued: usize) -> Self {
        let word = Word::new(limit, 0, false);
        Self { word: AtomicU64::new(word.0), queue: Mutex::new(Queue::new(max_queued)) }
    }

    #[inline]
    fn load(&self) -> Word {
        Word(self.word.load(Ordering::Relaxed))
    }

    /// Exchanges the word for what `change` makes of it, if that is anything.
    #[inline]
    fn change(&self, change: impl Fn(Word) -> Option<Word>) -> Result<Word, Word> {
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

    /// Whether [`try_acquire`](Self::try_acquire) would have a permit.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.load().is_free()
    }

    /// A permit, if there is one and nobody waits for it.
    #[inline]
    pub(crate) fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        if cfg!(stanchion_planted_bug = "permit_too_many") {
            self.load().is_free().then(|| self.word.fetch_add(1, Ordering::AcqRel))?;
            return Some(Permit { permits: Arc::clone(self) });
        }
        self.change(|seen| seen.is_free().then(|| seen.with_one_more())).ok()?;
        Some(Permit { permits: Arc::clone(self) })
    }

    /// A permit, or a place in the queue; `None` if that is full.
    ///
    /// The place is taken now, and not when the future is first polled.
    pub(crate) fn acquire(self: &Arc<Self>) -> Option<Acquire> {
        let mut queue = lock(&self.queue);
        let may_wait = queue.has_place();
        let taken = self.change(|seen| match seen.is_free() {
            true => Some(seen.with_one_more()),
            false => may_wait.then(|| seen.waiting(true)),
        });
        let ticket = if taken.ok()?.has_waiting() { Some(queue.enter()) } else { None };
        drop(queue);
        Some(Acquire { permits: Some(Arc::clone(self)), ticket })
    }

    #[inline]
    fn release(&self) {
        let overlooks = cfg!(stanchion_planted_bug = "waiter_overlooked").then(|| self.load());
        // Pairs with the exchange by which the next one takes the permit.
        let before = Word(self.word.fetch_add(1_u64.wrapping_neg(), Ordering::AcqRel));
        if overlooks.unwrap_or(before).has_waiting() {
            self.grant();
        }
    }

    /// Gives what is there to those who wait.
    #[cold]
    pub(crate) fn grant(&self) {
        while let Some(waker) = self.grant_one() {
            // Not under the lock: it is somebody else's code.
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// The waker of one who has a permit now, if anybody has; none if that one has not been polled yet.
    fn grant_one(&self) -> Option<Option<Waker>> {
        let mut queue = lock(&self.queue);
        let others_wait = match queue.len() {
            0 => return None,
            waiting => waiting > 1,
        };
        self.change(|seen| seen.has_room().then(|| seen.with_one_more().waiting(others_wait))).ok()?;
        queue.next()
    }

    /// Allows `limit` permits at a time, at most [`MAX`](Self::MAX). Those that are out stay so; if they are more, the
    /// next is given out when they have become fewer. Those who wait hear of it by the [`grant`](Self::grant) that has to
    /// follow, which is no part of this so that it can be made without a lock.
    pub(crate) fn limit_to(&self, limit: u32) {
        let _ = self.change(|seen| Some(Word::new(limit, seen.out(), seen.has_waiting())));
    }

    /// Lets `max` wait. Those who wait already stay.
    pub(crate) fn allow_queued(&self, max: usize) {
        lock(&self.queue).allow(max);
    }

    /// How many permits are out, and how many may be.
    pub(crate) fn counts(&self) -> (u32, u32) {
        let word = self.load();
        let count = |bits| u32::try_from(bits).unwrap_or(u32::MAX);
        (count(word.out()), count(word.limit()))
    }

    /// How many wait.
    pub(crate) fn queued(&self) -> usize {
        lock(&self.queue).len()
    }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.load();
        f.debug_struct("Permits").field("limit", &word.limit()).field("in_flight", &word.out()).finish()
    }
}

/// One permit; dropping it gives it to the next.
#[must_use = "a permit that is dropped is given back"]
pub(crate) struct Permit {
    permits: Arc<Permits>,
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        self.permits.release();
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

/// A place in the queue, or a permit that is already there. Dropping it gives up either.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub(crate) struct Acquire {
    /// None once the permit was handed out.
    permits: Option<Arc<Permits>>,
    /// None if there was a permit at once.
    ticket: Option<Ticket>,
}

impl Future for Acquire {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit> {
        if let (Some(permits), Some(ticket)) = (&self.permits, self.ticket) {
            // Neither cloned nor dropped under the lock.
            let mut waker = Some(cx.waker().clone());
            if lock(&permits.queue).wait(ticket, &mut waker) {
                return Poll::Pending;
            }
        }
        let permits = self.permits.take().expect("a future is not polled after it was ready");
        Poll::Ready(Permit { permits })
    }
}

impl Drop for Acquire {
    fn drop(&mut self) {
        let Some(permits) = self.permits.take() else { return };
        if let Some(ticket) = self.ticket {
            let mut queue = lock(&permits.queue);
            let left = queue.leave(ticket);
            if left.is_some() && queue.len() == 0 {
                let _ = permits.change(|seen| Some(seen.waiting(false)));
            }
            drop(queue);
            if left.is_some() {
                return;
            }
        }
        if cfg!(stanchion_planted_bug = "grant_swallowed") {
            return;
        }
        permits.release();
    }
}

#[cfg(all(test, stanchion_loom))]
mod model;
#[cfg(all(test, not(stanchion_loom)))]
mod tests;
