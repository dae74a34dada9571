use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project::pin_project;
use tokio::time::Instant;

use crate::base::clock::{Timer, instant, instant_after};
use crate::telemetry::Action;

/// The time between two attempts: the backoff, then the wait for the service's readiness.
#[pin_project]
pub(super) struct Pause<W, Req, E> {
    /// The policy's own wait, which replaces the timer.
    #[pin]
    own: Option<W>,
    #[pin]
    timer: Timer,
    /// The end of the wait, if the timer measures it.
    over_at: Option<Instant>,
    is_over: bool,
    limits: Limits,
    request: Option<Req>,
    /// The error of the last attempt, if it ended in one.
    last: Option<E>,
}

/// The limits on the wait for the next attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The longest time to wait for the service's readiness.
    pub(super) ready_within: Duration,
    /// The moment from which too little time is left for an attempt.
    pub(super) latest: Option<Instant>,
}

/// The result of a pause.
pub(super) enum Waited<Req, E> {
    /// The service is ready for the request of the next attempt.
    Ready(Req),
    /// The service will never be ready.
    Failed(E),
    /// The wait took too long. Holds the action to report, and the error of the last attempt.
    TooLong(Action, Option<E>),
}

impl<W: Future<Output = ()>, Req, E> Pause<W, Req, E> {
    pub(super) fn new(request: Req, own: Option<W>, wait: Duration, limits: Limits, last: Option<E>) -> Self {
        let is_timed = own.is_none() && !wait.is_zero();
        let over_at = is_timed.then(|| instant_after(instant(), wait));
        let is_over = own.is_none() && over_at.is_none();
        Self { own, timer: Timer::new(), over_at, is_over, limits, request: Some(request), last }
    }

    pub(super) fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        poll_ready: impl FnOnce(&mut Context<'_>) -> Poll<Result<(), E>>,
    ) -> Poll<Waited<Req, E>> {
        let mut this = self.project();
        let Limits { ready_within, latest } = *this.limits;
        if !*this.is_over {
            let is_own_pending = this.own.as_mut().as_pin_mut().map(|own| own.poll(cx).is_pending());
            match (is_own_pending, latest) {
                (Some(false), _) => {}
                (Some(true), None) => return Poll::Pending,
                (Some(true), Some(latest)) => {
                    ready!(this.timer.as_mut().poll(cx, latest));
                    return Poll::Ready(Waited::TooLong(Action::NoTime, this.last.take()));
                }
                (None, _) => {
                    ready!(this.timer.as_mut().poll_once(cx, || this.over_at.unwrap_or_else(instant)));
                }
            }
            *this.is_over = true;
            this.timer.as_mut().stop();
        }
        // The timer may have fired late, and the service become ready late.
        if latest.is_some_and(|latest| instant() >= latest) {
            let action = if this.timer.is_armed() { Action::NotReady } else { Action::NoTime };
            return Poll::Ready(Waited::TooLong(action, this.last.take()));
        }
        match poll_ready(cx) {
            Poll::Ready(Ok(())) => {
                let request = this.request.take().expect("a pause is not polled after it has ended");
                Poll::Ready(Waited::Ready(request))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Waited::Failed(error)),
            Poll::Pending => {
                let end = || {
                    let end = instant_after(instant(), ready_within);
                    latest.map_or(end, |latest| latest.min(end))
                };
                ready!(this.timer.poll_once(cx, end));
                Poll::Ready(Waited::TooLong(Action::NotReady, this.last.take()))
            }
        }
    }
}
