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
use crate::base::clock::{BoxedTimer, instant, instant_after};
use crate::base::sync::{Mutex, lock};

/// A fallback that calls another service. Made by
/// [`FallbackLayer::service`](super::FallbackLayer::service).
pub struct FallbackService<T> {
    service: Arc<Template<T>>,
    ready_within: Duration,
}

impl<T> FallbackService<T> {
    pub(super) fn new(service: T) -> Self {
        Self { service: Arc::new(Template::new(service)), ready_within: Duration::from_secs(1) }
    }

    pub(super) fn ready_within(&self, wait: Duration) -> Self {
        Self { service: Arc::clone(&self.service), ready_within: wait }
    }
}

impl<T, Saved, E> Answer<Saved, T::Response, E> for FallbackService<T>
where
    T: Service<Saved> + Clone,
{
    type Future = Serving<T, Saved>;

    fn answer(&self, saved: Saved, failure: Failure<T::Response, E>) -> Reply<T::Response, E, Self::Future> {
        let serving = Serving {
            call: None,
            request: Some(saved),
            source: Source::Template(Arc::clone(&self.service)),
            ready_within: self.ready_within,
            timer: BoxedTimer::new(),
        };
        Reply::Later(serving, failure)
    }
}

/// The service from which each call of the fallback clones its own.
///
/// It is cloned only after a call has failed, so successful calls do not pay for it. The mutex
/// makes a service usable that is not `Sync`. The service is taken out of the mutex while it is
/// cloned: `Clone` is foreign code, and may itself call the fallback.
struct Template<T>(Mutex<Option<T>>);

impl<T> Template<T> {
    fn new(service: T) -> Self {
        Self(Mutex::new(Some(service)))
    }
}

impl<T: Clone> Template<T> {
    /// Returns a clone of the service. Pending while another call is cloning it.
    fn poll_clone(&self, cx: &Context<'_>) -> Poll<T> {
        let taken = lock(&self.0).take();
        let Some(service) = taken else {
            // A clone takes so little time that a list of wakers is not worth its cost.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        let borrowed = Borrowed { service: Some(service), from: self };
        borrowed.service.clone().map_or(Poll::Pending, Poll::Ready)
    }
}

/// The service while it is cloned. Dropping this puts it back, even if its `Clone` panics.
struct Borrowed<'a, T> {
    service: Option<T>,
    from: &'a Template<T>,
}

impl<T> Drop for Borrowed<'_, T> {
    fn drop(&mut self) {
        *lock(&self.from.0) = self.service.take();
    }
}

enum Source<T> {
    Template(Arc<Template<T>>),
    Own(T),
}

impl<T: Clone> Source<T> {
    fn poll_own(&mut self, cx: &Context<'_>) -> Poll<&mut T> {
        if let Self::Template(template) = self {
            let own = ready!(template.poll_clone(cx));
            *self = Self::Own(own);
        }
        match self {
            Self::Own(service) => Poll::Ready(service),
            Self::Template(_) => Poll::Pending,
        }
    }
}

/// The future of a call to the fallback service.
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct Serving<T: Service<Saved>, Saved> {
    #[pin]
    call: Option<T::Future>,
    /// The request, until the service has been called with it.
    request: Option<Saved>,
    source: Source<T>,
    ready_within: Duration,
    /// The timer of the wait for readiness, if the service is not ready at once.
    timer: BoxedTimer,
}

impl<T: Service<Saved> + Clone, Saved> Future for Serving<T, Saved> {
    type Output = Option<T::Response>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if this.request.is_some() {
            let service = ready!(this.source.poll_own(cx));
            match service.poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(None),
                Poll::Pending if this.ready_within.is_zero() => return Poll::Ready(None),
                Poll::Pending => {
                    let wait = *this.ready_within;
                    ready!(this.timer.poll_once(cx, || instant_after(instant(), wait)));
                    return Poll::Ready(None);
                }
            }
            this.timer.stop();
            let request = this.request.take().expect("the request is there until the service is called");
            this.call.set(Some(service.call(request)));
        }
        let call = this.call.as_pin_mut().expect("a future is not polled after it was ready");
        call.poll(cx).map(Result::ok)
    }
}

impl<T> fmt::Debug for FallbackService<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackService")
            .field("service", &std::any::type_name::<T>())
            .field("ready_within", &self.ready_within)
            .finish()
    }
}

impl<T: Service<Saved>, Saved> fmt::Debug for Serving<T, Saved> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("is_called", &self.call.is_some()).finish_non_exhaustive()
    }
}
