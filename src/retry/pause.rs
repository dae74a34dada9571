use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project::pin_project;
use tokio::time::Sleep;

use crate::clock::{instant, instant_after, sleep_until};
use crate::deadline::Deadline;
use crate::mark::Cause;

/// The time between two attempts: a wait, and then the service's readiness.
#[pin_project]
pub(super) struct Pause<W, Req, E> {
    /// The policy's own wait, in place of the timer's.
    #[pin]
    own: Option<W>,
    #[pin]
    timer: Sleep,
    is_over: bool,
    deadline: Option<Deadline>,
    ready_within: Duration,
    request: Option<Req>,
    /// How the attempt before failed, if with an error.
    last: Option<(E, Cause)>,
}

/// How a pause ended.
pub(super) enum Waited<Req, E> {
    /// With the request of the next attempt, for a service that is ready.
    Ready(Req),
    /// The service will never be ready.
    Failed(E),
    /// The service was not ready in time; how the last attempt failed.
    TooLong(Option<(E, Cause)>),
}

impl<W: Future<Output = ()>, Req, E> Pause<W, Req, E> {
    pub(super) fn new(
        request: Req,
        own: Option<W>,
        wait: Duration,
        deadline: Option<Deadline>,
        ready_within: Duration,
        last: Option<(E, Cause)>,
    ) -> Self {
        let timer = sleep_until(instant_after(instant(), wait));
        // Without a wait there is no timer to be waited for either, which would take a millisecond.
        let is_over = own.is_none() && wait.is_zero();
        let mut pause = Self { own, timer, is_over, deadline, ready_within, request: Some(request), last };
        if is_over {
            pause.timer = pause.patience();
        }
        pause
    }

    /// The timer that ends the wait for the service's readiness.
    fn patience(&self) -> Sleep {
        sleep_until(until(self.ready_within, self.deadline))
    }

    pub(super) fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        poll_ready: impl FnOnce(&mut Context<'_>) -> Poll<Result<(), E>>,
    ) -> Poll<Waited<Req, E>> {
        let mut this = self.project();
        if !*this.is_over {
            match this.own.as_mut().as_pin_mut() {
                Some(own) => ready!(own.poll(cx)),
                None => ready!(this.timer.as_mut().poll(cx)),
            }
            *this.is_over = true;
            this.timer.as_mut().reset(until(*this.ready_within, *this.deadline));
        }
        match poll_ready(cx) {
            Poll::Ready(Ok(())) => {
                let request = this.request.take().expect("a pause ends once");
                Poll::Ready(Waited::Ready(request))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Waited::Failed(error)),
            Poll::Pending => {
                ready!(this.timer.poll(cx));
                Poll::Ready(Waited::TooLong(this.last.take()))
            }
        }
    }
}

fn until(patience: Duration, deadline: Option<Deadline>) -> tokio::time::Instant {
    let end = Deadline::at(instant_after(instant(), patience));
    deadline.map_or(end, |deadline| deadline.earlier(end)).instant()
}
