use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;

use super::permit::Permit;
use crate::classify::{Class, Classify};
use crate::error::{Rejected, refusals};

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
    },
    /// The call was not made.
    Refused(Option<Rejected>),
}

impl<F, C> ResponseFuture<F, C> {
    pub(super) const fn calling(inner: F, classify: C, permit: Permit) -> Self {
        Self { state: State::Calling { inner, classify, permit: Some(permit) } }
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

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Refused(rejected) => {
                let rejected = rejected.take().expect("a future is not polled after it was ready");
                Poll::Ready(Err(rejected.deliver()))
            }
            StateProjection::Calling { inner, classify, permit } => {
                let before = refusals();
                let result = ready!(fail_on_panic(permit, || inner.poll(cx)));
                let permit = permit.take().expect("a future is not polled after it was ready");
                match result {
                    // A layer further in refused the call: the service has no part in that.
                    Err(error) if refusals() != before => {
                        permit.finish(Class::Ignored);
                        Poll::Ready(Err(error))
                    }
                    result => Poll::Ready(classify.settle(result, permit)),
                }
            }
        }
    }
}

/// Runs a part of the service, and ends the call as a failure if it panics.
///
/// A guard's drop alone could not tell this panic from another one that merely drops the future.
pub(super) fn fail_on_panic<R>(permit: &mut Option<Permit>, part: impl FnOnce() -> R) -> R {
    struct Panicked<'a>(&'a mut Option<Permit>);

    impl Drop for Panicked<'_> {
        fn drop(&mut self) {
            if let Some(permit) = self.0.take() {
                permit.finish(Class::Failure);
            }
        }
    }

    let panicked = Panicked(permit);
    let result = part();
    std::mem::forget(panicked);
    result
}
