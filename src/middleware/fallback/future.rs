use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use tower_service::Service;

use super::answer::Answer;
use super::failure::Failure;
use super::keep::Keep;
use super::shared::{Next, Shared};
use crate::classify::Classify;

/// The future of a call that has a [fallback](super).
///
/// Dropped before it is ready, it cancels the call, or that of the fallback.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<Req, S, A, K, P>
where
    S: Service<Req>,
    K: Keep<Req>,
    A: Answer<K::Saved, S::Response, S::Error>,
{
    #[pin]
    state: State<Req, S, A, K>,
    shared: Arc<Shared<A, K, P>>,
}

#[pin_project(project = Projection)]
enum State<Req, S, A, K>
where
    S: Service<Req>,
    K: Keep<Req>,
    A: Answer<K::Saved, S::Response, S::Error>,
{
    Calling {
        #[pin]
        call: S::Future,
        kept: Option<K::Saved>,
    },
    FallingBack {
        #[pin]
        answer: A::Future,
        failure: Option<Failure<S::Response, S::Error>>,
    },
    /// What the fallback held of a service is let go of, though this future may be kept.
    Over,
}

impl<Req, S, A, K, P> ResponseFuture<Req, S, A, K, P>
where
    S: Service<Req>,
    K: Keep<Req>,
    A: Answer<K::Saved, S::Response, S::Error>,
{
    #[inline]
    pub(super) const fn new(call: S::Future, kept: K::Saved, shared: Arc<Shared<A, K, P>>) -> Self {
        Self { state: State::Calling { call, kept: Some(kept) }, shared }
    }
}

impl<Req, S, A, K, P> Future for ResponseFuture<Req, S, A, K, P>
where
    S: Service<Req>,
    K: Keep<Req>,
    A: Answer<K::Saved, S::Response, S::Error>,
    P: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                Projection::Calling { call, kept } => {
                    let result = ready!(call.poll(cx));
                    let kept = kept.take().expect("a future is not polled after it was ready");
                    match this.shared.next(kept, result) {
                        Next::End(result) => return Poll::Ready(result),
                        // The call is gone before the fallback begins, with all that it holds.
                        Next::Wait(answer, failure) => {
                            this.state.set(State::FallingBack { answer, failure: Some(failure) });
                        }
                    }
                }
                Projection::FallingBack { answer, failure } => {
                    let answer = ready!(answer.poll(cx));
                    let failure = failure.take().expect("it is not over");
                    this.state.set(State::Over);
                    return Poll::Ready(this.shared.end(answer, failure));
                }
                Projection::Over => unreachable!("a future is not polled after it was ready"),
            }
        }
    }
}

impl<Req, S, A, K, P> fmt::Debug for ResponseFuture<Req, S, A, K, P>
where
    S: Service<Req>,
    K: Keep<Req>,
    A: Answer<K::Saved, S::Response, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("is_falling_back", &matches!(self.state, State::FallingBack { .. }))
            .finish_non_exhaustive()
    }
}
