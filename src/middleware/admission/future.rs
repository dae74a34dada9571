use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;

use super::limit::Limit;
use super::parked::Park;
use super::permit::Permit;
use crate::classify::{CarryGuard, Classify, outcome_of, settle};
use crate::error::{CarryRejected, Rejected};

/// The future of a call of a service with a [limit](super).
///
/// Dropped before it is ready, it gives back its permit, or its place in the queue.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<F, P, W, L: Limit> {
    #[pin]
    stage: Stage<F, W, L>,
    protocol: P,
}

#[pin_project(project = StageProjection, project_replace = StageReplaced)]
#[derive(Debug)]
enum Stage<F, W, L: Limit> {
    Calling {
        #[pin]
        inner: F,
        permit: Permit<L>,
    },
    Parked(W),
    /// None if it is over.
    Refused(Option<Rejected>),
}

impl<F, P, W, L: Limit> ResponseFuture<F, P, W, L> {
    #[inline]
    pub(super) const fn calling(inner: F, protocol: P, permit: Permit<L>) -> Self {
        // Spelled out where it belongs: what a function returns is copied.
        Self { stage: Stage::Calling { inner, permit }, protocol }
    }

    /// Of a call that waits, or may not.
    #[inline]
    pub(super) fn parked(parked: Result<W, Rejected>, protocol: P) -> Self {
        let stage = match parked {
            Ok(parked) => Stage::Parked(parked),
            Err(rejected) => Stage::Refused(Some(rejected)),
        };
        Self { stage, protocol }
    }
}

impl<F, P, W, L, Res, E> Future for ResponseFuture<F, P, W, L>
where
    F: Future<Output = Result<Res, E>>,
    P: Classify<Res, E> + CarryGuard<Res>,
    W: Park<F, E, L>,
    E: CarryRejected,
    L: Limit,
{
    type Output = Result<P::Response<Permit<L>>, E>;

    // Always, as `call` is.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.stage.as_mut().project() {
                StageProjection::Calling { inner, permit } => {
                    let protocol = &*this.protocol;
                    let result = ready!(permit.over(|| inner.poll(cx)));
                    let outcome = permit.over(|| outcome_of(protocol, result.as_ref()));
                    // A permit that may be none would take more room.
                    let StageReplaced::Calling { permit, .. } =
                        this.stage.project_replace(Stage::Refused(None))
                    else {
                        unreachable!("it was")
                    };
                    let until = permit.held_until();
                    return Poll::Ready(settle(protocol, result, outcome, permit, until));
                }
                StageProjection::Parked(parked) => match ready!(parked.poll_call(cx)) {
                    Ok((inner, permit)) => this.stage.set(Stage::Calling { inner, permit }),
                    Err(error) => return Poll::Ready(Err(error)),
                },
                StageProjection::Refused(rejected) => {
                    let rejected = rejected.take().expect("a future is not polled after it was ready");
                    return Poll::Ready(Err(E::from_rejected(rejected)));
                }
            }
        }
    }
}
