use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use tower_service::Service;

use super::copies::Failure;
use super::hedging::Hedging;
use super::shared::Stopwatch;
use super::state::Ending;
use crate::mark::{Cause, Watched};
use crate::protocol::{Carry, Judge, Replay};
use crate::telemetry::AttemptSpan;

/// The future of a call that may be [hedged](super).
///
/// Dropped before it is ready, it cancels all attempts that are under way.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<Req, S, P, J>
where
    P: Replay<Req>,
    S: Service<P::Request>,
{
    /// `None` once it has failed, or lost.
    #[pin]
    original: Option<Watched<S::Future>>,
    span: AttemptSpan,
    judge: J,
    stopwatch: Stopwatch,
    /// `None` if the call is not to be hedged.
    #[pin]
    hedging: Option<Hedging<Req, S, P>>,
}

type Answer<S, Req> = Result<<S as Service<Req>>::Response, <S as Service<Req>>::Error>;

impl<Req, S, P, J> ResponseFuture<Req, S, P, J>
where
    P: Replay<Req>,
    S: Service<P::Request>,
{
    #[inline]
    pub(super) const fn new(
        original: S::Future,
        span: AttemptSpan,
        judge: J,
        stopwatch: Stopwatch,
        hedging: Option<Hedging<Req, S, P>>,
    ) -> Self {
        Self { original: Some(Watched::new(original)), span, judge, stopwatch, hedging }
    }
}

impl<Req, S, P, J> Future for ResponseFuture<Req, S, P, J>
where
    P: Replay<Req> + Carry<<P as Replay<Req>>::Request>,
    S: Service<P::Request>,
    J: Judge<S::Response, S::Error>,
{
    type Output = Answer<S, P::Request>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.as_mut().project();
        if let Some(original) = this.original.as_pin_mut() {
            if let Poll::Ready((result, cause)) = this.span.run(|| original.poll(cx)) {
                if let Some(answer) = self.as_mut().ended(0, result, cause) {
                    return Poll::Ready(answer);
                }
            }
        }
        loop {
            let this = self.as_mut().project();
            let Some(mut hedging) = this.hedging.as_pin_mut() else { return Poll::Pending };
            if let Some((number, result, cause)) = hedging.as_mut().poll_copies(cx) {
                match self.as_mut().ended(number, result, cause) {
                    Some(answer) => return Poll::Ready(answer),
                    None => continue,
                }
            }
            hedging.as_mut().begin(|| this.stopwatch.start());
            if let Some(failure) = ready!(hedging.poll_next(cx, &this.stopwatch.shared)) {
                return Poll::Ready(handed_out(failure));
            }
        }
    }
}

impl<Req, S, P, J> ResponseFuture<Req, S, P, J>
where
    P: Replay<Req>,
    S: Service<P::Request>,
    J: Judge<S::Response, S::Error>,
{
    /// Takes note of the end of an attempt, the original if its number is 0. What is handed out, unless there is something
    /// to wait for.
    #[inline]
    fn ended(
        self: Pin<&mut Self>,
        number: u32,
        result: Answer<S, P::Request>,
        cause: Cause,
    ) -> Option<Answer<S, P::Request>> {
        let mut this = self.project();
        let ending = Ending::of(&result, cause, this.judge);
        let is_good = matches!(ending, Ending::Good(_));
        this.stopwatch.shared.ended(number.saturating_add(1), ending);
        if is_good || (number == 0 && cause.is_timeout()) {
            this.stopwatch.stop();
        } else if number == 0 {
            this.stopwatch.forget();
        }
        // The losers are gone before the winner is seen.
        if number == 0 || is_good {
            let is_superseded = number > 0 && this.original.is_some();
            this.original.set(None);
            if is_superseded {
                this.stopwatch.shared.superseded(1);
            }
        }
        let Some(hedging) = this.hedging.as_mut().as_pin_mut() else {
            return Some(handed_out((result, cause)));
        };
        if is_good {
            hedging.won(number, &this.stopwatch.shared);
            return Some(handed_out((result, cause)));
        }
        hedging.failed(ending, (result, cause), &this.stopwatch.shared).map(handed_out)
    }
}

/// Marks an error as what it is: others may have been seen since it came.
#[inline]
fn handed_out<T, E>((result, cause): Failure<T, E>) -> Result<T, E> {
    if result.is_err() {
        cause.deliver();
    }
    result
}

impl<Req, S, P, J> fmt::Debug for ResponseFuture<Req, S, P, J>
where
    P: Replay<Req>,
    S: Service<P::Request>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("name", &self.stopwatch.shared.telemetry.name())
            .field("hedges", &self.hedging.as_ref().map_or(0, Hedging::hedges))
            .finish_non_exhaustive()
    }
}
