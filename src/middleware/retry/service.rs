use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::future::ResponseFuture;
use super::policy::{Attempts, RetryPolicy, Standard};
use super::shared::Shared;
use crate::error::CarryRejected;
use crate::protocol::AnyRequest;

/// A service whose failed calls are [retried](super).
pub struct Retry<S, P = Standard<AnyRequest>> {
    inner: S,
    policy: P,
    shared: Arc<Shared>,
}

impl<S, P> Retry<S, P> {
    pub(super) const fn new(inner: S, policy: P, shared: Arc<Shared>) -> Self {
        Self { inner, policy, shared }
    }

    crate::middleware::macros::inner_accessors!();
}

impl<S, P, Req> Service<Req> for Retry<S, P>
where
    P: RetryPolicy<Req, S::Response, S::Error> + Clone,
    S: Service<<P as Attempts<Req>>::Request> + Clone,
    S::Error: CarryRejected,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<Req, S, P>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let is_repeatable = self.shared.begin();
        let (request, kept) = self.policy.begin(request, is_repeatable);
        // The instance that reported readiness makes the call, and stays with it for further
        // attempts.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let span = self.shared.telemetry.attempt(1, 0);
        let attempt = span.run(|| inner.call(request));
        let shared = Arc::clone(&self.shared);
        ResponseFuture::new(attempt, inner, self.policy.clone(), kept, shared, span, is_repeatable)
    }
}

impl<S: Clone, P: Clone> Clone for Retry<S, P> {
    /// Returns a clone that shares the budget and the configuration. The clone is not ready, even
    /// if this service is.
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.policy.clone(), Arc::clone(&self.shared))
    }
}

impl<S: fmt::Debug, P> fmt::Debug for Retry<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("inner", &self.inner)
            .field("name", &self.shared.telemetry.name())
            .field("policy", &std::any::type_name::<P>())
            .finish_non_exhaustive()
    }
}
