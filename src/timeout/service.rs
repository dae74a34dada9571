use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};
use tower_service::Service;

use super::config::Scope;
use super::future::{Call, ResponseFuture};
use super::shared::{Settings, Shared};
use super::state::{Bound, bind};
use crate::clock::{instant, instant_after, nanos, sleep_until};
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

    /// What ends a call of `request` that is not made before `now`, by a limit that is all there is to the settings.
    #[inline]
    fn bind_plainly<Req>(&self, request: &Req, scope: Scope, limit: u64, now: Instant) -> Result<Bound, Bound>
    where
        P: Carry<Req>,
    {
        let own = self.protocol.timeouts(request).of(scope).map_or(limit, nanos);
        let left = self.protocol.deadline(request).map(|deadline| nanos(deadline.remaining_at(now)));
        let bound = Bound::new(scope.reason(), own);
        bind(scope, Some(own), 0, left, 0).map(|earlier| earlier.unwrap_or(bound))
    }

    /// The same in every other case; `None` if nothing ends the call.
    fn bind<Req>(&mut self, settings: &Settings, request: &Req, now: Instant) -> Result<Option<Bound>, Bound>
    where
        P: Carry<Req>,
    {
        let scope = settings.config.scope;
        let waiting = self.waiting.take();
        let asked = self.protocol.timeouts(request).of(scope);
        let own = asked.or_else(|| match &waiting {
            Some(waiting) => Some(waiting.limit),
            None => self.shared.limit(settings, now),
        });
        let own = own.map(nanos);
        if waiting.as_ref().is_some_and(|waiting| waiting.is_over) {
            return Err(Bound::new(scope.reason(), own.unwrap_or(0)));
        }
        let used = waiting.map_or(0, |waiting| nanos(now.saturating_duration_since(waiting.since)));
        let left = self.protocol.deadline(request).map(|deadline| nanos(deadline.remaining_at(now)));
        bind(scope, own, used, left, self.shared.needed(settings, now))
    }

    /// What ends a call that is made now, and whether its end is of interest; or why it is not made.
    #[inline(never)]
    fn begin_slowly<Req>(&mut self, request: &Req) -> (Result<Option<Call>, Bound>, bool)
    where
        P: Carry<Req>,
    {
        let settings = self.shared.settings();
        let now = instant();
        let bound = self.bind(&settings, request, now);
        (bound.map(|bound| bound.map(|bound| Call::new(now, bound))), self.shared.wants_ends(&settings))
    }

    /// The end of a call that is not made.
    #[cold]
    fn refuse(&self, bound: Bound) -> Call {
        let call = Call::new(instant(), bound);
        self.shared.rejected(&call.rejected(self.shared.telemetry.name(), false));
        call
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

    // Always, since the compiler takes it for too large, and copies the future then; it is half of what the layer costs.
    #[inline(always)]
    fn call(&mut self, mut request: Req) -> Self::Future {
        let name = self.shared.telemetry.name();
        let (begun, wants_end) = match self.shared.plain() {
            Some((scope, limit)) => {
                let now = instant();
                let bound = self.bind_plainly(&request, scope, limit, now);
                (bound.map(|bound| Some(Call::new(now, bound))), self.shared.telemetry.is_observed())
            }
            None => self.begin_slowly(&request),
        };
        // One expression makes the future, in its place: it is large, and copying it would cost more than all the rest.
        let (inner, call) = match begun {
            Ok(call) => {
                if let Some(call) = &call {
                    self.protocol.set_deadline(&mut request, Deadline::at(call.end));
                }
                (Some(self.inner.call(request)), call)
            }
            Err(bound) => (None, Some(self.refuse(bound))),
        };
        let shared = if wants_end { Some(Arc::clone(&self.shared)) } else { None };
        ResponseFuture::new(inner, self.protocol.clone(), call, shared, name)
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
