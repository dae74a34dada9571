//! What the last error was that a layer of this crate handed out.
//!
//! A layer that sees an error must know whether it is a refusal by a layer further in, which is no failure of
//! the service, or a timeout, which is one of another kind. It knows nothing of the error's type but that it can
//! hold a rejection. So it looks at the mark of its thread before and after it polls the service: where the last
//! error in between was a refusal, the error is that one, also if it is held back for some polls. What happened
//! in another task is not seen.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;

/// What an error is, whatever its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The service's own.
    Failed,
    /// A layer of this crate gave up waiting for the service.
    TimedOut,
    /// The same, because of a deadline that was set further out.
    PastDeadline,
    /// A layer of this crate kept the call from the service.
    Refused,
}

impl Cause {
    pub(crate) const fn is_timeout(self) -> bool {
        matches!(self, Self::TimedOut | Self::PastDeadline)
    }

    /// An error of this kind is handed out.
    pub(crate) fn deliver(self) {
        let _ = LAST.try_with(|last| {
            last.set(Mark { errors: last.get().errors.wrapping_add(1), cause: self });
        });
    }
}

/// The errors handed out on this thread up to some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    errors: u32,
    cause: Cause,
}

const NONE: Mark = Mark { errors: 0, cause: Cause::Failed };

thread_local! {
    static LAST: Cell<Mark> = const { Cell::new(NONE) };
}

#[inline]
pub(crate) fn mark() -> Mark {
    LAST.try_with(Cell::get).unwrap_or(NONE)
}

impl Mark {
    /// What the last error since this mark is; `before` if there was none.
    #[inline]
    pub(crate) fn cause_since_or(self, before: Cause) -> Cause {
        let now = mark();
        if now.errors == self.errors { before } else { now.cause }
    }

    /// What the last error since this mark is; the service's own if none was handed out by a layer.
    #[inline]
    pub(crate) fn cause_since(self) -> Cause {
        self.cause_since_or(Cause::Failed)
    }
}

/// A part of the service at work, and what its error is if it ends in one.
#[pin_project]
#[derive(Debug)]
pub(crate) struct Watched<F> {
    #[pin]
    future: F,
    cause: Cause,
}

impl<F> Watched<F> {
    #[inline]
    pub(crate) const fn new(future: F) -> Self {
        Self { future, cause: Cause::Failed }
    }
}

impl<F, T, E> Future for Watched<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = (Result<T, E>, Cause);

    // Always: of the polls of several layers one function is made, without the copies of an answer in between.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let before = mark();
        let polled = this.future.poll(cx);
        *this.cause = match polled {
            // What was refused on the way to an answer is not the answer.
            Poll::Ready(Ok(_)) => Cause::Failed,
            _ => before.cause_since_or(*this.cause),
        };
        Poll::Ready((ready!(polled), *this.cause))
    }
}

#[cfg(all(test, not(stanchion_loom)))]
mod tests;
