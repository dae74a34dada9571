use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::future::ResponseFuture;
use super::scope::{Cost, Key, One, Together};
use super::shared::{Shared, Taken};
use super::state::Refusal;
use super::waiting::WaitingFuture;
use crate::error::Rejected;

/// A call whose turn is not now is refused. The default.
#[derive(Clone, Copy, Debug)]
pub struct Refuses;

/// A call whose turn is not now waits for it.
#[derive(Clone, Copy, Debug)]
pub struct Waits;

/// A service that is called no more often than a [quota](super) allows.
pub struct RateLimit<S, K = Together, C = One, W = Refuses> {
    inner: S,
    shared: Arc<Shared>,
    key: K,
    cost: C,
    waits: PhantomData<fn() -> W>,
}

impl<S, K, C, W> RateLimit<S, K, C, W> {
    pub(super) const fn new(inner: S, shared: Arc<Shared>, key: K, cost: C) -> Self {
        Self { inner, shared, key, cost, waits: PhantomData }
    }

    crate::macros::inner_accessors!();

    /// A turn for the call, or none if it is not limited.
    #[inline]
    fn take<Req>(&self, request: &Req, most: u64) -> Result<Option<Taken>, Refusal>
    where
        K: Key<Req>,
        C: Cost<Req>,
    {
        let cost = self.cost.cost(request);
        match self.key.key(request) {
            Some(key) if cost > 0 => self.shared.take(&key, cost, most).map(Some),
            _ => Ok(None),
        }
    }
}

impl<S, K, C, Req> Service<Req> for RateLimit<S, K, C, Refuses>
where
    S: Service<Req>,
    S::Error: From<Rejected>,
    K: Key<Req>,
    C: Cost<Req>,
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
        match self.take(&request, 0) {
            Ok(_) => ResponseFuture::calling(self.inner.call(request)),
            Err(refusal) => ResponseFuture::refused(self.shared.rejected(refusal)),
        }
    }
}

impl<S, K, C, Req> Service<Req> for RateLimit<S, K, C, Waits>
where
    S: Service<Req> + Clone,
    S::Error: From<Rejected>,
    K: Key<Req>,
    C: Cost<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = WaitingFuture<Req, S>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        match self.take(&request, self.shared.max_wait()) {
            Ok(Some(taken)) if taken.is_later() => {
                self.shared.waits(&taken);
                // The readiness is not held while the call waits: others may need it.
                self.inner = self.inner.clone();
                WaitingFuture::waiting(self.inner.clone(), request, &self.shared, taken)
            }
            Ok(_) => WaitingFuture::calling(self.inner.call(request)),
            Err(refusal) => WaitingFuture::refused(self.shared.rejected(refusal)),
        }
    }
}

impl<S: Clone, K: Clone, C: Clone, W> Clone for RateLimit<S, K, C, W> {
    /// A clone shares the quota. It is not ready, even if this service is.
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.shared), self.key.clone(), self.cost.clone())
    }
}

impl<S: fmt::Debug, K, C, W> fmt::Debug for RateLimit<S, K, C, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("inner", &self.inner)
            .field("name", &self.shared.telemetry.name())
            .field("config", &self.shared.config())
            .finish_non_exhaustive()
    }
}
