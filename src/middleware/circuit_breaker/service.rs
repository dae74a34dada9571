use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tower_service::Service;

use super::ResponseFuture;
use super::pass::{Pass, Refusal, Verdict};
use super::permit::Permit;
use super::shared::Shared;
use super::waiting::Waiting;
use crate::classify::{CarryGuard, Classify, in_service};
use crate::error::CarryRejected;
use crate::protocol::AnyRequest;

/// What a circuit that lets no call through says to `poll_ready`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readiness {
    /// That it is ready, to refuse the call at once. For callers that want to know.
    #[default]
    Reject,
    /// That it is not ready, and who waits is woken when it is. For services under a balancer, which then sends
    /// the call elsewhere. Not together with a [`ramp`](crate::CircuitBreakerConfig::ramp): a recovering circuit is
    /// ready, and refuses the calls that are not in its share.
    Pending,
}

/// A service behind a [circuit breaker](super).
pub struct CircuitBreaker<S, P = AnyRequest> {
    inner: S,
    shared: Arc<Shared>,
    protocol: P,
    readiness: Readiness,
    /// `inner` has said that it is ready, and has not been called since.
    is_inner_ready: bool,
    /// What `call` is going to answer, since `inner` was not asked whether it is ready.
    refused: Option<Refusal>,
    /// Under [`Readiness::Pending`], the way to a trial call.
    turn: Option<Turn>,
}

#[derive(Debug)]
enum Turn {
    Waiting(Box<Waiting>),
    Taken(Permit),
}

/// Counts as a failed call when it is dropped, so also by a panic.
struct Failure<'a> {
    shared: &'a Shared,
    turn: &'a mut Option<Turn>,
}

impl Drop for Failure<'_> {
    fn drop(&mut self) {
        let taken = match self.turn.take() {
            Some(Turn::Taken(permit)) => permit.begin(),
            _ => None,
        };
        match taken {
            Some(pass) => self.shared.settle(pass, Verdict::Failure, None),
            None => self.shared.fail_unmade(),
        }
    }
}

impl<S, P> CircuitBreaker<S, P> {
    pub(super) const fn new(inner: S, shared: Arc<Shared>, protocol: P, readiness: Readiness) -> Self {
        Self { inner, shared, protocol, readiness, is_inner_ready: false, refused: None, turn: None }
    }

    crate::middleware::macros::inner_accessors!(is_inner_ready);

    /// Asks a circuit that does not let all calls through; `Pending` only if that is what the caller wants.
    #[cold]
    fn poll_circuit(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.refused = None;
        if self.shared.circuit.is_passing() {
            self.turn = None;
        } else if self.readiness == Readiness::Reject {
            self.refused = self.shared.circuit.refusal(&self.shared.now());
        } else {
            // It may be lost by now, to an order or to another caller.
            if matches!(&self.turn, Some(Turn::Taken(permit)) if !permit.is_held()) {
                self.turn = None;
            }
            let waiting = || Turn::Waiting(Box::new(Waiting::new(&self.shared)));
            if let Turn::Waiting(waiting) = self.turn.get_or_insert_with(waiting) {
                let permit = ready!(waiting.poll_permit(cx));
                self.turn = permit.map(Turn::Taken);
            }
        }
        Poll::Ready(())
    }

    /// Leave to make a call, by what `poll_ready` has found out.
    #[inline]
    fn pass(&mut self) -> Result<Pass, Refusal> {
        // A service that is ready stays ready until it is called.
        if let Some(refusal) = self.refused.take().filter(|_| !self.is_inner_ready) {
            return Err(refusal);
        }
        let plain = if self.turn.is_none() { self.shared.admit_plainly() } else { None };
        plain.map_or_else(|| self.pass_by_turn(), Ok)
    }

    #[cold]
    fn pass_by_turn(&mut self) -> Result<Pass, Refusal> {
        let taken = match self.turn.take() {
            Some(Turn::Taken(permit)) => permit.begin(),
            _ => None,
        };
        taken.map_or_else(|| self.shared.admit_slowly(), Ok)
    }
}

impl<S, P, Req> Service<Req> for CircuitBreaker<S, P>
where
    S: Service<Req>,
    S::Error: CarryRejected,
    P: Classify<S::Response, S::Error> + CarryGuard<S::Response> + Clone,
{
    type Response = P::Response<Permit>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, P>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.refused.is_some() || self.turn.is_some() || !self.shared.circuit.is_passing() {
            ready!(self.poll_circuit(cx));
        }
        if self.is_inner_ready || self.refused.is_some() {
            return Poll::Ready(Ok(()));
        }
        // A client that cannot connect may say so here. It is a failed call, though none was made.
        let failure = Failure { shared: &self.shared, turn: &mut self.turn };
        let polled = self.inner.poll_ready(cx);
        match &polled {
            Poll::Ready(Err(error)) if is_failure(error) => drop(failure),
            _ => std::mem::forget(failure),
        }
        let result = ready!(polled);
        self.is_inner_ready = result.is_ok();
        Poll::Ready(result)
    }

    // Always, here and in what it calls: otherwise the future is copied where a program makes calls in two places.
    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        let pass = match self.pass() {
            Ok(pass) => pass,
            Err(refusal) => {
                return ResponseFuture::rejected(self.shared.refuse(refusal));
            }
        };
        self.is_inner_ready = false;
        let shared = &self.shared;
        let (inner, protocol) = in_service(
            || (self.inner.call(request), self.protocol.clone()),
            move || shared.settle(pass, Verdict::Failure, None),
        );
        // Last, and straight into its place: on the way no copy is made of the permit.
        ResponseFuture::calling(inner, protocol, Permit::new(shared, pass))
    }
}

/// Whether an error of `poll_ready` is the service's own, and not a rejection by a layer further in.
fn is_failure<E: CarryRejected>(error: &E) -> bool {
    error.rejected().is_none_or(|rejected| rejected.reached_service())
}

impl<S: Clone, P: Clone> Clone for CircuitBreaker<S, P> {
    /// A clone shares the circuit. It is not ready, even if this service is.
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.shared), self.protocol.clone(), self.readiness)
    }
}

impl<S: fmt::Debug, P> fmt::Debug for CircuitBreaker<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("inner", &self.inner)
            .field("name", &self.shared.telemetry.name())
            .field("state", &self.shared.circuit.load().state)
            .field("protocol", &std::any::type_name::<P>())
            .field("readiness", &self.readiness)
            .finish_non_exhaustive()
    }
}
