use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;

use super::permit::{GatePermit, HoldUntil};
use crate::classify::{CarryGuard, Class, Classify, Outcome, in_service, outcome_of};
use crate::error::CarryRejected;

/// The future of a call through a gate: a circuit breaker, a throttle, a bulkhead or an adaptive
/// limit.
///
/// Dropped before it is ready, it cancels the call, and gives back its permit or its place in the
/// queue.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<F, A: Call, W = Infallible> {
    #[pin]
    stage: Stage<F, A, W>,
}

#[pin_project(project = StageProjection, project_replace = StageReplaced)]
#[derive(Debug)]
enum Stage<F, A: Call, W> {
    Calling {
        #[pin]
        inner: F,
        admitted: A,
    },
    Waiting(#[pin] W),
    /// `None` once the future has returned ready.
    Rejected(Option<A::Rejection>),
}

/// An admitted call: its permit, and the protocol that tells its outcome.
#[derive(Debug)]
pub struct Admitted<P, G> {
    pub(crate) protocol: P,
    pub(crate) permit: G,
}

/// Names the rejections of a gate by its admitted calls.
pub trait Call {
    /// A rejection on its way to the caller.
    type Rejection: fmt::Debug;
}

impl<P, G: GatePermit> Call for Admitted<P, G> {
    type Rejection = G::Rejection;
}

/// The wait of a call that cannot be made yet.
pub trait Waiting<F, E, A> {
    /// Makes the call when it is admitted, and returns both, or the error of a call that is not
    /// made.
    fn poll_call(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(F, A), E>>;
}

/// No call waits.
impl<F, E, A> Waiting<F, E, A> for Infallible {
    fn poll_call(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(F, A), E>> {
        match *self {}
    }
}

impl<F, P, G: GatePermit, W> ResponseFuture<F, Admitted<P, G>, W> {
    #[inline]
    pub(crate) const fn calling(inner: F, protocol: P, permit: G) -> Self {
        // Spelled out in its place: what a function returns is copied.
        Self { stage: Stage::Calling { inner, admitted: Admitted { protocol, permit } } }
    }

    #[inline]
    pub(crate) const fn waiting(wait: W) -> Self {
        Self { stage: Stage::Waiting(wait) }
    }

    #[inline]
    pub(crate) const fn rejected(rejection: G::Rejection) -> Self {
        Self { stage: Stage::Rejected(Some(rejection)) }
    }
}

impl<F, P, G, W, Res, E> Future for ResponseFuture<F, Admitted<P, G>, W>
where
    F: Future<Output = Result<Res, E>>,
    P: Classify<Res, E> + CarryGuard<Res>,
    G: GatePermit,
    W: Waiting<F, E, Admitted<P, G>>,
    E: CarryRejected,
{
    type Output = Result<P::Response<G>, E>;

    // Always, as `call` is.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut stage = self.project().stage;
        loop {
            match stage.as_mut().project() {
                StageProjection::Calling { inner, admitted } => {
                    let Admitted { protocol, permit } = admitted;
                    let polled = in_service(|| inner.poll(cx), || permit.fail());
                    let Poll::Ready(result) = polled else {
                        permit.pend();
                        return Poll::Pending;
                    };
                    // What a user's error or classifier does is a part of the call: it may panic.
                    let outcome = in_service(|| outcome_of(protocol, result.as_ref()), || permit.fail());
                    // In place of an optional permit, which would take more room.
                    let StageReplaced::Calling { admitted, .. } =
                        stage.project_replace(Stage::Rejected(None))
                    else {
                        unreachable!("the stage was `Calling`")
                    };
                    return Poll::Ready(admitted.end(result, outcome));
                }
                StageProjection::Waiting(wait) => match ready!(wait.poll_call(cx)) {
                    Ok((inner, admitted)) => stage.set(Stage::Calling { inner, admitted }),
                    Err(error) => return Poll::Ready(Err(error)),
                },
                StageProjection::Rejected(rejection) => {
                    let rejection = mem::take(rejection).expect("a future is not polled after it was ready");
                    return Poll::Ready(Err(E::from_rejected(rejection.into())));
                }
            }
        }
    }
}

impl<P, G: GatePermit> Admitted<P, G> {
    /// Ends the call with the `outcome` of its result, or passes its permit on with the response.
    // Always, since what it is given and what it returns may be large.
    #[inline(always)]
    fn end<Res, E>(self, result: Result<Res, E>, outcome: Outcome) -> Result<P::Response<G>, E>
    where
        P: CarryGuard<Res>,
    {
        let Self { protocol, permit } = self;
        let is_carried = match permit.hold_until() {
            HoldUntil::Headers => false,
            HoldUntil::Outcome => outcome.class == Class::Success && outcome.is_good(),
            HoldUntil::BodyEnd => true,
        };
        match result {
            Ok(response) if is_carried => Ok(protocol.carry(response, Some((permit, outcome)))),
            Ok(response) => {
                permit.finish(outcome);
                Ok(protocol.carry(response, None))
            }
            Err(error) => {
                permit.finish(outcome);
                Err(error)
            }
        }
    }
}
