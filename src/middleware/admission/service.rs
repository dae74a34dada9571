use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tower_service::Service;

use super::config::Mode;
use super::limit::Limit;
use super::parked::{Refuse, WhenFull};
use super::permit::Permit;
use super::shared::Shared;
use crate::base::clock::instant;
use crate::classify::{CarryGuard, Classify, in_service};
use crate::error::CarryRejected;
use crate::middleware::gate::{Admitted, GatePermit, ResponseFuture, Waiting};
use crate::primitives::semaphore::{self, Acquire};
use crate::protocol::{AnyRequest, CallAttributes, RequestContext};

/// A service that is called only so many times [at once](super).
pub struct Admission<S, L: Limit, W = Refuse, P = AnyRequest> {
    inner: S,
    shared: Arc<Shared<L>>,
    protocol: P,
    /// `inner` has said that it is ready, and has not been called since.
    is_inner_ready: bool,
    /// With backpressure, the way to a permit.
    turn: Option<Turn<L>>,
    when_full: PhantomData<fn() -> W>,
}

enum Turn<L: Limit> {
    /// In a box, since services are copied about, and few wait.
    Comes(Box<Queued<L>>),
    Is(semaphore::Permit<Shared<L>>),
}

/// A place in the queue, which is told to whoever wants to know.
struct Queued<L: Limit> {
    acquire: Acquire<Shared<L>>,
    shared: Arc<Shared<L>>,
}

impl<L: Limit> Queued<L> {
    fn enter(shared: &Arc<Shared<L>>, attributes: &CallAttributes) -> Option<Self> {
        let queued = Self { acquire: shared.wait(attributes, instant(), None)?, shared: Arc::clone(shared) };
        queued.tell(1);
        Some(queued)
    }

    fn tell(&self, change: i64) {
        if self.acquire.has_queued() {
            self.shared.queues(change);
        }
    }
}

impl<L: Limit> Drop for Queued<L> {
    fn drop(&mut self) {
        self.tell(-1);
    }
}

impl<S, L: Limit, W, P> Admission<S, L, W, P> {
    pub(super) const fn new(inner: S, shared: Arc<Shared<L>>, protocol: P) -> Self {
        let (is_inner_ready, turn, when_full) = (false, None, PhantomData);
        Self { inner, shared, protocol, is_inner_ready, turn, when_full }
    }

    crate::middleware::macros::inner_accessors!(is_inner_ready);

    /// Takes a permit ahead of the call, of which nothing is known yet.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.turn {
                Some(Turn::Is(_)) => return Poll::Ready(()),
                // One that was turned away asks again.
                Some(Turn::Comes(queued)) => {
                    self.turn = ready!(Pin::new(&mut queued.acquire).poll(cx)).ok().map(Turn::Is);
                }
                None => {
                    let attributes = CallAttributes::new();
                    let free = self.shared.permit(&attributes).map(Turn::Is);
                    let queued = || {
                        Queued::enter(&self.shared, &attributes).map(|queued| Turn::Comes(Box::new(queued)))
                    };
                    self.turn = free.or_else(queued);
                    if self.turn.is_none() {
                        return Poll::Ready(());
                    }
                }
            }
        }
    }

    /// Leave to make a call now; none if it is full.
    #[inline]
    fn permit(&mut self, attributes: &CallAttributes) -> Option<Permit<L>> {
        let held = match self.turn.take() {
            // It was full when it was asked, so the service was not; or that one may have been
            // replaced since.
            _ if !self.is_inner_ready => None,
            Some(Turn::Is(held)) => Some(held),
            _ => self.shared.permit(attributes),
        };
        held.map(|held| Permit::new(held, attributes))
    }
}

impl<S, L, W, P, Req> Service<Req> for Admission<S, L, W, P>
where
    S: Service<Req>,
    S::Error: CarryRejected,
    L: Limit,
    W: WhenFull<S, Req, L>,
    W::Parked<P>: Waiting<S::Future, S::Error, Admitted<P, Permit<L>>>,
    P: RequestContext<Req> + Classify<S::Response, S::Error> + CarryGuard<S::Response> + Clone,
{
    type Response = P::Response<Permit<L>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, Admitted<P, Permit<L>>, W::Parked<P>>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.shared.mode == Mode::Backpressure {
            ready!(self.poll_turn(cx));
        } else if !self.is_inner_ready && !self.shared.has_room() && !self.shared.is_exempting() {
            return Poll::Ready(Ok(()));
        }
        if self.is_inner_ready {
            return Poll::Ready(Ok(()));
        }
        let result = ready!(self.inner.poll_ready(cx));
        self.is_inner_ready = result.is_ok();
        if result.is_err() {
            self.turn = None;
        }
        Poll::Ready(result)
    }

    // Always, here and in what it calls: otherwise the future is copied where a program makes calls in two places.
    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        let attributes = self.protocol.attributes(&request);
        if let Err(late) = self.shared.can_finish(&attributes) {
            self.turn = None;
            return ResponseFuture::rejected(late);
        }
        let Some(mut permit) = self.permit(&attributes) else {
            let parked = W::park(&mut self.inner, request, &attributes, &self.shared, &self.protocol);
            // One that waits has taken the place of the service that was ready.
            self.is_inner_ready &= parked.is_err();
            return match parked {
                Ok(parked) => ResponseFuture::waiting(parked),
                Err(rejected) => ResponseFuture::rejected(rejected),
            };
        };
        self.is_inner_ready = false;
        let inner = in_service(|| self.inner.call(request), || permit.fail());
        ResponseFuture::calling(inner, self.protocol.clone(), permit)
    }
}

impl<S: Clone, L: Limit, W, P: Clone> Clone for Admission<S, L, W, P> {
    /// A clone shares the limit. It is not ready and has no permit, even if this service is and has.
    fn clone(&self) -> Self {
        let shared = Arc::clone(&self.shared);
        Self::new(self.inner.clone(), shared, self.protocol.clone())
    }
}

impl<S: fmt::Debug, L: Limit, W, P> fmt::Debug for Admission<S, L, W, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (in_flight, limit) = self.shared.counts();
        f.debug_struct("Admission")
            .field("inner", &self.inner)
            .field("name", &self.shared.telemetry.name())
            .field("in_flight", &in_flight)
            .field("limit", &limit)
            .finish_non_exhaustive()
    }
}
