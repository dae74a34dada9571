use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;

use crate::error::Rejected;

/// The future of a call that is [let through or refused](super).
///
/// Dropped before it is ready, it cancels the call; what that cost stays used.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<F> {
    /// The service at work; none if the call was refused.
    #[pin]
    inner: Option<F>,
    rejected: Option<Rejected>,
}

impl<F> ResponseFuture<F> {
    #[inline]
    pub(super) const fn calling(inner: F) -> Self {
        Self { inner: Some(inner), rejected: None }
    }

    #[inline]
    pub(super) const fn refused(rejected: Rejected) -> Self {
        Self { inner: None, rejected: Some(rejected) }
    }
}

impl<F, Res, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Res, E>>,
    E: From<Rejected>,
{
    type Output = Result<Res, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.inner.as_pin_mut() {
            Some(inner) => inner.poll(cx),
            None => {
                let rejected = this.rejected.take().expect("a future is not polled after it was ready");
                Poll::Ready(Err(rejected.deliver()))
            }
        }
    }
}
