use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project::pin_project;
use tower_service::Service;

use super::answer::{Answer, Reply};
use super::failure::Failure;
use crate::clock::{BoxedTimer, instant, instant_after};
use crate::sync::{Mutex, lock};

/// Answers with what another service answers; made by [`FallbackLayer::service`](super::FallbackLayer::service).
pub struct ByService<T> {
    /// Cloned when a call has failed and not before, so that a good one does not pay for it. Behind a lock, so that a
    /// service need not be `Sync`.
    service: Arc<Mutex<T>>,
    ready_within: Duration,
}

impl<T> ByService<T> {
    pub(super) fn new(service: T) -> Self {
        Self { service: Arc::new(Mutex::new(service)), ready_within: Duration::from_secs(1) }
    }

    pub(super) fn ready_within(&self, wait: Duration) -> Self {
        Self { service: Arc::clone(&self.service), ready_within: wait }
    }
}

impl<T, Kept, E> Answer<Kept, T::Response, E> for ByService<T>
where
    T: Service<Kept> + Clone,
{
    type Future = Serving<T, Kept>;

    fn answer(&self, kept: Kept, failure: Failure<T::Response, E>) -> Reply<T::Response, E, Self::Future> {
        let service = lock(&self.service).clone();
        let serving = Serving {
            call: None,
            request: Some(kept),
            service,
            patience: self.ready_within,
            timer: BoxedTimer::new(),
        };
        Reply::Later(serving, failure)
    }
}

/// A call of the service that is the fallback.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct Serving<T: Service<Kept>, Kept> {
    #[pin]
    call: Option<T::Future>,
    /// Until it is called with it.
    request: Option<Kept>,
    service: T,
    patience: Duration,
    /// Ends the wait for its readiness, if it comes to that.
    timer: BoxedTimer,
}

impl<T: Service<Kept>, Kept> Future for Serving<T, Kept> {
    type Output = Option<T::Response>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if this.request.is_some() {
            match this.service.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                Poll::Pending if this.patience.is_zero() => return Poll::Ready(None),
                Poll::Pending => {
                    let patience = *this.patience;
                    ready!(this.timer.poll_once(cx, || instant_after(instant(), patience)));
                    return Poll::Ready(None);
                }
            }
            this.timer.stop();
            let request = this.request.take().expect("it was there a moment ago");
            this.call.set(Some(this.service.call(request)));
        }
        let call = this.call.as_pin_mut().expect("a future is not polled after it was ready");
        call.poll(cx).map(Result::ok)
    }
}

impl<T> fmt::Debug for ByService<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByService")
            .field("service", &std::any::type_name::<T>())
            .field("ready_within", &self.ready_within)
            .finish()
    }
}

impl<T: Service<Kept>, Kept> fmt::Debug for Serving<T, Kept> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("is_called", &self.call.is_some()).finish_non_exhaustive()
    }
}
