use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project::pin_project;
use tokio::time::{Instant, Sleep};

use super::config::Covers;
use super::shared::Shared;
use super::state::Bound;
use crate::clock::{instant, sleep_until};
use crate::error::Rejected;
use crate::protocol::{Cover, Watch};

/// The future of a call that ends by a [timeout](super), if not before.
///
/// Dropped before it is ready, it cancels the call. That is no timeout.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<F, P> {
    /// The service at work; none if the call was not made, or is over.
    #[pin]
    inner: Option<F>,
    protocol: P,
    /// What ends the call, if anything does.
    call: Option<Call>,
    /// Made when the service is first found not ready: most need none.
    #[pin]
    timer: Option<Sleep>,
    /// Where the end of the call is of interest.
    shared: Option<Arc<Shared>>,
    name: &'static str,
    refused: Option<Rejected>,
}

/// When a call has to end, and why then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) began: Instant,
    pub(super) end: Instant,
    pub(super) bound: Bound,
}

impl<F, P> ResponseFuture<F, P> {
    #[inline]
    pub(super) const fn calling(
        inner: F,
        protocol: P,
        call: Option<Call>,
        shared: Option<Arc<Shared>>,
        name: &'static str,
    ) -> Self {
        Self { inner: Some(inner), protocol, call, timer: None, shared, name, refused: None }
    }

    pub(super) const fn refused(rejected: Rejected, protocol: P) -> Self {
        let name = rejected.policy();
        Self { inner: None, protocol, call: None, timer: None, shared: None, name, refused: Some(rejected) }
    }
}

impl<F, P, Res, E> Future for ResponseFuture<F, P>
where
    F: Future<Output = Result<Res, E>>,
    P: Cover<Res>,
    E: From<Rejected>,
{
    type Output = Result<P::Covered, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            let rejected = this.refused.take().expect("a future is not polled after it was ready");
            return Poll::Ready(Err(rejected.deliver()));
        };
        // The service first: an answer that is there is not too late.
        if let Poll::Ready(result) = inner.poll(cx) {
            let watch = match this.shared {
                Some(shared) => shared.watch(this.call.as_ref(), result.is_ok()),
                None => None,
            };
            return Poll::Ready(result.map(|answer| this.protocol.cover(answer, watch)));
        }
        let Some(Call { began, end, bound }) = *this.call else { return Poll::Pending };
        if this.timer.is_none() {
            this.timer.set(Some(sleep_until(end)));
        }
        let mut timer = this.timer.as_mut().as_pin_mut().expect("it was set just now");
        // A service that has used up its task's budget leaves none for the timer, which is over all the same.
        if timer.as_mut().poll(cx).is_pending() && !timer.is_elapsed() {
            return Poll::Pending;
        }
        // What the service holds is free before the caller goes on.
        this.inner.set(None);
        let rejected = Rejected::timeout(bound.reason, this.name, bound.limit, true);
        if let Some(shared) = this.shared {
            let now = instant();
            shared.ended(now.saturating_duration_since(began), now);
            shared.rejected(&rejected);
        }
        Poll::Ready(Err(rejected.deliver()))
    }
}

impl Shared {
    /// Takes note of a call that has ended by itself, and puts what follows the answer under watch.
    #[cold]
    fn watch(self: &Arc<Self>, call: Option<&Call>, is_ok: bool) -> Option<Watch> {
        if !is_ok {
            return None;
        }
        let settings = self.settings();
        if let Some(call) = call.filter(|_| settings.measures()) {
            let now = instant();
            self.ended(now.saturating_duration_since(call.began), now);
        }
        let end = call
            .filter(|_| settings.config.covers == Covers::Body)
            .map(|Call { end, bound, .. }| (*end, bound.reason, bound.limit));
        let idle = settings.config.idle;
        (end.is_some() || idle.is_some()).then(|| Watch::new(Arc::clone(&self.telemetry), end, idle))
    }
}
