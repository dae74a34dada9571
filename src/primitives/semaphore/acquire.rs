use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::parts::Part;
use super::queue::{Ask, Queue, Shed, Stand, Ticket};
use super::{Owner, Permit, Permits, wake};
use crate::base::clock::Timestamp;
use crate::base::sync::planted;
use crate::base::sync::{MutexGuard, lock};

/// A place in the queue, or a permit that is already there. Dropping it gives up either. Who is
/// handed a permit of a part has to [leave](Permits::leave) that.
#[must_use = "futures do nothing unless polled"]
pub(crate) struct Acquire<O: Owner> {
    /// None once the permit was handed out, or is not to be had.
    pub(super) owner: Option<Arc<O>>,
    /// None if there was a permit at once.
    pub(super) ticket: Option<Ticket>,
    pub(super) part: Part,
}

impl<O: Owner> Acquire<O> {
    /// A permit, or a place in the queue; `None` if that is full of others who are not behind.
    ///
    /// The place is taken now, and not when the future is first polled.
    pub(crate) fn enter(owner: &Arc<O>, ask: &Ask, now: Timestamp) -> Option<Self> {
        let permits = owner.permits();
        let read_early = planted!("share_read_early").then(|| owner.share(ask.class));
        let mut queue = Self::lock_queue(owner, ask, now);
        // Under the lock: either this one sees a share that has changed, or the grant that follows
        // sees this one.
        let share = read_early.unwrap_or_else(|| owner.share(ask.class));
        let may_wait = queue.has_place(ask, now) && permits.can_serve(ask.part, share);
        let taken = permits.take_from_queue(&queue, ask, share, may_wait);
        if taken.is_none() && !may_wait {
            return None;
        }
        let entered = if taken.is_none() { queue.enter(ask, now) } else { None };
        let is_overdue = entered.is_some() && queue.is_overdue(now);
        let looks_at = queue.looks_at();
        drop(queue);
        // Before others are woken: it gives up what it has if that panics.
        let (ticket, displaced) = entered.unzip();
        let acquire = Self { owner: Some(Arc::clone(owner)), ticket, part: ask.part };
        if let Some(waker) = displaced.flatten() {
            wake(waker);
        }
        if let Some(taken) = taken {
            taken.tell(&**owner);
        }
        if is_overdue {
            Permits::grant(&**owner);
        } else if let Some(at) = looks_at {
            owner.look_at(at);
        }
        Some(acquire)
    }

    /// A permit, if there is one and nobody waits who comes before one who asks now: others may wait.
    /// Who is handed a permit of a part has to [leave](Permits::leave) that.
    pub(crate) fn try_enter(owner: &Arc<O>, ask: &Ask, now: Timestamp) -> Option<Permit<O>> {
        let permits = owner.permits();
        let mut queue = lock(&permits.queue);
        if queue.is_overdue(now) {
            queue = Self::take_back(owner, queue, now);
        }
        let taken = permits.take_from_queue(&queue, ask, owner.share(ask.class), false)?;
        drop(queue);
        // Before others are woken: it gives up what it has if that panics.
        let mut acquire = Self { owner: Some(Arc::clone(owner)), ticket: None, part: ask.part };
        taken.tell(&**owner);
        acquire.owner.take().map(Permit::of)
    }

    /// Locks the queue. If it is full, those leave it who have waited for as long as they may, and grants that were not
    /// claimed go to those who wait: both make room for one more.
    fn lock_queue<'a>(owner: &'a Arc<O>, ask: &Ask, now: Timestamp) -> MutexGuard<'a, Queue> {
        let permits = owner.permits();
        let mut queue = lock(&permits.queue);
        if queue.is_full() {
            let expired = queue.turn_away_expired(now);
            if !expired.is_empty() {
                permits.unmark_if_empty(&queue);
                drop(queue);
                expired.into_iter().for_each(wake);
                queue = lock(&permits.queue);
            }
        }
        let is_full = !queue.has_place(ask, now);
        if is_full && queue.is_overdue(now) { Self::take_back(owner, queue, now) } else { queue }
    }

    /// Takes back a grant that was not claimed in time, for those who wait or else for one who comes
    /// now.
    fn take_back<'a>(
        owner: &'a Arc<O>,
        mut queue: MutexGuard<'a, Queue>,
        now: Timestamp,
    ) -> MutexGuard<'a, Queue> {
        let permits = owner.permits();
        if queue.len() == 0 {
            permits.take_back(&mut queue, now);
            return queue;
        }
        drop(queue);
        Permits::grant(&**owner);
        lock(&permits.queue)
    }

    /// Asks how things stand; `None` once the future is over, or if there was a permit at once.
    fn stand(&self, waker: &Waker) -> Option<Stand> {
        let (Some(owner), Some(ticket)) = (&self.owner, self.ticket) else { return None };
        let permits = owner.permits();
        let mut has_looked = false;
        loop {
            // Neither cloned nor dropped under the lock.
            let mut waker = Some(waker.clone());
            let mut queue = lock(&permits.queue);
            match queue.wait(ticket, &mut waker) {
                Stand::Asleep if !permits.can_serve(self.part, owner.share(ticket.lane().class())) => {
                    queue.leave(ticket);
                    return Some(Stand::Shed(Shed::Displaced));
                }
                Stand::Asleep => {
                    // As one who begins to wait: the mark first, and then a look for room.
                    if !planted!("sleeper_unmarked") {
                        let _ = permits.change(|seen| Some(seen.waiting(true)));
                    }
                    queue.wake_up(ticket, owner.now());
                }
                Stand::Waits if has_looked || queue.grants_are_claimed() => return Some(Stand::Waits),
                Stand::Waits if !queue.is_overdue(owner.now()) => {
                    let looks_at = queue.looks_at();
                    drop(queue);
                    // The runtime that was to look may be gone or stand still, unlike the one that polls.
                    looks_at.into_iter().for_each(|at| owner.look_at(at));
                    return Some(Stand::Waits);
                }
                Stand::Waits => has_looked = true,
                over @ (Stand::Served | Stand::Shed(_)) => return Some(over),
            }
            drop(queue);
            Permits::grant(&**owner);
        }
    }

    /// A permit for one of a part who is exempt from the limit.
    pub(crate) fn exempt(owner: &Arc<O>, part: Part) -> Self {
        let taken = owner.permits().take_beyond(part);
        let acquire = Self { owner: Some(Arc::clone(owner)), ticket: None, part };
        taken.tell(&**owner);
        acquire
    }

    /// Whether it has, or had, a place in the queue.
    pub(crate) const fn has_queued(&self) -> bool {
        self.ticket.is_some()
    }
}

impl<O: Owner> Future for Acquire<O> {
    type Output = Result<Permit<O>, Shed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.stand(cx.waker()) {
            None | Some(Stand::Served) => {}
            Some(Stand::Waits | Stand::Asleep) => return Poll::Pending,
            Some(Stand::Shed(why)) => {
                self.owner = None;
                return Poll::Ready(Err(why));
            }
        }
        let owner = self.owner.take().expect("a future is not polled after it was ready");
        Poll::Ready(Ok(Permit::of(owner)))
    }
}

impl<O: Owner> Drop for Acquire<O> {
    fn drop(&mut self) {
        let Some(owner) = self.owner.take() else { return };
        let permits = owner.permits();
        if let Some(ticket) = self.ticket {
            let mut queue = lock(&permits.queue);
            let left = queue.leave(ticket);
            permits.unmark_if_empty(&queue);
            drop(queue);
            if left.is_some() {
                return;
            }
        }
        if planted!("grant_swallowed") {
            return;
        }
        permits.leave(self.part);
        drop(Permit::of(owner));
    }
}

impl<O: Owner> fmt::Debug for Acquire<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
