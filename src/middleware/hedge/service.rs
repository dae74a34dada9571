use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::future::ResponseFuture;
use super::hedging::Hedging;
use super::shared::Shared;
use super::state::Facts;
use crate::classify::{Asking, Classify};
use crate::protocol::{AnyRequest, Replay, RequestContext};

/// A service whose slow calls are [hedged](super).
pub struct Hedge<S, P = Asking<AnyRequest>> {
    inner: S,
    protocol: P,
    shared: Arc<Shared>,
}

impl<S, P> Hedge<S, P> {
    pub(super) const fn new(inner: S, protocol: P, shared: Arc<Shared>) -> Self {
        Self { inner, protocol, shared }
    }

    crate::middleware::macros::inner_accessors!();
}

impl<S, P, Req> Service<Req> for Hedge<S, P>
where
    P: RequestContext<Req> + Replay<Req> + RequestContext<<P as Replay<Req>>::Request>,
    P: Classify<S::Response, S::Error> + Clone,
    S: Service<<P as Replay<Req>>::Request> + Clone,
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
        let attempt = self.protocol.attempt(&request).unwrap_or_default();
        let (plan, stopwatch) = self.shared.begin(attempt);
        let is_idempotent = plan.is_some() && self.protocol.is_idempotent(&request);
        let deadline = if is_idempotent { self.protocol.deadline(&request) } else { None };
        let facts = Facts { is_idempotent, deadline, number: attempt.number };
        let (request, kept) = self.protocol.save(request, is_idempotent);
        // A call that must not be sent twice needs a plan only to report that it was late.
        let plan = plan.filter(|_| is_idempotent || self.shared.telemetry.is_observed());
        let hedging = plan.map(|plan| {
            // The instance that reported readiness makes the call, and a clone of it sends the
            // copies.
            let spare = kept.map(|kept| (kept, self.inner.clone()));
            Hedging::new(plan, self.protocol.clone(), facts, spare)
        });
        let span = self.shared.telemetry.attempt(attempt.number.max(1), 0);
        let original = span.run(|| self.inner.call(request));
        ResponseFuture::new(original, span, self.protocol.clone(), stopwatch, hedging)
    }
}

impl<S: Clone, P: Clone> Clone for Hedge<S, P> {
    /// Returns a clone that shares the latencies, the budget and the configuration. The clone is
    /// not ready, even if this service is.
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.protocol.clone(), Arc::clone(&self.shared))
    }
}

impl<S: fmt::Debug, P> fmt::Debug for Hedge<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedge")
            .field("inner", &self.inner)
            .field("name", &self.shared.telemetry.name())
            .field("protocol", &std::any::type_name::<P>())
            .finish_non_exhaustive()
    }
}
