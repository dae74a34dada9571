use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

use crate::classify::{Class, Guard, Outcome};

/// A response body that ends its call when it ends: with the outcome of the headers, or as a
/// failure if reading it fails. Dropping it earlier cancels the call.
#[pin_project]
#[derive(Debug)]
pub struct GuardedBody<B, G> {
    #[pin]
    inner: B,
    guard: Option<G>,
    /// The class of the call if the body ends well. Only two fields of the outcome are stored,
    /// because bodies are moved often.
    class: Class,
    overload: bool,
}

impl<B: Body, G: Guard> GuardedBody<B, G> {
    pub(super) fn new(inner: B, guard: Option<(G, Outcome)>) -> Self {
        match guard {
            Some((mut guard, outcome)) if !inner.is_end_stream() => {
                guard.answered();
                Self { inner, guard: Some(guard), class: outcome.class, overload: outcome.overload }
            }
            // A reader does not poll a body that is empty, so the call ends here.
            Some((guard, outcome)) => {
                guard.finish(outcome);
                Self::from(inner)
            }
            None => Self::from(inner),
        }
    }
}

impl<B, G> GuardedBody<B, G> {
    /// Returns a reference to the inner body.
    pub const fn get_ref(&self) -> &B {
        &self.inner
    }

    /// Returns a mutable reference to the inner body.
    pub const fn get_mut(&mut self) -> &mut B {
        &mut self.inner
    }

    /// Returns the inner body. Cancels the call, unless it has ended.
    pub fn into_inner(self) -> B {
        self.inner
    }
}

/// Creates a body without a call, for responses that are made on the way.
impl<B, G> From<B> for GuardedBody<B, G> {
    fn from(inner: B) -> Self {
        Self { inner, guard: None, class: Class::Success, overload: false }
    }
}

impl<B: Default, G> Default for GuardedBody<B, G> {
    fn default() -> Self {
        Self::from(B::default())
    }
}

/// Ends the call as a failure when dropped, which happens only if the inner body panics.
struct Panicked<'a, G: Guard>(&'a mut Option<G>);

impl<G: Guard> Drop for Panicked<'_, G> {
    fn drop(&mut self) {
        if let Some(guard) = self.0.take() {
            guard.finish(Outcome::failure());
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
        let outcome = match &frame {
            Some(Err(_)) => Some(Outcome::failure()),
            // A reader that knows the length does not poll again after the last frame.
            Some(Ok(_)) if !this.inner.is_end_stream() => None,
            Some(Ok(_)) | None => Some(Outcome::from(*this.class).overload(*this.overload)),
        };
        if let Some((guard, outcome)) = outcome.and_then(|outcome| this.guard.take().zip(Some(outcome))) {
            guard.finish(outcome);
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
