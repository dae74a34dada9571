use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;

use super::shared::Refused;
use crate::error::{CarryRejected, Rejected};

/// The future of a call that is [let through or refused](super).
///
/// Dropped before it is ready, it cancels the call; what that cost stays used.
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<F> {
    #[pin]
    state: State<F>,
}

#[pin_project(project = Projection)]
#[derive(Debug)]
enum State<F> {
    Calling(#[pin] F),
    Refused(Refused),
}

impl<F> ResponseFuture<F> {
    #[inline]
    pub(super) const fn calling(inner: F) -> Self {
        Self { state: State::Calling(inner) }
    }

    #[inline]
    pub(super) const fn refused(refused: Refused) -> Self {
        Self { state: State::Refused(refused) }
    }
}

impl<F, Res, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Res, E>>,
    E: CarryRejected,
{
    type Output = Result<Res, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            Projection::Calling(inner) => inner.poll(cx),
            Projection::Refused(refused) => Poll::Ready(Err(E::from_rejected(Rejected::from(*refused)))),
        }
    }
}
