use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use tower_service::Service;

use super::answer::Answer;
use super::failure::Failure;
use super::save_request::SaveRequest;
use super::shared::{Next, Shared};
use crate::classify::Classify;

/// The future of a call with a [fallback](super).
///
/// Dropping it early cancels the call to the service or to the fallback.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<Req, S, A, K, P>
where
    S: Service<Req>,
    K: SaveRequest<Req>,
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
    K: SaveRequest<Req>,
    A: Answer<K::Saved, S::Response, S::Error>,
{
    Calling {
        #[pin]
        call: S::Future,
        saved: Option<K::Saved>,
    },
    FallingBack {
        #[pin]
        answer: A::Future,
        failure: Option<Failure<S::Response, S::Error>>,
    },
    /// The call has ended. The fallback's future is dropped, even if this future is kept.
    Over,
}

impl<Req, S, A, K, P> ResponseFuture<Req, S, A, K, P>
where
    S: Service<Req>,
    K: SaveRequest<Req>,
    A: Answer<K::Saved, S::Response, S::Error>,
{
    #[inline]
    pub(super) const fn new(call: S::Future, saved: K::Saved, shared: Arc<Shared<A, K, P>>) -> Self {
        Self { state: State::Calling { call, saved: Some(saved) }, shared }
    }
}

impl<Req, S, A, K, P> Future for ResponseFuture<Req, S, A, K, P>
where
    S: Service<Req>,
    K: SaveRequest<Req>,
    A: Answer<K::Saved, S::Response, S::Error>,
    P: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                Projection::Calling { call, saved } => {
                    let result = ready!(call.poll(cx));
                    let saved = saved.take().expect("a future is not polled after it was ready");
                    match this.shared.next(saved, result) {
                        Next::End(result) => return Poll::Ready(result),
                        // The call, with all that it holds, is dropped before the fallback starts.
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
    K: SaveRequest<Req>,
    A: Answer<K::Saved, S::Response, S::Error>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("is_falling_back", &matches!(self.state, State::FallingBack { .. }))
            .finish_non_exhaustive()
    }
}
