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
/// Dropping it early cancels all attempts in flight.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<Req, S, P>
where
    P: Replay<Req>,
    S: Service<P::Request>,
{
    /// The original; `None` once it has failed or lost.
    #[pin]
    original: Option<S::Future>,
    span: AttemptSpan,
    protocol: P,
    stopwatch: Stopwatch,
    /// The state of hedging; `None` if the call must not be hedged.
    #[pin]
    hedging: Option<Hedging<Req, S, P>>,
}

type ResultOf<S, Req> = Result<<S as Service<Req>>::Response, <S as Service<Req>>::Error>;

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
    type Output = ResultOf<S, P::Request>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.as_mut().project();
        if let Some(original) = this.original.as_pin_mut() {
            if let Poll::Ready(result) = this.span.run(|| original.poll(cx)) {
                if let Some(result) = self.as_mut().ended(0, result) {
                    return self.over(result);
                }
            }
        }
        loop {
            let this = self.as_mut().project();
            let Some(mut hedging) = this.hedging.as_pin_mut() else { return Poll::Pending };
            if let Some((number, result)) = hedging.as_mut().poll_copies(cx) {
                match self.as_mut().ended(number, result) {
                    Some(result) => return self.over(result),
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
    /// Ends the call. Drops the service for further copies, since it may hold a place in a queue
    /// while this future is kept.
    #[inline]
    fn over(self: Pin<&mut Self>, result: ResultOf<S, P::Request>) -> Poll<ResultOf<S, P::Request>> {
        self.project().hedging.set(None);
        Poll::Ready(result)
    }

    /// Records the end of an attempt, the original if its number is 0. Returns the result of the
    /// call, unless another attempt may still succeed.
    #[inline]
    fn ended(
        self: Pin<&mut Self>,
        number: u32,
        result: ResultOf<S, P::Request>,
    ) -> Option<ResultOf<S, P::Request>> {
        let mut this = self.project();
        let outcome = this.protocol.classify(result.as_ref());
        let is_good = outcome.is_good();
        this.stopwatch.shared.ended(number.saturating_add(1), outcome);
        if is_good || (number == 0 && outcome.is_timeout() && !outcome.is_cut_off()) {
            this.stopwatch.stop();
        } else if number == 0 && !outcome.is_cut_off() {
            this.stopwatch.forget();
        }
        // Drop the losers before the caller sees the winner.
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
