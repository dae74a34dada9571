use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;

use super::permit::Permit;
use crate::classify::{Class, Classify};
use crate::error::{Mark, Rejected, mark};

/// The future of a [circuit breaker](super)'s call.
///
/// Dropped before it is ready, it cancels the call.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<F, C> {
    #[pin]
    state: State<F, C>,
}

#[pin_project(project = StateProjection)]
#[derive(Debug)]
enum State<F, C> {
    /// The service is at work.
    Calling {
        #[pin]
        inner: F,
        classify: C,
        permit: Option<Permit>,
        /// The last error of a layer further in was a refusal.
        is_refused: bool,
    },
    /// The call was not made.
    Refused(Option<Rejected>),
}

impl<F, C> ResponseFuture<F, C> {
    #[inline]
    pub(super) const fn calling(inner: F, classify: C, permit: Permit) -> Self {
        Self { state: State::Calling { inner, classify, permit: Some(permit), is_refused: false } }
    }

    pub(super) const fn refused(rejected: Rejected) -> Self {
        Self { state: State::Refused(Some(rejected)) }
    }
}

impl<F, C, Res, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<Res, E>>,
    C: Classify<Res, E>,
    E: From<Rejected>,
{
    type Output = Result<C::Response<Permit>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Refused(rejected) => {
                let rejected = rejected.take().expect("a future is not polled after it was ready");
                Poll::Ready(Err(rejected.deliver()))
            }
            StateProjection::Calling { inner, classify, permit, is_refused } => {
                let before = mark();
                let guard = permit.as_mut().expect("a future is not polled after it was ready");
                let polled = guard.in_service(|| inner.poll(cx));
                if !matches!(polled, Poll::Ready(Ok(_))) {
                    *is_refused = before.is_refusal_since_or(*is_refused);
                }
                let result = ready!(polled);
                let permit = permit.take().expect("it was there before the service was polled");
                match result {
                    // A layer further in refused the call: the service has no part in that.
                    Err(error) if *is_refused => {
                        permit.finish(Class::Ignored);
                        Mark::refused();
                        Poll::Ready(Err(error))
                    }
                    Err(error) => {
                        let settled = classify.settle(Err(error), permit);
                        Mark::failed();
                        Poll::Ready(settled)
                    }
                    result => Poll::Ready(classify.settle(result, permit)),
                }
            }
        }
    }
}
