use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;

use super::parked::Park;
use super::permit::Permit;
use crate::classify::Classify;
use crate::error::Rejected;

/// The future of a [bulkhead](super)'s call.
///
/// Dropped before it is ready, it gives back its permit, or its place in the queue.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<F, C, P> {
    #[pin]
    stage: Stage<F, P>,
    hold: C,
}

#[pin_project(project = StageProjection)]
#[derive(Debug)]
enum Stage<F, P> {
    Calling {
        #[pin]
        inner: F,
        permit: Option<Permit>,
    },
    Parked(P),
    Refused(Option<Rejected>),
}

impl<F, C, P> ResponseFuture<F, C, P> {
    #[inline]
    pub(super) const fn calling(inner: F, hold: C, permit: Permit) -> Self {
        Self { stage: Stage::Calling { inner, permit: Some(permit) }, hold }
    }

    /// Of a call that waits, or may not.
    #[inline]
    pub(super) fn parked(parked: Result<P, Rejected>, hold: C) -> Self {
        let stage = match parked {
            Ok(parked) => Stage::Parked(parked),
            Err(rejected) => Stage::Refused(Some(rejected)),
        };
        Self { stage, hold }
    }
}

impl<F, C, P, Res, E> Future for ResponseFuture<F, C, P>
where
    F: Future<Output = Result<Res, E>>,
    C: Classify<Res, E>,
    P: Park<F, E>,
    E: From<Rejected>,
{
    type Output = Result<C::Response<Permit>, E>;

    // Always, as `call` is.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.stage.as_mut().project() {
                StageProjection::Calling { inner, permit } => {
                    let result = ready!(inner.poll(cx));
                    let permit = permit.take().expect("a future is not polled after it was ready");
                    return Poll::Ready(this.hold.settle(result, permit));
                }
                StageProjection::Parked(parked) => match ready!(parked.poll_call(cx)) {
                    Ok((inner, permit)) => {
                        this.stage.set(Stage::Calling { inner, permit: Some(permit) });
                    }
                    Err(error) => return Poll::Ready(Err(error)),
                },
                StageProjection::Refused(rejected) => {
                    let rejected = rejected.take().expect("a future is not polled after it was ready");
                    return Poll::Ready(Err(rejected.deliver()));
                }
            }
        }
    }
}
