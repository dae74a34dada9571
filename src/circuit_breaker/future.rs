use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;

use super::permit::Permit;
use super::shared::Refused;
use crate::classify::{Class, Classify, in_service};
use crate::error::Rejected;
use crate::mark::{Cause, mark};

/// The future of a [circuit breaker](super)'s call.
///
/// Dropped before it is ready, it cancels the call.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<F, C> {
    /// The service at work; none if the call was not made.
    #[pin]
    inner: Option<F>,
    classify: C,
    permit: Option<Permit>,
    /// Why the call was not made.
    refused: Option<Refused>,
    /// What the last error of a layer further in was.
    cause: Cause,
}

impl<F, C> ResponseFuture<F, C> {
    #[inline]
    pub(super) const fn calling(inner: F, classify: C, permit: Permit) -> Self {
        Self { inner: Some(inner), classify, permit: Some(permit), refused: None, cause: Cause::Failed }
    }

    #[inline]
    pub(super) const fn refused(refused: Refused, classify: C) -> Self {
        Self { inner: None, classify, permit: None, refused: Some(refused), cause: Cause::Failed }
    }
}

impl<F, C, Res, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<Res, E>>,
    C: Classify<Res, E>,
    E: From<Rejected>,
{
    type Output = Result<C::Response<Permit>, E>;

    // Always, as `call` is.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else {
            let refused = this.refused.take().expect("a future is not polled after it was ready");
            return Poll::Ready(Err(Rejected::from(refused).deliver()));
        };
        let before = mark();
        let permit = this.permit.as_mut().expect("a future is not polled after it was ready");
        let polled = in_service(|| inner.poll(cx), || permit.fail());
        if !matches!(polled, Poll::Ready(Ok(_))) {
            *this.cause = before.cause_since_or(*this.cause);
        }
        let result = ready!(polled);
        let permit = this.permit.take().expect("it was there before the service was polled");
        match result {
            // A layer further in refused the call: the service has no part in that.
            Err(error) if *this.cause == Cause::Refused => {
                permit.finish(Class::Ignored);
                this.cause.deliver();
                Poll::Ready(Err(error))
            }
            Err(error) => {
                let settled = this.classify.settle(Err(error), permit);
                this.cause.deliver();
                Poll::Ready(settled)
            }
            result => Poll::Ready(this.classify.settle(result, permit)),
        }
    }
}
