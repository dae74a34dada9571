use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::future::ResponseFuture;
use super::shared::Shared;
use crate::error::Rejected;
use crate::protocol::{Judge, Plain};

/// A service that is sent less when it accepts less: see [throttles](super).
pub struct Throttle<S, J = Plain> {
    inner: S,
    judge: J,
    shared: Arc<Shared>,
}

impl<S, J> Throttle<S, J> {
    pub(super) const fn new(inner: S, judge: J, shared: Arc<Shared>) -> Self {
        Self { inner, judge, shared }
    }

    crate::macros::inner_accessors!();
}

impl<S, J, Req> Service<Req> for Throttle<S, J>
where
    S: Service<Req>,
    S::Error: From<Rejected>,
    J: Judge<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, J>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        match self.shared.admit() {
            // The ticket first: should the service panic, it is given back.
            Ok(ticket) => ResponseFuture::sent(self.inner.call(request), self.judge.clone(), ticket),
            Err(rejected) => ResponseFuture::refused(rejected, self.judge.clone()),
        }
    }
}

impl<S: Clone, J: Clone> Clone for Throttle<S, J> {
    /// A clone shares the configuration and the counts.
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.judge.clone(), Arc::clone(&self.shared))
    }
}

impl<S: fmt::Debug, J> fmt::Debug for Throttle<S, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("inner", &self.inner)
            .field("name", &self.shared.telemetry.name())
            .field("config", &self.shared.config())
            .field("judge", &std::any::type_name::<J>())
            .finish_non_exhaustive()
    }
}
