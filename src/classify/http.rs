//! HTTP: what a status means, and a body that carries the guard to the call's real end.
//!
//! A call over HTTP is not over when the head of the response is there. [`HttpClassifier`] puts the guard into
//! the response's body, as a [`GuardedBody`]: one that breaks or is cut off is a failure when that happens, one
//! that comes to its end is what the status said, and one that is dropped half-read was cancelled.
//!
//! | end of the call | class |
//! |---|---|
//! | error instead of a response | failure |
//! | status 5xx | failure, at once |
//! | status 503, 429 | [configurable](HttpClassifier::service_unavailable): failure, success |
//! | any other status, body read to its end | success |
//! | any other status, body ends in an error | failure |
//! | body dropped before its end | cancelled |
//! | body stalls | slow while it does, in a breaker with `slow_after` |
//!
//! The [`Retry-After`](crate::headers::retry_after) of a failed response is passed on to the guard. A date in it
//! is compared with the clock of this machine.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

use super::{Class, Classify, Guard};
use crate::clock::wall;
use crate::headers::retry_after_by;

/// Classifies responses by their status, and the rest of the call by their body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpClassifier {
    too_many_requests: Class,
    service_unavailable: Class,
}

impl HttpClassifier {
    /// 5xx and errors fail, everything else succeeds.
    #[must_use]
    pub const fn new() -> Self {
        Self { too_many_requests: Class::Success, service_unavailable: Class::Failure }
    }

    /// What a 429 says about the service. Default: success, it works and only you are too eager.
    #[must_use]
    pub const fn too_many_requests(mut self, class: Class) -> Self {
        self.too_many_requests = class;
        self
    }

    /// What a 503 says about the service. Default: failure.
    #[must_use]
    pub const fn service_unavailable(mut self, class: Class) -> Self {
        self.service_unavailable = class;
        self
    }

    const fn class(&self, status: StatusCode) -> Class {
        match status {
            StatusCode::TOO_MANY_REQUESTS => self.too_many_requests,
            StatusCode::SERVICE_UNAVAILABLE => self.service_unavailable,
            status if status.as_u16() >= 500 => Class::Failure,
            _ => Class::Success,
        }
    }
}

impl Default for HttpClassifier {
    fn default() -> Self {
        Self::new()
    }
}

impl<B: Body, E> Classify<Response<B>, E> for HttpClassifier {
    type Response<G: Guard> = Response<GuardedBody<B, G>>;

    fn settle<G: Guard>(&self, result: Result<Response<B>, E>, guard: G) -> Result<Self::Response<G>, E> {
        let response = match result {
            Ok(response) => response,
            Err(error) => {
                guard.finish(Class::Failure);
                return Err(error);
            }
        };
        let guard = match self.class(response.status()) {
            // What follows cannot make it better, and may take long.
            class @ (Class::Failure | Class::Ignored) => {
                match retry_after_by(response.headers(), wall) {
                    Some(wait) => guard.finish_and_wait(class, wait),
                    None => guard.finish(class),
                }
                None
            }
            Class::Success => end_of(response.body(), guard),
        };
        Ok(response.map(|inner| GuardedBody { inner, guard }))
    }
}

/// Ends the call when the body of the response has ended or is dropped, whatever the status: for layers that count the
/// calls under way, such as a [bulkhead](crate::bulkhead).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyEnd;

impl<B: Body, E> Classify<Response<B>, E> for BodyEnd {
    type Response<G: Guard> = Response<GuardedBody<B, G>>;

    fn settle<G: Guard>(&self, result: Result<Response<B>, E>, guard: G) -> Result<Self::Response<G>, E> {
        match result {
            Ok(response) => {
                let guard = end_of(response.body(), guard);
                Ok(response.map(|inner| GuardedBody { inner, guard }))
            }
            Err(error) => {
                guard.finish(Class::Failure);
                Err(error)
            }
        }
    }
}

/// The guard, unless the body has ended before it began: nobody is going to read such a one.
fn end_of<B: Body, G: Guard>(body: &B, guard: G) -> Option<G> {
    if body.is_end_stream() {
        guard.finish(Class::Success);
        None
    } else {
        Some(guard)
    }
}

/// A response body that ends the call when it ends.
#[pin_project]
#[derive(Debug)]
pub struct GuardedBody<B, G> {
    #[pin]
    inner: B,
    guard: Option<G>,
}

impl<B, G> GuardedBody<B, G> {
    /// The body inside.
    pub const fn get_ref(&self) -> &B {
        &self.inner
    }

    /// The body inside.
    pub const fn get_mut(&mut self) -> &mut B {
        &mut self.inner
    }

    /// The body inside; for the layer the call is cancelled, unless it has ended.
    pub fn into_inner(self) -> B {
        self.inner
    }
}

/// A body of no call, for responses that are made on the way.
impl<B, G> From<B> for GuardedBody<B, G> {
    fn from(inner: B) -> Self {
        Self { inner, guard: None }
    }
}

impl<B: Default, G> Default for GuardedBody<B, G> {
    fn default() -> Self {
        Self { inner: B::default(), guard: None }
    }
}

/// Ends the call as a failure when it is dropped, which only a panic does.
struct Panicked<'a, G: Guard>(&'a mut Option<G>);

impl<G: Guard> Drop for Panicked<'_, G> {
    fn drop(&mut self) {
        if let Some(guard) = self.0.take() {
            guard.finish(Class::Failure);
        }
    }
}

impl<B: Body, G: Guard> Body for GuardedBody<B, G> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        let panicked = Panicked(this.guard);
        let polled = this.inner.as_mut().poll_frame(cx);
        std::mem::forget(panicked);
        let frame = std::task::ready!(polled);
        let end = match &frame {
            Some(Err(_)) => Some(Class::Failure),
            None => Some(Class::Success),
            // A reader that knows the length stops here.
            Some(Ok(_)) => this.inner.is_end_stream().then_some(Class::Success),
        };
        if let Some((guard, class)) = end.and_then(|class| this.guard.take().zip(Some(class))) {
            guard.finish(class);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
