use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project::pin_project;
use tokio::time::{Instant, Sleep};
use tower_service::Service;

use super::config::Scope;
use super::future::{Call, ResponseFuture};
use super::shared::{Settings, Shared};
use super::state::{Bound, bind};
use crate::clock::{arm, instant, instant_after, nanos, poll_elapsed, sleep_until};
use crate::deadline::Deadline;
use crate::error::CarryRejected;
use crate::protocol::{Carry, Cover, Plain, Timeouts};

/// A service whose calls end by a [timeout](super), if not before.
pub struct Timeout<S, P = Plain> {
    inner: S,
    protocol: P,
    shared: Arc<Shared>,
    wait: Wait,
}

/// How long `inner` takes to become ready, if that counts.
#[derive(Debug, Default)]
enum Wait {
    /// It was ready at once, or has not been asked.
    #[default]
    None,
    /// It is not ready yet.
    GoesOn(Pin<Box<Waiting>>),
    /// It took so long.
    Took(Duration),
}

/// In a box, since few services get there: a service is copied for each call that a layer around it may repeat.
#[pin_project]
#[derive(Debug)]
struct Waiting {
    since: Instant,
    limit: Duration,
    #[pin]
    timer: Sleep,
    is_over: bool,
}

impl Wait {
    #[cold]
    fn end(&mut self) {
        if let Self::GoesOn(waiting) = self {
            *self = Self::Took(instant().saturating_duration_since(waiting.since));
        }
    }
}

impl<S, P> Timeout<S, P> {
    pub(super) const fn new(inner: S, protocol: P, shared: Arc<Shared>) -> Self {
        Self { inner, protocol, shared, wait: Wait::None }
    }

    crate::macros::inner_accessors!();

    /// Ready when the service has not been so for as long as a call may take, if that counts.
    #[cold]
    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !matches!(self.wait, Wait::GoesOn(_)) {
            self.wait = self.begin_to_wait();
        }
        let Wait::GoesOn(waiting) = &mut self.wait else { return Poll::Pending };
        let waiting = waiting.as_mut().project();
        *waiting.is_over = poll_elapsed(waiting.timer, cx).is_ready();
        if *waiting.is_over { Poll::Ready(()) } else { Poll::Pending }
    }

    fn begin_to_wait(&self) -> Wait {
        let settings = self.shared.settings();
        if !settings.config.includes_readiness {
            return Wait::None;
        }
        let since = instant();
        let Some(limit) = self.shared.limit(&settings, since) else { return Wait::None };
        let at = instant_after(since, limit);
        let mut waiting = Box::pin(Waiting { since, limit, timer: sleep_until(at), is_over: false });
        arm(waiting.as_mut().project().timer, at);
        Wait::GoesOn(waiting)
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
    fn bind<Req>(&mut self, settings: &Settings, request: &Req, now: Instant) -> Result<Option<Call>, Bound>
    where
        P: Carry<Req>,
    {
        let scope = settings.config.scope;
        let used = match mem::take(&mut self.wait) {
            Wait::GoesOn(waiting) if waiting.is_over => {
                return Err(Bound::new(scope.reason(), nanos(waiting.limit)));
            }
            Wait::Took(waited) => nanos(waited),
            Wait::GoesOn(_) | Wait::None => 0,
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

    /// What limits and measures a call that is made now, and whether its end is of interest; or why it is not made.
    #[inline(never)]
    fn begin_slowly<Req>(&mut self, request: &Req) -> (Result<Option<Call>, Bound>, bool)
    where
        P: Carry<Req>,
    {
        let settings = self.shared.settings();
        let now = instant();
        let begun = self
            .bind(&settings, request, now)
            .map(|call| call.or_else(|| settings.measures().then(|| Call::unlimited(now))));
        (begun, self.shared.wants_ends(&settings))
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
    S::Error: CarryRejected,
    P: Carry<Req> + Cover<S::Response> + Clone,
{
    type Response = P::Covered;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, P>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        match self.inner.poll_ready(cx) {
            Poll::Ready(Ok(())) => {
                if !matches!(self.wait, Wait::None) {
                    self.wait.end();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                self.wait = Wait::None;
                Poll::Ready(Err(error))
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
        let shared = if wants_end { Some(Arc::clone(&self.shared)) } else { None };
        // Each way makes the future in its place: it is large, and copying it would cost more than all the rest.
        match begun {
            Ok(call) => {
                // Also if it is the request's own: what a header says counts from when it is read, and is read once.
                if let Some(end) = call.as_ref().and_then(Call::end) {
                    self.protocol.set_deadline(&mut request, Deadline::at(end));
                }
                let inner = self.inner.call(request);
                ResponseFuture::new(Some(inner), self.protocol.clone(), call, shared, name)
            }
            Err(bound) => {
                let call = self.refuse(bound);
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
