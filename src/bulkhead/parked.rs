use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};
use tower_service::Service;

use super::permit::Permit;
use super::shared::Shared;
use crate::clock::{arm, instant, instant_after, poll_elapsed, sleep_until};
use crate::error::Rejected;
use crate::permits::Acquire;
use crate::telemetry::Action;

/// A layer that refuses calls when it is full, or is not ready then. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refuse;

/// A layer that lets calls [wait](crate::BulkheadLayer::waiting) when it is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wait;

/// What is done with a call that finds no room.
pub trait WhenFull<S, Req> {
    /// A call that waits.
    type Parked;

    /// Lets a call wait.
    ///
    /// # Errors
    ///
    /// If it may not.
    fn park(inner: &mut S, request: Req, shared: &Arc<Shared>) -> Result<Self::Parked, Rejected>;
}

impl<S, Req> WhenFull<S, Req> for Refuse {
    type Parked = Infallible;

    #[inline]
    fn park(_: &mut S, _: Req, shared: &Arc<Shared>) -> Result<Infallible, Rejected> {
        Err(shared.refuse())
    }
}

impl<S: Clone, Req> WhenFull<S, Req> for Wait {
    type Parked = Parked<Later<S, Req>>;

    fn park(inner: &mut S, request: Req, shared: &Arc<Shared>) -> Result<Self::Parked, Rejected> {
        let place = Place::take(shared)?;
        let service = inner.clone();
        // The one that is ready lets go of what it may hold: a clone is not ready.
        *inner = service.clone();
        Ok(Parked::new(place, Later { service, request: Some(request) }))
    }
}

/// Makes a call once it is its turn.
pub trait Park<F, E> {
    /// The call, made with the permit.
    fn poll_call(&mut self, cx: &mut Context<'_>) -> Poll<Result<(F, Permit), E>>;
}

impl<F, E> Park<F, E> for Infallible {
    fn poll_call(&mut self, _: &mut Context<'_>) -> Poll<Result<(F, Permit), E>> {
        match *self {}
    }
}

/// What is to be done when it is its turn.
pub trait Begin<F, E> {
    /// Begins it.
    fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<Result<F, E>>;
}

/// A request to a service that is not asked whether it is ready before.
pub struct Later<S, Req> {
    service: S,
    request: Option<Req>,
}

impl<S: Service<Req>, Req> Begin<S::Future, S::Error> for Later<S, Req> {
    fn poll_begin(&mut self, cx: &mut Context<'_>) -> Poll<Result<S::Future, S::Error>> {
        ready!(self.service.poll_ready(cx))?;
        let request = self.request.take().expect("a future is not polled after it was ready");
        Poll::Ready(Ok(self.service.call(request)))
    }
}

impl<S: fmt::Debug, Req> fmt::Debug for Later<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Later").field("service", &self.service).finish_non_exhaustive()
    }
}

/// A future that is not polled before.
#[derive(Debug)]
pub struct Given<F>(pub(super) Option<F>);

impl<F, E> Begin<F, E> for Given<F> {
    fn poll_begin(&mut self, _: &mut Context<'_>) -> Poll<Result<F, E>> {
        Poll::Ready(Ok(self.0.take().expect("a future is not polled after it was ready")))
    }
}

/// A place in the queue, and until when it is worth something.
pub(super) struct Place {
    turn: Turn,
    until: Instant,
    shared: Arc<Shared>,
}

#[derive(Debug)]
enum Turn {
    Comes(Acquire),
    Is(Permit),
    Over,
}

impl Place {
    pub(super) fn take(shared: &Arc<Shared>) -> Result<Self, Rejected> {
        let Some(acquire) = shared.permits.acquire() else { return Err(shared.refuse()) };
        shared.telemetry.act(Action::Queued, 0, std::time::Duration::ZERO);
        let until = instant_after(instant(), shared.config().max_wait);
        Ok(Self { turn: Turn::Comes(acquire), until, shared: Arc::clone(shared) })
    }
}

/// A call that waits for its turn.
pub struct Parked<B> {
    place: Place,
    begin: B,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> Parked<B> {
    pub(super) const fn new(place: Place, begin: B) -> Self {
        Self { place, begin, timer: None }
    }

    fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = self.place.until;
        let timer = self.timer.get_or_insert_with(|| {
            let mut timer = Box::pin(sleep_until(until));
            arm(timer.as_mut(), until);
            timer
        });
        poll_elapsed(timer.as_mut(), cx)
    }
}

impl<B, F, E> Park<F, E> for Parked<B>
where
    B: Begin<F, E>,
    E: From<Rejected>,
{
    fn poll_call(&mut self, cx: &mut Context<'_>) -> Poll<Result<(F, Permit), E>> {
        let turn = &mut self.place.turn;
        if let Turn::Comes(acquire) = turn {
            if let Poll::Ready(permit) = Pin::new(acquire).poll(cx) {
                *turn = Turn::Is(Permit::new(permit));
            }
        }
        if matches!(turn, Turn::Is(_)) {
            if let Poll::Ready(begun) = self.begin.poll_begin(cx) {
                let Turn::Is(permit) = std::mem::replace(&mut self.place.turn, Turn::Over) else {
                    return Poll::Pending;
                };
                return Poll::Ready(begun.map(|inner| (inner, permit)));
            }
        }
        ready!(self.poll_elapsed(cx));
        // The next one has it before the caller goes on.
        self.place.turn = Turn::Over;
        Poll::Ready(Err(self.place.shared.give_up().deliver()))
    }
}

impl<B: fmt::Debug> fmt::Debug for Parked<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parked")
            .field("turn", &self.place.turn)
            .field("begin", &self.begin)
            .finish_non_exhaustive()
    }
}
