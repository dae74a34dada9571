use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tower_service::Service;

use super::config::Scope;
use super::future::{Call, ResponseFuture};
use super::shared::{Settings, Shared};
use super::state::{Bound, bind};
use super::wait::{By, Wait, Waited};
use crate::base::clock::{instant, nanos};
use crate::deadline::Deadline;
use crate::error::CarryRejected;
use crate::protocol::{AnyRequest, RequestContext, Timeouts, WrapBody};

/// A service with a [timeout](super) on its calls.
pub struct Timeout<S, P = AnyRequest> {
    inner: S,
    protocol: P,
    shared: Arc<Shared>,
    /// The wait for `inner` to become ready, if the limit includes it. Boxed, since it is rare, and
    /// since a retry or a hedge around this service clones it for each call.
    wait: Option<Box<Wait>>,
}

impl<S, P> Timeout<S, P> {
    pub(super) const fn new(inner: S, protocol: P, shared: Arc<Shared>) -> Self {
        Self { inner, protocol, shared, wait: None }
    }

    crate::middleware::macros::inner_accessors!();

    /// Polls a service that has been found not ready.
    #[cold]
    fn poll_slowly<Req>(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>>
    where
        S: Service<Req>,
    {
        let now = instant();
        let by = self.wait.as_mut().map(|wait| wait.by(cx.waker(), now));
        if by == Some(By::Same) && self.shared.settings().config.includes_readiness {
            return self.poll_wait(cx, now);
        }
        if self.wait.take().is_some() {
            let is_ready = self.inner.poll_ready(cx);
            if is_ready.is_ready() {
                return is_ready;
            }
        }
        self.wait = self.begin_to_wait(now);
        if let Some(wait) = self.wait.as_mut().filter(|_| by == Some(By::Late)) {
            wait.second();
        }
        self.poll_wait(cx, now)
    }

    fn poll_wait<Req>(&mut self, cx: &Context<'_>, now: Instant) -> Poll<Result<(), S::Error>>
    where
        S: Service<Req>,
    {
        let Some(wait) = &mut self.wait else { return Poll::Pending };
        let is_ready = wait.poll(cx, now, |cx| self.inner.poll_ready(cx));
        if let Poll::Ready(Err(_)) = is_ready {
            self.wait = None;
        }
        is_ready
    }

    fn begin_to_wait(&self, now: Instant) -> Option<Box<Wait>> {
        let settings = self.shared.settings();
        let limit = self.shared.limit(&settings, now).filter(|_| settings.config.includes_readiness)?;
        Some(Wait::begin(now, settings.config.scope.reason(), limit))
    }

    /// Returns the bound of a call that starts at `now`, under settings with nothing but a fixed
    /// limit.
    #[inline]
    fn bind_plainly<Req>(&self, request: &Req, scope: Scope, limit: u64, now: Instant) -> Result<Bound, Bound>
    where
        P: RequestContext<Req>,
    {
        let own = self.protocol.timeouts(request).of(scope).map_or(limit, nanos);
        let left = self.protocol.deadline(request).map(|deadline| nanos(deadline.remaining_at(now)));
        let bound = Bound::new(scope.reason(), own);
        bind(scope, Some(own), 0, left, 0).map(|earlier| earlier.unwrap_or(bound))
    }

    /// Returns the bound of a call in all other cases, or `None` if nothing limits it.
    fn bind<Req>(&mut self, settings: &Settings, request: &Req, now: Instant) -> Result<Option<Call>, Bound>
    where
        P: RequestContext<Req>,
    {
        let scope = settings.config.scope;
        let used = match self.wait.take().map(|wait| wait.ended()) {
            // The service is not ready, even if the settings have changed meanwhile.
            Some(Waited::Over(bound)) => return Err(bound),
            Some(Waited::Took(waited)) if settings.config.includes_readiness => nanos(waited),
            _ => 0,
        };
        let asked = self.protocol.timeouts(request).of(scope);
        let own = asked.or_else(|| self.shared.limit(settings, now)).map(nanos);
        let left = self.protocol.deadline(request).map(|deadline| nanos(deadline.remaining_at(now)));
        let bound = bind(scope, own, used, left, self.shared.needed(settings, now))?;
        Ok(bound.map(|bound| {
            let mut call = Call::new(now, bound);
            call.has_own_limit &= asked.is_none();
            call
        }))
    }

    /// Returns the limits and measurements of a call that starts now, or the reason for its
    /// rejection, and whether its end must be recorded.
    #[inline(never)]
    fn begin_slowly<Req>(&mut self, request: &Req) -> (Result<Option<Call>, Bound>, bool)
    where
        P: RequestContext<Req>,
    {
        let settings = self.shared.settings();
        let now = instant();
        let begun = self
            .bind(&settings, request, now)
            .map(|call| call.or_else(|| settings.measures().then(|| Call::unlimited(now))));
        (begun, self.shared.wants_ends(&settings))
    }

    /// Records a rejection, and returns a call that ends with it.
    #[cold]
    fn reject(&self, bound: Bound) -> Call {
        let call = Call::new(instant(), bound);
        self.shared.rejected(&call.rejected(self.shared.telemetry.name(), false));
        call
    }
}

impl<S, P, Req> Service<Req> for Timeout<S, P>
where
    S: Service<Req>,
    S::Error: CarryRejected,
    P: RequestContext<Req> + WrapBody<S::Response> + Clone,
{
    type Response = P::Wrapped;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, P>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.wait.is_none() {
            if let Poll::Ready(is_ready) = self.inner.poll_ready(cx) {
                return Poll::Ready(is_ready);
            }
        }
        self.poll_slowly(cx)
    }

    // Always inlined. Otherwise the compiler takes the function for too large and copies the
    // future, which is half of the layer's cost.
    #[inline(always)]
    fn call(&mut self, mut request: Req) -> Self::Future {
        let name = self.shared.telemetry.name();
        let (begun, wants_end) = match self.shared.plain() {
            Some((scope, limit)) if self.wait.is_none() => {
                let now = instant();
                let bound = self.bind_plainly(&request, scope, limit, now);
                (bound.map(|bound| Some(Call::new(now, bound))), self.shared.telemetry.is_observed())
            }
            _ => self.begin_slowly(&request),
        };
        let shared = if wants_end { Some(Arc::clone(&self.shared)) } else { None };
        // Each arm creates the future in place: copying it costs more than all the rest.
        match begun {
            Ok(call) => {
                // Written even if the deadline is the request's own. A relative time in a header
                // counts from when it is first read, so it must not be read again further in.
                if let Some(end) = call.as_ref().and_then(Call::end) {
                    self.protocol.set_deadline(&mut request, Deadline::at(end));
                }
                let inner = self.inner.call(request);
                ResponseFuture::new(Some(inner), self.protocol.clone(), call, shared, name)
            }
            Err(bound) => {
                let call = self.reject(bound);
                ResponseFuture::new(None, self.protocol.clone(), Some(call), shared, name)
            }
        }
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
    /// Returns a clone that shares the configuration and the measured latencies. The clone is not
    /// ready, even if this service is.
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
