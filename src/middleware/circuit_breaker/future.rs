use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;

use super::permit::Permit;
use super::shared::Refused;
use crate::classify::{CarryGuard, Classify, HoldUntil, in_service, outcome_of, settle};
use crate::error::{CarryRejected, Rejected};

/// The future of a [circuit breaker](super)'s call.
///
/// Dropped before it is ready, it cancels the call.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<F, P> {
    /// The service at work; none if the call was not made.
    #[pin]
    inner: Option<F>,
    protocol: P,
    permit: Option<Permit>,
    /// Why the call was not made.
    refused: Option<Refused>,
}

impl<F, P> ResponseFuture<F, P> {
    #[inline]
    pub(super) const fn calling(inner: F, protocol: P, permit: Permit) -> Self {
        Self { inner: Some(inner), protocol, permit: Some(permit), refused: None }
    }

    #[inline]
    pub(super) const fn refused(refused: Refused, protocol: P) -> Self {
        Self { inner: None, protocol, permit: None, refused: Some(refused) }
    }
}

impl<F, P, Res, E> Future for ResponseFuture<F, P>
where
    F: Future<Output = Result<Res, E>>,
    P: Classify<Res, E> + CarryGuard<Res>,
    E: CarryRejected,
{
    type Output = Result<P::Response<Permit>, E>;

    // Always, as `call` is.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else {
            let refused = this.refused.take().expect("a future is not polled after it was ready");
            return Poll::Ready(Err(E::from_rejected(Rejected::from(refused))));
        };
        let permit = this.permit.as_mut().expect("a future is not polled after it was ready");
        let protocol = &*this.protocol;
        let result = ready!(in_service(|| inner.poll(cx), || permit.fail()));
        // What the error or the classifier of a user does is a part of the call: it may panic.
        let outcome = in_service(|| outcome_of(protocol, result.as_ref()), || permit.fail());
        let permit = this.permit.take().expect("it was there before the service was polled");
        Poll::Ready(settle(protocol, result, outcome, permit, HoldUntil::Outcome))
    }
}
