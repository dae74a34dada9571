use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tower_service::Service;

use super::limit::Limit;
use super::permit::Permit;
use super::place::Place;
use super::shared::Shared;
use crate::base::clock::BoxedTimer;
use crate::classify::in_service;
use crate::error::{CarryRejected, Rejected};
use crate::protocol::CallAttributes;

/// A layer that refuses calls when it is full, or is not ready then. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refuse;

/// A layer that lets calls [wait](crate::admission::AdmissionLayer::waiting) when it is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wait;

/// What is done with a call that finds no room.
pub trait WhenFull<S, Req, L: Limit> {
    /// A call that waits.
    type Parked;

    /// Lets a call wait.
    ///
    /// # Errors
    ///
    /// If it may not.
    fn park(
        inner: &mut S,
        request: Req,
        attributes: &CallAttributes,
        shared: &Arc<Shared<L>>,
    ) -> Result<Self::Parked, Rejected>;
}

impl<S, Req, L: Limit> WhenFull<S, Req, L> for Refuse {
    type Parked = Infallible;

    #[inline]
    fn park(_: &mut S, _: Req, _: &CallAttributes, shared: &Arc<Shared<L>>) -> Result<Infallible, Rejected> {
        Err(shared.refuse())
    }
}

impl<S: Clone, Req, L: Limit> WhenFull<S, Req, L> for Wait {
    type Parked = Parked<Later<S, Req>, L>;

    fn park(
        inner: &mut S,
        request: Req,
        attributes: &CallAttributes,
        shared: &Arc<Shared<L>>,
    ) -> Result<Self::Parked, Rejected> {
        let place = Place::take(shared, attributes)?;
        let service = inner.clone();
        // The one that is ready lets go of what it may hold: a clone is not ready.
        *inner = service.clone();
        Ok(Parked::new(place, Later { service, request: Some(request) }))
    }
}

/// Makes a call once it is its turn.
pub trait Park<F, E, L: Limit> {
    /// The call, made with the permit.
    fn poll_call(&mut self, cx: &mut Context<'_>) -> Poll<Result<(F, Permit<L>), E>>;
}

impl<F, E, L: Limit> Park<F, E, L> for Infallible {
    fn poll_call(&mut self, _: &mut Context<'_>) -> Poll<Result<(F, Permit<L>), E>> {
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

/// A call that waits for its turn.
#[derive(Debug)]
pub struct Parked<B, L: Limit> {
    place: Place<L>,
    begin: B,
    timer: BoxedTimer,
}

impl<B, L: Limit> Parked<B, L> {
    pub(super) const fn new(place: Place<L>, begin: B) -> Self {
        Self { place, begin, timer: BoxedTimer::new() }
    }

    /// Ready when the call has waited for too long.
    fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.poll(cx, self.place.until())
    }
}

impl<B, F, E, L: Limit> Park<F, E, L> for Parked<B, L>
where
    B: Begin<F, E>,
    E: CarryRejected,
{
    fn poll_call(&mut self, cx: &mut Context<'_>) -> Poll<Result<(F, Permit<L>), E>> {
        if let Poll::Ready(turn) = self.place.poll_turn(cx) {
            if let Err(rejected) = turn {
                return Poll::Ready(Err(E::from_rejected(rejected)));
            }
            let begun = in_service(|| self.begin.poll_begin(cx), || self.place.fail());
            if let Poll::Ready(begun) = begun {
                let permit = self.place.take_permit();
                return Poll::Ready(begun.map(|inner| (inner, permit)));
            }
        }
        ready!(self.poll_elapsed(cx));
        Poll::Ready(Err(E::from_rejected(self.place.give_up())))
    }
}
