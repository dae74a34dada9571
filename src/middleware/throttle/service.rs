use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::ResponseFuture;
use super::shared::Shared;
use crate::classify::Classify;
use crate::error::CarryRejected;
use crate::middleware::gate::AtHeaders;
use crate::protocol::AnyRequest;

/// A service that is sent less when it accepts less: see [throttles](super).
pub struct Throttle<S, P = AnyRequest> {
    inner: S,
    protocol: P,
    shared: Arc<Shared>,
}

impl<S, P> Throttle<S, P> {
    pub(super) const fn new(inner: S, protocol: P, shared: Arc<Shared>) -> Self {
        Self { inner, protocol, shared }
    }

    crate::middleware::macros::inner_accessors!();
}

impl<S, P, Req> Service<Req> for Throttle<S, P>
where
    S: Service<Req>,
    S::Error: CarryRejected,
    P: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, P>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        match self.shared.admit() {
            // The permit first: should the service panic, it is dropped.
            Ok(permit) => {
                let inner = self.inner.call(request);
                ResponseFuture::calling(inner, AtHeaders(self.protocol.clone()), permit)
            }
            Err(rejected) => ResponseFuture::rejected(rejected),
        }
    }
}

impl<S: Clone, P: Clone> Clone for Throttle<S, P> {
    /// A clone shares the configuration and the counts.
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.protocol.clone(), Arc::clone(&self.shared))
    }
}

impl<S: fmt::Debug, P> fmt::Debug for Throttle<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("inner", &self.inner)
            .field("name", &self.shared.telemetry.name())
            .field("config", &self.shared.config())
            .field("protocol", &std::any::type_name::<P>())
            .finish_non_exhaustive()
    }
}
