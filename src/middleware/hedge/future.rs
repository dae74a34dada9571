use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use tower_service::Service;

use super::hedging::Hedging;
use super::shared::Stopwatch;
use crate::classify::Classify;
use crate::protocol::{Replay, RequestContext};
use crate::telemetry::AttemptSpan;

/// The future of a call that may be [hedged](super).
///
/// Dropped before it is ready, it cancels all attempts that are under way.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<Req, S, P>
where
    P: Replay<Req>,
    S: Service<P::Request>,
{
    /// `None` once it has failed, or lost.
    #[pin]
    original: Option<S::Future>,
    span: AttemptSpan,
    protocol: P,
    stopwatch: Stopwatch,
    /// `None` if the call is not to be hedged.
    #[pin]
    hedging: Option<Hedging<Req, S, P>>,
}

type Answer<S, Req> = Result<<S as Service<Req>>::Response, <S as Service<Req>>::Error>;

impl<Req, S, P> ResponseFuture<Req, S, P>
where
    P: Replay<Req>,
    S: Service<P::Request>,
{
    #[inline]
    pub(super) const fn new(
        original: S::Future,
        span: AttemptSpan,
        protocol: P,
        stopwatch: Stopwatch,
        hedging: Option<Hedging<Req, S, P>>,
    ) -> Self {
        Self { original: Some(original), span, protocol, stopwatch, hedging }
    }
}

impl<Req, S, P> Future for ResponseFuture<Req, S, P>
where
    P: Replay<Req> + RequestContext<<P as Replay<Req>>::Request> + Classify<S::Response, S::Error>,
    S: Service<P::Request>,
{
    type Output = Answer<S, P::Request>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.as_mut().project();
        if let Some(original) = this.original.as_pin_mut() {
            if let Poll::Ready(result) = this.span.run(|| original.poll(cx)) {
                if let Some(answer) = self.as_mut().ended(0, result) {
                    return self.over(answer);
                }
            }
        }
        loop {
            let this = self.as_mut().project();
            let Some(mut hedging) = this.hedging.as_pin_mut() else { return Poll::Pending };
            if let Some((number, result)) = hedging.as_mut().poll_copies(cx) {
                match self.as_mut().ended(number, result) {
                    Some(answer) => return self.over(answer),
                    None => continue,
                }
            }
            hedging.as_mut().begin(|| this.stopwatch.start());
            if let Some((result, _)) = ready!(hedging.poll_next(cx, &this.stopwatch.shared)) {
                return self.over(result);
            }
        }
    }
}

impl<Req, S, P> ResponseFuture<Req, S, P>
where
    P: Replay<Req> + Classify<S::Response, S::Error>,
    S: Service<P::Request>,
{
    /// The end of the call. The service for another copy is let go of: it may wait in a queue, and the future may be kept.
    #[inline]
    fn over(self: Pin<&mut Self>, answer: Answer<S, P::Request>) -> Poll<Answer<S, P::Request>> {
        self.project().hedging.set(None);
        Poll::Ready(answer)
    }

    /// Takes note of the end of an attempt, the original if its number is 0. What is handed out, unless there is something
    /// to wait for.
    #[inline]
    fn ended(
        self: Pin<&mut Self>,
        number: u32,
        result: Answer<S, P::Request>,
    ) -> Option<Answer<S, P::Request>> {
        let mut this = self.project();
        let outcome = this.protocol.classify(result.as_ref());
        let is_good = outcome.is_good();
        this.stopwatch.shared.ended(number.saturating_add(1), outcome);
        if is_good || (number == 0 && outcome.is_timeout() && !outcome.is_cut_off()) {
            this.stopwatch.stop();
        } else if number == 0 && !outcome.is_cut_off() {
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
        let Some(hedging) = this.hedging.as_mut().as_pin_mut() else { return Some(result) };
        if is_good {
            hedging.won(number, &this.stopwatch.shared);
            return Some(result);
        }
        hedging.failed((result, outcome), &this.stopwatch.shared).map(|(result, _)| result)
    }
}

impl<Req, S, P> fmt::Debug for ResponseFuture<Req, S, P>
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
