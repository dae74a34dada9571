use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::limit::Limit;
use super::permit::Permit;
use super::shared::Shared;
use crate::base::clock::{instant, instant_after, nanos};
use crate::classify::Class;
use crate::error::Rejected;
use crate::primitives::semaphore::{Acquire, Owner, Shed};
use crate::protocol::CallAttributes;
use crate::telemetry::Action;

/// A place in the queue, and until when it is worth something.
pub(super) struct Place<L: Limit> {
    turn: Turn<L>,
    patience: Patience,
    attributes: CallAttributes,
    shared: Arc<Shared<L>>,
}

enum Turn<L: Limit> {
    Comes(Acquire<Shared<L>>),
    Is(Permit<L>),
    Over,
}

/// How long a call waits.
#[derive(Clone, Copy, Debug)]
struct Patience {
    until: Instant,
    /// What the layer gives it, in nanoseconds.
    max_wait: u64,
    /// What its deadline left it when it came.
    remaining: u64,
    is_deadline: bool,
}

impl Patience {
    fn new<L: Limit>(shared: &Shared<L>, attributes: &CallAttributes, now: Instant) -> Self {
        let max_wait = shared.max_wait();
        let until = instant_after(now, max_wait);
        let waits = Self { until, max_wait: nanos(max_wait), remaining: u64::MAX, is_deadline: false };
        let Some(deadline) = attributes.deadline else { return waits };
        let remaining = deadline.remaining_at(now);
        let needed = Duration::from_nanos(shared.needed(shared.now()));
        let at_latest = instant_after(now, remaining.saturating_sub(needed));
        let is_deadline = at_latest < until;
        Self { until: until.min(at_latest), remaining: nanos(remaining), is_deadline, ..waits }
    }

    fn end<L: Limit>(self, shared: &Shared<L>) -> Rejected {
        if self.is_deadline { shared.too_late(self.remaining) } else { shared.give_up(self.max_wait) }
    }
}

impl<L: Limit> Place<L> {
    pub(super) fn take(shared: &Arc<Shared<L>>, attributes: &CallAttributes) -> Result<Self, Rejected> {
        let now = instant();
        let patience = Patience::new(shared, attributes, now);
        let Some(acquire) = shared.wait(attributes, now, Some(patience.until)) else {
            return Err(shared.refuse());
        };
        if acquire.has_queued() {
            shared.telemetry.act(Action::Queued, 0, Duration::ZERO);
            shared.queues(1);
        }
        let (turn, attributes) = (Turn::Comes(acquire), *attributes);
        Ok(Self { turn, patience, attributes, shared: Arc::clone(shared) })
    }

    pub(super) const fn until(&self) -> Instant {
        self.patience.until
    }

    /// Ready when it is its turn.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
        assert!(!matches!(self.turn, Turn::Over), "a future is not polled after it was ready");
        let Turn::Comes(acquire) = &mut self.turn else { return Poll::Ready(Ok(())) };
        match ready!(Pin::new(acquire).poll(cx)) {
            Ok(held) => {
                self.set(Turn::Is(Permit::new(held, &self.attributes)));
                Poll::Ready(Ok(()))
            }
            Err(why) => {
                self.set(Turn::Over);
                Poll::Ready(Err(match why {
                    Shed::Displaced => self.shared.refuse(),
                    Shed::Overdue(waited) => self.shared.give_up(waited),
                    Shed::Expired => self.patience.end(&self.shared),
                    Shed::Late => self.shared.too_late(self.patience.remaining),
                }))
            }
        }
    }

    pub(super) fn take_permit(&mut self) -> Permit<L> {
        match self.set(Turn::Over) {
            Turn::Is(permit) => permit,
            Turn::Comes(_) | Turn::Over => unreachable!("it was its turn"),
        }
    }

    /// The service has panicked instead of beginning the call.
    pub(super) fn fail(&mut self) {
        if let Turn::Is(permit) = &mut self.turn {
            permit.end(Class::Failure);
        }
    }

    /// Leaves: the next one has the permit before the caller goes on.
    pub(super) fn give_up(&mut self) -> Rejected {
        self.set(Turn::Over);
        self.patience.end(&self.shared)
    }

    fn set(&mut self, turn: Turn<L>) -> Turn<L> {
        if matches!(&self.turn, Turn::Comes(acquire) if acquire.has_queued()) {
            self.shared.queues(-1);
        }
        std::mem::replace(&mut self.turn, turn)
    }
}

impl<L: Limit> Drop for Place<L> {
    fn drop(&mut self) {
        self.set(Turn::Over);
    }
}

impl<L: Limit> fmt::Debug for Place<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let turn = match &self.turn {
            Turn::Comes(_) => "comes",
            Turn::Is(_) => "is",
            Turn::Over => "over",
        };
        f.debug_struct("Place").field("turn", &turn).finish_non_exhaustive()
    }
}
