use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tower_service::Service;

use super::future::{ResponseFuture, fail_on_panic};
use super::permit::Permit;
use super::shared::Shared;
use super::waiting::Waiting;
use crate::classify::{Class, Classify, ErrorsAreFailures};
use crate::error::{Rejected, refusals};

/// What a circuit that lets no call through says to `poll_ready`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readiness {
    /// That it is ready, to refuse the call at once. For callers that want to know.
    #[default]
    Reject,
    /// That it is not ready, and who waits is woken when it is. For services under a balancer, which then sends
    /// the call elsewhere.
    Pending,
}

/// A service behind a [circuit breaker](super).
pub struct CircuitBreaker<S, C = ErrorsAreFailures> {
    inner: S,
    shared: Arc<Shared>,
    classify: C,
    readiness: Readiness,
    /// `inner` has said that it is ready, and has not been called since.
    is_inner_ready: bool,
    /// What `call` is going to answer, since `inner` was not asked whether it is ready.
    refused: Option<Rejected>,
    /// Leave to make a trial call, taken in `poll_ready` so that it can wait for it.
    reserved: Option<Permit>,
    waiting: Option<Box<Waiting>>,
}

impl<S, C> CircuitBreaker<S, C> {
    pub(super) const fn new(inner: S, shared: Arc<Shared>, classify: C, readiness: Readiness) -> Self {
        Self {
            inner,
            shared,
            classify,
            readiness,
            is_inner_ready: false,
            refused: None,
            reserved: None,
            waiting: None,
        }
    }

    crate::macros::inner_accessors!();

    /// Asks the circuit before the service is asked; `Pending` only if that is what the caller wants.
    fn poll_circuit(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.refused = None;
        if self.shared.circuit.load().is_passing() {
            self.reserved = None;
            self.waiting = None;
            return Poll::Ready(());
        }
        match self.readiness {
            Readiness::Reject => {
                let now = self.shared.now();
                if let Some(refusal) = self.shared.circuit.refusal(&now) {
                    self.refused = Some(self.shared.refuse(refusal, &now));
                }
                Poll::Ready(())
            }
            Readiness::Pending => {
                if self.reserved.is_none() {
                    let waiting = self.waiting.get_or_insert_with(|| Box::new(Waiting::new(&self.shared)));
                    self.reserved = ready!(waiting.poll_permit(cx));
                }
                self.waiting = None;
                Poll::Ready(())
            }
        }
    }

    fn permit(&mut self) -> Result<Permit, Rejected> {
        match self.reserved.take().and_then(Permit::begin) {
            Some(permit) => Ok(permit),
            None => Permit::acquire(&self.shared),
        }
    }
}

impl<S, C, Req> Service<Req> for CircuitBreaker<S, C>
where
    S: Service<Req>,
    S::Error: From<Rejected>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = C::Response<Permit>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        ready!(self.poll_circuit(cx));
        if self.refused.is_some() || self.is_inner_ready {
            return Poll::Ready(Ok(()));
        }
        let before = refusals();
        let result = ready!(self.inner.poll_ready(cx));
        match &result {
            Ok(()) => self.is_inner_ready = true,
            // A client that cannot connect may say so here. It is a failed call, though none was made.
            Err(_) if refusals() == before => {
                if let Ok(permit) = self.permit() {
                    permit.finish(Class::Failure);
                }
            }
            Err(_) => {}
        }
        Poll::Ready(result)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        if let Some(rejected) = self.refused.take().filter(|_| !self.is_inner_ready) {
            return ResponseFuture::refused(rejected);
        }
        let permit = match self.permit() {
            Ok(permit) => permit,
            // A service that is ready stays ready until it is called.
            Err(rejected) => return ResponseFuture::refused(rejected),
        };
        self.is_inner_ready = false;
        let mut permit = Some(permit);
        let inner = fail_on_panic(&mut permit, || self.inner.call(request));
        let permit = permit.expect("only a panic takes the permit");
        ResponseFuture::calling(inner, self.classify.clone(), permit)
    }
}

impl<S: Clone, C: Clone> Clone for CircuitBreaker<S, C> {
    /// A clone shares the circuit. It is not ready, even if this service is.
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), Arc::clone(&self.shared), self.classify.clone(), self.readiness)
    }
}

impl<S: fmt::Debug, C> fmt::Debug for CircuitBreaker<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("inner", &self.inner)
            .field("name", &self.shared.telemetry.name())
            .field("state", &self.shared.circuit.load().state)
            .field("classify", &std::any::type_name::<C>())
            .field("readiness", &self.readiness)
            .finish_non_exhaustive()
    }
}
