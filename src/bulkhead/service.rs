use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tower_service::Service;

use super::config::Mode;
use super::future::ResponseFuture;
use super::parked::{Park, Refuse, WhenFull};
use super::permit::Permit;
use super::shared::Shared;
use crate::classify::{Classify, ErrorsAreFailures};
use crate::error::Rejected;
use crate::permits::Acquire;

/// A service behind a [bulkhead](super).
pub struct Bulkhead<S, C = ErrorsAreFailures, W = Refuse> {
    inner: S,
    shared: Arc<Shared>,
    hold: C,
    /// `inner` has said that it is ready, and has not been called since.
    is_inner_ready: bool,
    /// With backpressure, the way to a permit.
    turn: Option<Turn>,
    when_full: PhantomData<fn() -> W>,
}

#[derive(Debug)]
enum Turn {
    Comes(Acquire),
    Is(Permit),
}

impl<S, C, W> Bulkhead<S, C, W> {
    pub(super) const fn new(inner: S, shared: Arc<Shared>, hold: C) -> Self {
        Self { inner, shared, hold, is_inner_ready: false, turn: None, when_full: PhantomData }
    }

    crate::macros::inner_accessors!();

    /// Takes a permit ahead of the call.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.turn.is_none() {
            let permits = &self.shared.permits;
            let free = permits.try_acquire().map(|permit| Turn::Is(Permit::new(permit)));
            self.turn = free.or_else(|| permits.acquire().map(Turn::Comes));
        }
        if let Some(Turn::Comes(acquire)) = &mut self.turn {
            let permit = ready!(Pin::new(acquire).poll(cx));
            self.turn = Some(Turn::Is(Permit::new(permit)));
        }
        Poll::Ready(())
    }

    /// Leave to make a call now.
    #[inline]
    fn permit(&mut self) -> Option<Permit> {
        match self.turn.take() {
            Some(Turn::Is(permit)) => Some(permit),
            // It was full when it was asked, so the service was not.
            _ if !self.is_inner_ready => None,
            _ => self.shared.permits.try_acquire().map(Permit::new),
        }
    }
}

impl<S, C, W, Req> Service<Req> for Bulkhead<S, C, W>
where
    S: Service<Req>,
    S::Error: From<Rejected>,
    C: Classify<S::Response, S::Error> + Clone,
    W: WhenFull<S, Req>,
    W::Parked: Park<S::Future, S::Error>,
{
    type Response = C::Response<Permit>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C, W::Parked>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.shared.mode == Mode::Backpressure {
            ready!(self.poll_turn(cx));
        } else if !self.is_inner_ready && !self.shared.permits.has_room() {
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
        let hold = self.hold.clone();
        let Some(permit) = self.permit() else {
            let parked = W::park(&mut self.inner, request, &self.shared);
            // One that waits has taken the place of the service that was ready.
            self.is_inner_ready &= parked.is_err();
            return ResponseFuture::parked(parked, hold);
        };
        self.is_inner_ready = false;
        ResponseFuture::calling(self.inner.call(request), hold, permit)
    }
}

impl<S: Clone, C: Clone, W> Clone for Bulkhead<S, C, W> {
    /// A clone shares the limit. It is not ready and has no permit, even if this service is and has.
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.shared), self.hold.clone())
    }
}

impl<S: fmt::Debug, C, W> fmt::Debug for Bulkhead<S, C, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bulkhead")
            .field("inner", &self.inner)
            .field("name", &self.shared.telemetry.name())
            .field("permits", &self.shared.permits)
            .finish_non_exhaustive()
    }
}
