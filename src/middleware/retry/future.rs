use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project::pin_project;
use tower_service::Service;

use super::pause::{Pause, Waited};
use super::policy::{Attempts, RetryPolicy};
use super::shared::Shared;
use super::state::{Ended, Progress};
use crate::classify::{Outcome, Retryable};
use crate::error::CarryRejected;
use crate::telemetry::AttemptSpan;

/// The future of a call that may be [retried](super).
///
/// Dropping it early cancels the attempt in flight and all further ones.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<Req, S, P>
where
    P: RetryPolicy<Req, S::Response, S::Error>,
    S: Service<<P as Attempts<Req>>::Request>,
{
    /// The attempt in flight; `None` between two attempts.
    #[pin]
    attempt: Option<S::Future>,
    /// The service for further attempts; `None` once there are no more.
    inner: Option<S>,
    policy: P,
    kept: P::Saved,
    shared: Arc<Shared>,
    span: AttemptSpan,
    progress: Progress,
    /// The wait for the next attempt, with its request. Boxed, since few calls are retried.
    pause: Option<Between<Req, P, S::Response, S::Error>>,
}

impl<Req, S, P> ResponseFuture<Req, S, P>
where
    P: RetryPolicy<Req, S::Response, S::Error>,
    S: Service<<P as Attempts<Req>>::Request>,
{
    #[inline]
    pub(super) fn new(
        attempt: S::Future,
        inner: S,
        policy: P,
        kept: P::Saved,
        shared: Arc<Shared>,
        span: AttemptSpan,
        is_repeatable: bool,
    ) -> Self {
        Self {
            attempt: Some(attempt),
            inner: Some(inner),
            policy,
            kept,
            shared,
            span,
            progress: Progress::new(is_repeatable),
            pause: None,
        }
    }
}

type Between<Req, P, Res, E> =
    Pin<Box<Pause<<P as RetryPolicy<Req, Res, E>>::Wait, <P as Attempts<Req>>::Request, E>>>;
type ResultOf<S, Req> = Result<<S as Service<Req>>::Response, <S as Service<Req>>::Error>;

impl<Req, S, P> Future for ResponseFuture<Req, S, P>
where
    P: RetryPolicy<Req, S::Response, S::Error>,
    S: Service<<P as Attempts<Req>>::Request>,
    S::Error: CarryRejected,
{
    type Output = ResultOf<S, P::Request>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            if let Some(attempt) = this.attempt.as_mut().as_pin_mut() {
                let mut result = ready!(this.span.run(|| attempt.poll(cx)));
                let outcome = outcome_by(this.policy, this.kept, &mut result);
                this.shared.ended(this.progress.attempts().saturating_add(1), outcome.class);
                if result.is_ok() && outcome.retryable == Retryable::Never {
                    return Poll::Ready(result);
                }
                let ended = Ended { outcome, is_idempotent: true };
                match self.as_mut().repeat(ended, result) {
                    Some(result) => return Poll::Ready(result),
                    None => continue,
                }
            }
            if let Err(error) = ready!(self.as_mut().poll_pause(cx)) {
                return Poll::Ready(Err(error));
            }
        }
    }
}

impl<Req, S, P> ResponseFuture<Req, S, P>
where
    P: RetryPolicy<Req, S::Response, S::Error>,
    S: Service<<P as Attempts<Req>>::Request>,
    S::Error: CarryRejected,
{
    /// Prepares another attempt, or returns the result of the call.
    #[cold]
    fn repeat(
        self: Pin<&mut Self>,
        ended: Ended,
        result: ResultOf<S, P::Request>,
    ) -> Option<ResultOf<S, P::Request>> {
        let mut this = self.project();
        // Drop the attempt before its request is made again: a half-sent body comes back to the
        // saved request only then.
        this.attempt.set(None);
        *this.span = AttemptSpan::none();
        let facts = this.policy.facts(this.kept);
        let ended = Ended { is_idempotent: facts.is_idempotent, ..ended };
        let mut request = None;
        let next = this.shared.next(this.progress, ended, facts, |number| {
            request = this.policy.replay(this.kept, number);
            request.is_some()
        });
        match next.zip(request) {
            Some((wait, request)) => {
                // Drop the response and its connection now, and not after the wait.
                let last = result.err();
                let own = this.policy.wait(this.kept);
                let limits = this.shared.limits(facts.deadline);
                let pause = Pause::new(request, own, wait, limits, last);
                *this.pause = Some(Box::pin(pause));
                None
            }
            None => Some(result),
        }
    }

    /// Waits until the next attempt can be made, and starts it.
    #[cold]
    fn poll_pause(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let mut this = self.project();
        let pause = this.pause.as_mut().expect("a future is not polled after it was ready");
        let inner = this.inner.as_mut().expect("the service is kept until the call ends");
        let waited = ready!(pause.as_mut().poll(cx, |cx| inner.poll_ready(cx)));
        *this.pause = None;
        let ended = this.progress.attempts();
        match waited {
            Waited::Ready(mut request) => {
                this.policy.start(this.kept, &mut request);
                *this.span = this.shared.telemetry.attempt(ended.saturating_add(1), 0);
                let attempt = this.span.run(|| inner.call(request));
                this.attempt.set(Some(attempt));
                Poll::Ready(Ok(()))
            }
            Waited::Failed(error) => {
                *this.inner = None;
                Poll::Ready(Err(error))
            }
            Waited::TooLong(action, last) => {
                // The service may hold a place in a queue, and this future may be kept.
                *this.inner = None;
                this.shared.telemetry.act(action, ended, Duration::ZERO);
                Poll::Ready(Err(last.unwrap_or_else(|| S::Error::from_rejected(this.shared.give_up()))))
            }
        }
    }
}

/// Returns the outcome of an attempt: the rejection's own if the error is one, the policy's
/// otherwise.
#[inline]
fn outcome_by<Req, P, Res, E>(policy: &P, kept: &mut P::Saved, result: &mut Result<Res, E>) -> Outcome
where
    P: RetryPolicy<Req, Res, E>,
    E: CarryRejected,
{
    match result {
        // A separate arm: the outcome of a success is often a compile-time constant.
        Ok(_) => policy.classify(kept, result),
        Err(error) => Outcome::asked(error.rejected(), || policy.classify(kept, result)),
    }
}

impl<Req, S, P> fmt::Debug for ResponseFuture<Req, S, P>
where
    P: RetryPolicy<Req, S::Response, S::Error>,
    S: Service<<P as Attempts<Req>>::Request>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("attempts", &self.progress.attempts())
            .field("is_waiting", &self.pause.is_some())
            .finish_non_exhaustive()
    }
}
