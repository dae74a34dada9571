use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use super::quotas::Ask;
use super::shared::{Refused, Shared};
use super::state::Turn;
use crate::base::clock::{Timer, Timestamp};
use crate::error::{CarryRejected, Rejected};

/// The future of a call that [waits for its turn](super), if that is not now.
///
/// Dropped before it is ready, it cancels the call. If the service has not been called yet, and nobody has come after it, what
/// the call cost is given back.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct WaitingFuture<Req, S: Service<Req>> {
    #[pin]
    state: State<Req, S>,
}

#[pin_project(project = Projection)]
enum State<Req, S: Service<Req>> {
    Waiting {
        #[pin]
        timer: Timer,
        begin: Instant,
        waiter: Option<Waiter<Req, S>>,
    },
    Calling(#[pin] S::Future),
    Refused(Refused),
}

struct Waiter<Req, S> {
    service: S,
    request: Req,
    reserved: Reserved,
}

/// A turn that has not been used. Dropped, it is given back.
pub(super) struct Reserved {
    shared: Arc<Shared>,
    key: u64,
    turn: Option<Turn>,
}

impl Reserved {
    pub(super) fn new(shared: &Arc<Shared>, key: u64, turn: Turn) -> Self {
        Self { shared: Arc::clone(shared), key, turn: Some(turn) }
    }

    pub(super) const fn used(&mut self) {
        self.turn = None;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(turn) = &self.turn {
            self.shared.give_back(self.key, turn);
        }
    }
}

impl<Req, S: Service<Req>> WaitingFuture<Req, S> {
    pub(super) fn waiting(service: S, request: Req, shared: &Arc<Shared>, ask: Ask, turn: Turn) -> Self {
        let begin = shared.clock.instant(Timestamp(ask.now.saturating_add(turn.wait)));
        let reserved = Reserved::new(shared, ask.key, turn);
        Self {
            state: State::Waiting {
                timer: Timer::new(),
                begin,
                waiter: Some(Waiter { service, request, reserved }),
            },
        }
    }

    #[inline]
    pub(super) const fn calling(inner: S::Future) -> Self {
        Self { state: State::Calling(inner) }
    }

    pub(super) const fn refused(refused: Refused) -> Self {
        Self { state: State::Refused(refused) }
    }
}

impl<Req, S> Future for WaitingFuture<Req, S>
where
    S: Service<Req>,
    S::Error: CarryRejected,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let inner = match state.as_mut().project() {
                Projection::Calling(inner) => return inner.poll(cx),
                Projection::Refused(refused) => {
                    return Poll::Ready(Err(S::Error::from_rejected(Rejected::from(*refused))));
                }
                Projection::Waiting { timer, begin, waiter } => {
                    ready!(timer.poll(cx, *begin));
                    let ready = &mut waiter.as_mut().expect(POLLED_AGAIN).service;
                    let is_ready = ready!(ready.poll_ready(cx));
                    let Waiter { mut service, request, mut reserved } = waiter.take().expect(POLLED_AGAIN);
                    if let Err(error) = is_ready {
                        return Poll::Ready(Err(error));
                    }
                    reserved.used();
                    service.call(request)
                }
            };
            state.set(State::Calling(inner));
        }
    }
}

const POLLED_AGAIN: &str = "a future is not polled after it was ready";

impl<Req, S: Service<Req>> fmt::Debug for WaitingFuture<Req, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitingFuture")
            .field("is_waiting", &matches!(self.state, State::Waiting { .. }))
            .finish_non_exhaustive()
    }
}
