use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::answer::Answer;
use super::future::ResponseFuture;
use super::save_request::{SaveNothing, SaveRequest};
use super::shared::Shared;
use crate::classify::{Asking, Classify};
use crate::protocol::AnyRequest;

/// A service with a [fallback](super) for failed calls.
pub struct Fallback<S, A, K = SaveNothing, P = Asking<AnyRequest>> {
    inner: S,
    shared: Arc<Shared<A, K, P>>,
}

impl<S, A, K, P> Fallback<S, A, K, P> {
    pub(super) const fn new(inner: S, shared: Arc<Shared<A, K, P>>) -> Self {
        Self { inner, shared }
    }

    crate::middleware::macros::inner_accessors!();
}

impl<S, A, K, P, Req> Service<Req> for Fallback<S, A, K, P>
where
    S: Service<Req>,
    K: SaveRequest<Req>,
    A: Answer<K::Saved, S::Response, S::Error>,
    P: Classify<S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<Req, S, A, K, P>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let saved = self.shared.keep.save(&request);
        ResponseFuture::new(self.inner.call(request), saved, Arc::clone(&self.shared))
    }
}

impl<S: Clone, A, K, P> Clone for Fallback<S, A, K, P> {
    /// Returns a clone with the same fallback. The clone is not ready, even if this service is.
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.shared))
    }
}

impl<S: fmt::Debug, A, K, P> fmt::Debug for Fallback<S, A, K, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback")
            .field("inner", &self.inner)
            .field("name", &self.shared.telemetry.name())
            .field("answer", &std::any::type_name::<A>())
            .finish_non_exhaustive()
    }
}
