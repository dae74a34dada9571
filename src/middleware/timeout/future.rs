use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project::pin_project;
use tokio::time::Instant;

use super::config::Covers;
use super::shared::Shared;
use super::state::Bound;
use crate::base::clock::{Timer, instant, instant_after};
use crate::error::{CarryRejected, Reason, Rejected};
use crate::protocol::{BodyTimer, WrapBody};

/// The future of a call with a [timeout](super).
///
/// Dropping it early cancels the call, which does not count as a timeout.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<F, P> {
    /// The future of the service; `None` if the call was not made or is over.
    #[pin]
    inner: Option<F>,
    protocol: P,
    /// The limits and measurements of the call; `None` if it has neither.
    call: Option<Call>,
    #[pin]
    timer: Timer,
    /// Set if the end of the call must be recorded.
    shared: Option<Arc<Shared>>,
    name: &'static str,
}

/// A call with a limit or a measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    end: Instant,
    /// The limit in nanoseconds, counted back from the end of the call.
    limit: u64,
    reason: Reason,
    /// `true` if the limit is the layer's own, and neither the deadline nor a timeout of the
    /// request.
    pub(super) has_own_limit: bool,
}

impl Call {
    /// Creates a call that starts at `now`.
    #[inline]
    pub(super) fn new(now: Instant, bound: Bound) -> Self {
        let end = instant_after(now, Duration::from_nanos(bound.within));
        let has_own_limit = !matches!(bound.reason, Reason::DeadlineExceeded);
        Self { end, limit: bound.limit, reason: bound.reason, has_own_limit }
    }

    /// Creates a call that is only measured.
    pub(super) fn unlimited(now: Instant) -> Self {
        Self::new(now, Bound::new(Reason::DeadlineExceeded, Self::FOR_EVER))
    }

    const FOR_EVER: u64 = u64::MAX;

    /// Returns the moment at which the call must end, if it is limited.
    #[inline]
    pub(super) fn end(&self) -> Option<Instant> {
        (self.limit != Self::FOR_EVER).then_some(self.end)
    }

    pub(super) const fn rejected(&self, name: &'static str, reached_service: bool) -> Rejected {
        Rejected::timeout(self.reason, name, self.limit, reached_service)
    }

    /// Returns the duration of the call until `now`.
    fn taken(&self, now: Instant) -> Duration {
        let limit = Duration::from_nanos(self.limit);
        instant_after(now, limit).saturating_duration_since(self.end)
    }
}

impl<F, P> ResponseFuture<F, P> {
    /// Creates the future of a call, or of a rejection if `inner` is `None`.
    #[inline]
    pub(super) const fn new(
        inner: Option<F>,
        protocol: P,
        call: Option<Call>,
        shared: Option<Arc<Shared>>,
        name: &'static str,
    ) -> Self {
        Self { inner, protocol, call, timer: Timer::new(), shared, name }
    }
}

impl<F, P, Res, E> Future for ResponseFuture<F, P>
where
    F: Future<Output = Result<Res, E>>,
    P: WrapBody<Res>,
    E: CarryRejected,
{
    type Output = Result<P::Wrapped, E>;

    // Always inlined, like `call`.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.as_mut().project();
        if let Some(inner) = this.inner.as_mut().as_pin_mut() {
            // The service is polled first: a response that has arrived is not too late.
            match inner.poll(cx) {
                Poll::Ready(Ok(answer)) => {
                    // Separate arms: a `BodyTimer` is large, and need not be created where it is
                    // known to be absent.
                    return Poll::Ready(Ok(match this.shared {
                        Some(shared) if shared.plain().is_none() => {
                            this.protocol.wrap_body(answer, shared.answered(this.call.as_ref()))
                        }
                        _ => this.protocol.wrap_body(answer, None),
                    }));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.named(error))),
                Poll::Pending => {}
            }
        }
        self.poll_rejected(cx).map(|rejected| Err(E::from_rejected(rejected)))
    }
}

impl<F, P> ResponseFuture<F, P> {
    /// Replaces the error of an inner layer that gave up at the end of this layer's limit, which it
    /// knew as a deadline. The limit says more than the time that was left further in.
    #[cold]
    fn named<E: CarryRejected>(self: Pin<&mut Self>, error: E) -> E {
        let this = self.project();
        let limit = this.call.filter(|call| call.reason != Reason::DeadlineExceeded);
        match limit.filter(|_| error.rejected().is_some_and(is_past_deadline)) {
            Some(call) if instant() >= call.end => {
                let rejected = call.rejected(this.name, true);
                if let Some(shared) = this.shared {
                    shared.given_up(&call, &rejected);
                }
                E::from_rejected(rejected)
            }
            _ => error,
        }
    }

    /// Waits until the call is over without a response.
    #[inline(never)]
    fn poll_rejected(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Rejected> {
        let mut this = self.project();
        let reached_service = this.inner.is_some();
        if reached_service {
            let Some(call) = this.call else { return Poll::Pending };
            ready!(this.timer.as_mut().poll(cx, call.end));
            // Release what the service holds before the caller continues.
            this.inner.set(None);
        }
        let call = this.call.take().expect("a future is not polled after it was ready");
        let rejected = call.rejected(this.name, reached_service);
        if let Some(shared) = this.shared.as_ref().filter(|_| reached_service) {
            shared.given_up(&call, &rejected);
        }
        Poll::Ready(rejected)
    }
}

/// Returns `true` if a layer gave up the call because its deadline had passed.
fn is_past_deadline(rejected: Rejected) -> bool {
    rejected.reason() == Reason::DeadlineExceeded && rejected.reached_service()
}

impl Shared {
    /// Records the duration of a call, or the time waited if it has no response.
    fn ended(&self, call: &Call, is_answered: bool) {
        let settings = self.settings();
        if settings.measures() {
            let now = instant();
            self.record(&settings, call.taken(now), now, is_answered || call.has_own_limit);
        }
    }

    /// Records a call that was given up.
    fn given_up(&self, call: &Call, rejected: &Rejected) {
        self.ended(call, false);
        self.rejected(rejected);
    }

    /// Records a call with a response, and returns the timer for its body.
    #[cold]
    fn answered(self: &Arc<Self>, call: Option<&Call>) -> Option<BodyTimer> {
        if let Some(call) = call {
            self.ended(call, true);
        }
        let settings = self.settings();
        let end = call
            .filter(|_| settings.config.covers == Covers::Body)
            .and_then(|call| call.end().map(|end| (end, call.reason, call.limit)));
        let idle = settings.config.idle;
        (end.is_some() || idle.is_some()).then(|| BodyTimer::new(Arc::clone(&self.telemetry), end, idle))
    }
}
