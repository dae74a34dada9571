use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use pin_project::pin_project;

use crate::error::Rejected;
use crate::protocol::BodyTimer;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a response to a call with a [timeout](crate::timeout).
///
/// When the timeout expires, the body ends in a boxed [`Rejected`], and the inner body is dropped
/// at once.
#[pin_project]
#[derive(Debug)]
pub struct TimedBody<B> {
    /// `None` after the timeout has expired.
    #[pin]
    inner: Option<B>,
    /// `None` without a limit, and after the timeout has expired.
    timer: Option<BodyTimer>,
}

impl<B> TimedBody<B> {
    pub(super) const fn new(inner: B, timer: Option<BodyTimer>) -> Self {
        Self { inner: Some(inner), timer }
    }
}

/// Creates a body without a limit, for responses that are made on the way.
impl<B> From<B> for TimedBody<B> {
    fn from(inner: B) -> Self {
        Self::new(inner, None)
    }
}

impl<B: Default> Default for TimedBody<B> {
    fn default() -> Self {
        Self::from(B::default())
    }
}

impl<B> Body for TimedBody<B>
where
    B: Body<Error: Into<BoxError>>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        let polled = inner.as_mut().poll_frame(cx);
        let expired: Option<Rejected> = match (this.timer.as_mut(), &polled) {
            // The last frame has arrived, so the body is complete even if the time is over.
            (Some(_), Poll::Ready(Some(Ok(frame)))) if frame.is_trailers() || inner.is_end_stream() => None,
            (Some(timer), Poll::Ready(Some(Ok(_)))) => timer.progress().err(),
            (Some(timer), Poll::Pending) => match timer.poll_expired(cx) {
                Poll::Ready(rejected) => Some(rejected),
                Poll::Pending => None,
            },
            _ => None,
        };
        if let Some(rejected) = expired {
            this.inner.set(None);
            *this.timer = None;
            return Poll::Ready(Some(Err(rejected.into())));
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
