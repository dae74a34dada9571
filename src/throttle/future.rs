use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;

use super::shared::Ticket;
use super::state::End;
use crate::error::Rejected;
use crate::mark::{Cause, Watched};
use crate::protocol::Judge;

/// The future of a call through a [throttle](super).
///
/// Dropped before it is ready, it cancels the call.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<F, J> {
    /// The service at work; none if the call was not sent.
    #[pin]
    inner: Option<Watched<F>>,
    judge: J,
    ticket: Option<Ticket>,
    refused: Option<Rejected>,
}

impl<F, J> ResponseFuture<F, J> {
    #[inline]
    pub(super) const fn sent(inner: F, judge: J, ticket: Ticket) -> Self {
        Self { inner: Some(Watched::new(inner)), judge, ticket: Some(ticket), refused: None }
    }

    #[inline]
    pub(super) const fn refused(rejected: Rejected, judge: J) -> Self {
        Self { inner: None, judge, ticket: None, refused: Some(rejected) }
    }
}

impl<F, J, Res, E> Future for ResponseFuture<F, J>
where
    F: Future<Output = Result<Res, E>>,
    J: Judge<Res, E>,
    E: From<Rejected>,
{
    type Output = Result<Res, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else {
            let rejected = this.refused.take().expect("a future is not polled after it was ready");
            return Poll::Ready(Err(rejected.deliver()));
        };
        let (result, cause) = ready!(inner.poll(cx));
        let end = match &result {
            Err(_) if cause == Cause::Refused => End::NotSent,
            Err(_) if cause.is_timeout() => End::Rejected,
            _ if this.judge.judge(result.as_ref()).is_accepted() => End::Accepted,
            _ => End::Rejected,
        };
        if let Some(ticket) = this.ticket.take() {
            ticket.end(end);
        }
        if result.is_err() {
            cause.deliver();
        }
        Poll::Ready(result)
    }
}
