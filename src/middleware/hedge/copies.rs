use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;

use crate::classify::Outcome;
use crate::telemetry::AttemptSpan;

/// The copies in flight, and the failure to return if no attempt succeeds.
pub(super) struct Copies<F, T, E> {
    running: Vec<Pin<Box<Running<F>>>>,
    failure: Option<Failure<T, E>>,
}

/// The result and the outcome of an attempt that failed.
pub(super) type Failure<T, E> = (Result<T, E>, Outcome);

#[pin_project]
struct Running<F> {
    #[pin]
    copy: F,
    span: AttemptSpan,
    number: u32,
}

/// The number of an attempt, zero for the original, and its result.
pub(super) type Ended<T, E> = (u32, Result<T, E>);

impl<F, T, E> Copies<F, T, E> {
    pub(super) const fn new() -> Self {
        Self { running: Vec::new(), failure: None }
    }

    pub(super) fn send(&mut self, copy: F, span: AttemptSpan, number: u32) {
        self.running.push(Box::pin(Running { copy, span, number }));
    }

    /// Stores a failure, unless an earlier one is stored that is no rejection. Responses are
    /// dropped before another attempt, so only errors are stored for long.
    pub(super) fn keep(&mut self, failure: Failure<T, E>) {
        if self.failure.as_ref().is_none_or(|(_, outcome)| outcome.is_rejected()) {
            self.failure = Some(failure);
        }
    }

    /// Drops the stored failure if it is a response, which may hold a connection that another
    /// attempt needs.
    pub(super) fn drop_response(&mut self) {
        self.failure.take_if(|(result, _)| result.is_ok());
    }

    pub(super) fn take_failure(&mut self) -> Option<Failure<T, E>> {
        self.failure.take()
    }

    /// Drops the copies in flight, and returns their numbers.
    pub(super) fn drop_all(&mut self) -> impl Iterator<Item = u32> + use<'_, F, T, E> {
        self.running.drain(..).map(|running| running.number)
    }
}

impl<F, T, E> Copies<F, T, E>
where
    F: Future<Output = Result<T, E>>,
{
    /// Polls the copies until one has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Ended<T, E>> {
        let polled = self.running.iter_mut().enumerate().find_map(|(index, running)| {
            let running = running.as_mut().project();
            match running.span.run(|| running.copy.poll(cx)) {
                Poll::Ready(result) => Some((index, (*running.number, result))),
                Poll::Pending => None,
            }
        });
        polled.map(|(index, ended)| {
            self.running.remove(index);
            ended
        })
    }
}
