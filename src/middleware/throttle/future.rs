use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;

use super::shared::Ticket;
use super::state::End;
use crate::classify::{Classify, outcome_of};
use crate::error::{CarryRejected, Rejected};

/// The future of a call through a [throttle](super).
///
/// Dropped before it is ready, it cancels the call.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<F, P> {
    /// The service at work; none if the call was not sent.
    #[pin]
    inner: Option<F>,
    protocol: P,
    ticket: Option<Ticket>,
    refused: Option<Rejected>,
}

impl<F, P> ResponseFuture<F, P> {
    #[inline]
    pub(super) const fn sent(inner: F, protocol: P, ticket: Ticket) -> Self {
        Self { inner: Some(inner), protocol, ticket: Some(ticket), refused: None }
    }

    #[inline]
    pub(super) const fn refused(rejected: Rejected, protocol: P) -> Self {
        Self { inner: None, protocol, ticket: None, refused: Some(rejected) }
    }
}

impl<F, P, Res, E> Future for ResponseFuture<F, P>
where
    F: Future<Output = Result<Res, E>>,
    P: Classify<Res, E>,
    E: CarryRejected,
{
    type Output = Result<Res, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else {
            let rejected = this.refused.take().expect("a future is not polled after it was ready");
            return Poll::Ready(Err(E::from_rejected(rejected)));
        };
        let Poll::Ready(result) = inner.poll(cx) else {
            if let Some(ticket) = this.ticket {
                ticket.wait();
            }
            return Poll::Pending;
        };
        let outcome = outcome_of(this.protocol, result.as_ref());
        let end = match outcome.overload {
            _ if outcome.is_rejected() => End::NotSent,
            _ if outcome.is_cut_off() => End::CutOff,
            true => End::Rejected,
            false => End::Accepted,
        };
        if let Some(ticket) = this.ticket.take() {
            ticket.end(end);
        }
        Poll::Ready(result)
    }
}
