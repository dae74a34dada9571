use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};
use tower_service::Service;

use super::config::{Limit, Scope};
use super::future::{Call, ResponseFuture};
use super::shared::{Settings, Shared};
use super::state::Bound;
use crate::clock::{instant, instant_after, sleep_until};
use crate::deadline::Deadline;
use crate::error::Rejected;
use crate::protocol::{Carry, Cover, Plain, Timeouts};

/// A service whose calls end by a [timeout](super), if not before.
pub struct Timeout<S, P = Plain> {
    inner: S,
    protocol: P,
    shared: Arc<Shared>,
    /// For `inner` to become ready, if that counts.
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    is_over: bool,
}

impl<S, P> Timeout<S, P> {
    pub(super) const fn new(inner: S, protocol: P, shared: Arc<Shared>) -> Self {
        Self { inner, protocol, shared, waiting: None }
    }

    crate::macros::inner_accessors!();

    /// Ready when the service has not been so for as long as a call may take, if that counts.
    #[cold]
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.waiting.is_none() {
            let settings = self.shared.settings();
            let since = instant();
            let limit = self.shared.limit(&settings, since).filter(|_| settings.config.includes_readiness);
            self.waiting = limit.map(|limit| {
                let timer = Box::pin(sleep_until(instant_after(since, limit)));
                Waiting { since, limit, timer, is_over: false }
            });
        }
        let Some(waiting) = &mut self.waiting else { return Poll::Pending };
        waiting.is_over = waiting.timer.as_mut().poll(cx).is_ready();
        if waiting.is_over { Poll::Ready(()) } else { Poll::Pending }
    }

    /// What ends a call of `request`; `None` if nothing does.
    #[inline]
    fn bind<Req>(&mut self, settings: &Settings, request: &Req) -> Result<Option<Call>, Bound>
    where
        P: Carry<Req>,
    {
        let scope = settings.config.scope;
        let deadline = self.protocol.deadline(request);
        let asked = self.protocol.timeouts(request).of(scope);
        let waiting = self.waiting.take();
        if deadline.is_none() && asked.is_none() && matches!(settings.config.limit, Limit::Deadline) {
            return Ok(None);
        }
        let now = instant();
        let began = waiting.as_ref().map_or(now, |waiting| waiting.since);
        let own = asked.or_else(|| match &waiting {
            Some(waiting) => Some(waiting.limit),
            None => self.shared.limit(settings, now),
        });
        if waiting.is_some_and(|waiting| waiting.is_over) {
            let limit = own.unwrap_or_default();
            return Err(Bound { reason: scope.reason(), limit, within: Duration::ZERO });
        }
        let left = deadline.map(|deadline| deadline.remaining_at(now));
        let bound = self.shared.bind(settings, own, now.saturating_duration_since(began), left, now)?;
        Ok(bound.map(|bound| Call { began, end: instant_after(now, bound.within), bound }))
    }
}

impl<S, P, Req> Service<Req> for Timeout<S, P>
where
    S: Service<Req>,
    S::Error: From<Rejected>,
    P: Carry<Req> + Cover<S::Response> + Clone,
{
    type Response = P::Covered;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, P>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match self.inner.poll_ready(cx) {
            Poll::Ready(result) => {
                if let Some(waiting) = &mut self.waiting {
                    waiting.is_over = false;
                }
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_waiting(cx).map(Ok),
        }
    }

    #[inline]
    fn call(&mut self, mut request: Req) -> Self::Future {
        let settings = self.shared.settings();
        let call = match self.bind(&settings, &request) {
            Ok(call) => call,
            Err(bound) => return ResponseFuture::refused(self.shared.refuse(bound), self.protocol.clone()),
        };
        if let Some(Call { end, bound, .. }) = &call {
            if bound.reason == settings.config.scope.reason() {
                self.protocol.set_deadline(&mut request, Deadline::at(*end));
            }
        }
        let shared = self.shared.wants_ends(&settings).then(|| Arc::clone(&self.shared));
        let name = self.shared.telemetry.name();
        ResponseFuture::calling(self.inner.call(request), self.protocol.clone(), call, shared, name)
    }
}

impl Timeouts {
    const fn of(self, scope: Scope) -> Option<Duration> {
        match scope {
            Scope::Total => self.total,
            Scope::Attempt => self.attempt,
        }
    }
}

impl<S: Clone, P: Clone> Clone for Timeout<S, P> {
    /// A clone shares the configuration and what is measured. It is not ready, even if this service is.
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.protocol.clone(), Arc::clone(&self.shared))
    }
}

impl<S: fmt::Debug, P> fmt::Debug for Timeout<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout")
            .field("inner", &self.inner)
            .field("name", &self.shared.telemetry.name())
            .field("config", &self.shared.settings().config)
            .finish_non_exhaustive()
    }
}
