use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;

use super::limit::Limit;
use super::parked::Park;
use super::permit::Permit;
use crate::classify::{Class, Classify};
use crate::error::Rejected;
use crate::mark::{Cause, mark};

/// The future of a call of a service with a [limit](super).
///
/// Dropped before it is ready, it gives back its permit, or its place in the queue.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<F, C, P, L: Limit> {
    #[pin]
    stage: Stage<F, P, L>,
    classify: C,
}

#[pin_project(project = StageProjection, project_replace = StageReplaced)]
#[derive(Debug)]
enum Stage<F, P, L: Limit> {
    Calling {
        #[pin]
        inner: F,
        permit: Permit<L>,
        cause: Cause,
    },
    Parked(P),
    /// None if it is over.
    Refused(Option<Rejected>),
}

impl<F, C, P, L: Limit> ResponseFuture<F, C, P, L> {
    #[inline]
    pub(super) const fn calling(inner: F, classify: C, permit: Permit<L>) -> Self {
        // Spelled out where it belongs: what a function returns is copied.
        let stage = Stage::Calling { inner, permit, cause: Cause::Failed };
        Self { stage, classify }
    }

    /// Of a call that waits, or may not.
    #[inline]
    pub(super) fn parked(parked: Result<P, Rejected>, classify: C) -> Self {
        let stage = match parked {
            Ok(parked) => Stage::Parked(parked),
            Err(rejected) => Stage::Refused(Some(rejected)),
        };
        Self { stage, classify }
    }
}

impl<F, C, P, L, Res, E> Future for ResponseFuture<F, C, P, L>
where
    F: Future<Output = Result<Res, E>>,
    C: Classify<Res, E>,
    P: Park<F, E, L>,
    E: From<Rejected>,
    L: Limit,
{
    type Output = Result<C::Response<Permit<L>>, E>;

    // Always, as `call` is.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.stage.as_mut().project() {
                StageProjection::Calling { inner, permit, cause } => {
                    let result = ready!(watch(cause, permit, || inner.poll(cx)));
                    // A permit that may be none would take more room.
                    let StageReplaced::Calling { permit, cause, .. } =
                        this.stage.project_replace(Stage::Refused(None))
                    else {
                        unreachable!("it was")
                    };
                    if L::LEARNS && result.is_err() {
                        return Poll::Ready(settle_error(this.classify, result, permit, cause));
                    }
                    return Poll::Ready(this.classify.settle(result, permit));
                }
                StageProjection::Parked(parked) => match ready!(parked.poll_call(cx)) {
                    Ok((inner, permit)) => {
                        this.stage.set(Stage::Calling { inner, permit, cause: Cause::Failed });
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

/// Polls the service, and finds out what its error is, for a limit that wants to know.
#[inline]
fn watch<L: Limit, T, E>(
    cause: &mut Cause,
    permit: &mut Permit<L>,
    poll: impl FnOnce() -> Poll<Result<T, E>>,
) -> Poll<Result<T, E>> {
    if !L::LEARNS {
        return poll();
    }
    let before = mark();
    let polled = permit.over(poll);
    if !matches!(polled, Poll::Ready(Ok(_))) {
        *cause = before.cause_since_or(*cause);
    }
    polled
}

/// Of a call that a layer further in refused, there is nothing to learn.
#[cold]
fn settle_error<C, L, Res, E>(
    classify: &C,
    result: Result<Res, E>,
    permit: Permit<L>,
    cause: Cause,
) -> Result<C::Response<Permit<L>>, E>
where
    C: Classify<Res, E>,
    L: Limit,
{
    let settled = match result {
        Err(error) if cause == Cause::Refused => {
            permit.finish(Class::Ignored);
            Err(error)
        }
        result => classify.settle(result, permit),
    };
    cause.deliver();
    settled
}
