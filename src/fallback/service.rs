use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::answer::Answer;
use super::future::ResponseFuture;
use super::keep::{Keep, Nothing};
use super::rule::{Judged, Rule};
use super::shared::Shared;
use crate::protocol::Plain;

/// A service whose failed calls are [answered otherwise](super).
pub struct Fallback<S, A, K = Nothing, R = Judged<Plain>> {
    inner: S,
    shared: Arc<Shared<A, K, R>>,
}

impl<S, A, K, R> Fallback<S, A, K, R> {
    pub(super) const fn new(inner: S, shared: Arc<Shared<A, K, R>>) -> Self {
        Self { inner, shared }
    }

    crate::macros::inner_accessors!();
}

impl<S, A, K, R, Req> Service<Req> for Fallback<S, A, K, R>
where
    S: Service<Req>,
    K: Keep<Req>,
    A: Answer<K::Kept, S::Response, S::Error>,
    R: Rule<S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<Req, S, A, K, R>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let kept = self.shared.keep.keep(&request);
        ResponseFuture::new(self.inner.call(request), kept, Arc::clone(&self.shared))
    }
}

impl<S: Clone, A, K, R> Clone for Fallback<S, A, K, R> {
    /// A clone has the same fallback. It is not ready, even if this service is.
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.shared))
    }
}

impl<S: fmt::Debug, A, K, R> fmt::Debug for Fallback<S, A, K, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback")
            .field("inner", &self.inner)
            .field("name", &self.shared.telemetry.name())
            .field("answer", &std::any::type_name::<A>())
            .finish_non_exhaustive()
    }
}
