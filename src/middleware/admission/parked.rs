use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
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
use crate::middleware::gate::{Admitted, Waiting};
use crate::protocol::CallAttributes;

/// A layer that refuses calls when it is full, or is not ready then. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refuse;

/// A layer that lets calls [wait](crate::admission::AdmissionLayer::waiting) when it is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wait;

/// What is done with a call that finds no room.
pub trait WhenFull<S, Req, L: Limit> {
    /// A call that waits, with the protocol `P`.
    type Parked<P>;

    /// Lets a call wait.
    ///
    /// # Errors
    ///
    /// If it may not.
    fn park<P: Clone>(
        inner: &mut S,
        request: Req,
        attributes: &CallAttributes,
        shared: &Arc<Shared<L>>,
        protocol: &P,
    ) -> Result<Self::Parked<P>, Rejected>;
}

impl<S, Req, L: Limit> WhenFull<S, Req, L> for Refuse {
    type Parked<P> = Infallible;

    // Always, so that the attributes of a call that is admitted are not put into memory for this.
    #[inline(always)]
    fn park<P>(
        _: &mut S,
        _: Req,
        _: &CallAttributes,
        shared: &Arc<Shared<L>>,
        _: &P,
    ) -> Result<Infallible, Rejected> {
        Err(shared.refuse())
    }
}

impl<S: Clone, Req, L: Limit> WhenFull<S, Req, L> for Wait {
    type Parked<P> = Parked<Later<S, Req>, P, L>;

    fn park<P: Clone>(
        inner: &mut S,
        request: Req,
        attributes: &CallAttributes,
        shared: &Arc<Shared<L>>,
        protocol: &P,
    ) -> Result<Self::Parked<P>, Rejected> {
        let place = Place::take(shared, attributes)?;
        let service = inner.clone();
        // The one that is ready lets go of what it may hold: a clone is not ready.
        *inner = service.clone();
        Ok(Parked::new(place, Later { service, request: Some(request) }, protocol.clone()))
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
pub struct Parked<B, P, L: Limit> {
    place: Place<L>,
    begin: B,
    /// `None` once the call has begun.
    protocol: Option<P>,
    timer: BoxedTimer,
}

impl<B, P, L: Limit> Parked<B, P, L> {
    pub(super) const fn new(place: Place<L>, begin: B, protocol: P) -> Self {
        Self { place, begin, protocol: Some(protocol), timer: BoxedTimer::new() }
    }

    /// Returns ready when the call has waited for as long as it may.
    fn poll_elapsed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.timer.poll(cx, self.place.until())
    }
}

/// None of its fields is pinned.
impl<B, P, L: Limit> Unpin for Parked<B, P, L> {}

impl<B, P, F, E, L: Limit> Waiting<F, E, Admitted<P, Permit<L>>> for Parked<B, P, L>
where
    B: Begin<F, E>,
    E: CarryRejected,
{
    fn poll_call(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(F, Admitted<P, Permit<L>>), E>> {
        let this = self.get_mut();
        if let Poll::Ready(turn) = this.place.poll_turn(cx) {
            if let Err(rejected) = turn {
                return Poll::Ready(Err(E::from_rejected(rejected)));
            }
            let begun = in_service(|| this.begin.poll_begin(cx), || this.place.fail());
            if let Poll::Ready(begun) = begun {
                let permit = this.place.take_permit();
                let protocol = this.protocol.take().expect("a future is not polled after it was ready");
                return Poll::Ready(begun.map(|inner| (inner, Admitted { protocol, permit })));
            }
        }
        ready!(this.poll_elapsed(cx));
        Poll::Ready(Err(E::from_rejected(this.place.give_up())))
    }
}
