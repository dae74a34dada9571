use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::future::ResponseFuture;
use super::quotas::Ask;
use super::scope::{KeyExtractor, RequestCost, SharedQuota, UnitCost};
use super::shared::{Refused, Shared};
use super::state::{Refusal, Turn};
use super::waiting::{Reserved, WaitingFuture};
use crate::error::CarryRejected;
use crate::protocol::{AnyRequest, RequestContext};

/// A call whose turn is not now is refused. The default.
#[derive(Clone, Copy, Debug)]
pub struct Refuses;

/// A call whose turn is not now waits for it.
#[derive(Clone, Copy, Debug)]
pub struct Waits;

/// A service that is called no more often than a [quota](super) allows.
pub struct RateLimit<S, K = SharedQuota, C = UnitCost, W = Refuses, P = AnyRequest> {
    inner: S,
    shared: Arc<Shared>,
    key: K,
    cost: C,
    protocol: P,
    form: PhantomData<fn() -> W>,
}

impl<S, K, C, W, P> RateLimit<S, K, C, W, P> {
    pub(super) const fn new(inner: S, shared: Arc<Shared>, key: K, cost: C, protocol: P) -> Self {
        Self { inner, shared, key, cost, protocol, form: PhantomData }
    }

    crate::middleware::macros::inner_accessors!();

    /// What the call asks; nothing if it is not limited.
    #[inline]
    fn ask<Req>(&self, request: &Req) -> Option<Ask>
    where
        K: KeyExtractor<Req>,
        C: RequestCost<Req>,
    {
        let cost = self.cost.cost(request);
        match self.key.key(request) {
            Some(key) if cost > 0 => Some(self.shared.ask(&key, cost)),
            _ => None,
        }
    }

    /// A turn for a call that was refused one now.
    #[cold]
    fn turn_later<Req>(&self, request: &Req, ask: Ask, refusal: Refusal) -> Result<Turn, Refused>
    where
        P: RequestContext<Req>,
    {
        let turn = match refusal {
            Refusal::Wait(wait) => self.shared.take_later(ask, wait, || self.protocol.deadline(request)),
            refusal => Err(refusal),
        };
        turn.inspect(|turn| self.shared.waits(turn)).map_err(|refusal| self.shared.refused(refusal))
    }
}

impl<S: Clone, K, C, W, P> RateLimit<S, K, C, W, P> {
    /// The service that a call is made of when its turn comes. The turn is given back if the service cannot be copied.
    #[cold]
    #[inline(never)]
    fn service_for(&mut self, ask: Ask, turn: Turn) -> S {
        let mut reserved = Reserved::new(&self.shared, ask.key, turn);
        // The readiness is not held while the call waits: others may need it.
        self.inner = self.inner.clone();
        let service = self.inner.clone();
        reserved.used();
        service
    }
}

impl<S, K, C, P, Req> Service<Req> for RateLimit<S, K, C, Refuses, P>
where
    S: Service<Req>,
    S::Error: CarryRejected,
    K: KeyExtractor<Req>,
    C: RequestCost<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        match self.ask(&request).map(|ask| self.shared.take(ask, 0)) {
            None | Some(Ok(_)) => ResponseFuture::calling(self.inner.call(request)),
            Some(Err(refusal)) => ResponseFuture::refused(self.shared.refused(refusal)),
        }
    }
}

impl<S, K, C, P, Req> Service<Req> for RateLimit<S, K, C, Waits, P>
where
    S: Service<Req> + Clone,
    S::Error: CarryRejected,
    K: KeyExtractor<Req>,
    C: RequestCost<Req>,
    P: RequestContext<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = WaitingFuture<Req, S>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    // Always: the future is large, and would be copied. So each way makes it here, and none in a function of its own.
    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        let Some(ask) = self.ask(&request) else { return WaitingFuture::calling(self.inner.call(request)) };
        let turn = match self.shared.take(ask, 0) {
            Ok(_) => return WaitingFuture::calling(self.inner.call(request)),
            Err(refusal) => self.turn_later(&request, ask, refusal),
        };
        match turn {
            Ok(turn) => {
                let service = self.service_for(ask, turn);
                WaitingFuture::waiting(service, request, &self.shared, ask, turn)
            }
            Err(refused) => WaitingFuture::refused(refused),
        }
    }
}

impl<S: Clone, K: Clone, C: Clone, W, P: Clone> Clone for RateLimit<S, K, C, W, P> {
    /// A clone shares the quota. It is not ready, even if this service is.
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: Arc::clone(&self.shared),
            key: self.key.clone(),
            cost: self.cost.clone(),
            protocol: self.protocol.clone(),
            form: PhantomData,
        }
    }
}

impl<S: fmt::Debug, K, C, W, P> fmt::Debug for RateLimit<S, K, C, W, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("inner", &self.inner)
            .field("name", &self.shared.telemetry.name())
            .field("config", &self.shared.config())
            .finish_non_exhaustive()
    }
}
