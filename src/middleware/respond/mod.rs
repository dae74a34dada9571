//! Responses in place of rejections, for servers.
//!
//! A server must respond to every request: axum requires services whose error is
//! [`Infallible`](std::convert::Infallible). Add [`respond`] outside of the layers that reject
//! calls. It turns each [`Rejected`] into a response and restores the error type that the service
//! has below those layers. Error handlers therefore need not know this crate.
//!
//! ```
//! use std::convert::Infallible;
//! use std::time::Duration;
//!
//! use stanchion::{CircuitBreakerConfig, CircuitBreakerLayer, Error, Rejected, respond};
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Infallible> {
//! let breaker = CircuitBreakerLayer::new(CircuitBreakerConfig::new());
//! let operator = breaker.handle();
//! let mut service = ServiceBuilder::new()
//!     .layer(respond(|rejected: Rejected| match rejected.retry_after() {
//!         Some(wait) => format!("503, try again in {} s", wait.as_secs_f32().ceil()),
//!         None => "503".to_owned(),
//!     }))
//!     .layer(breaker)
//!     .map_err(Error::Inner)
//!     .service(service_fn(|name: &'static str| async move { Ok::<_, Infallible>(format!("200, hello {name}")) }));
//!
//! assert_eq!(service.ready().await?.call("world").await?, "200, hello world");
//! operator.trip_for(Duration::from_secs(5));
//! assert_eq!(service.ready().await?.call("world").await?, "503, try again in 5 s");
//! # Ok(())
//! # }
//! ```
//!
//! # HTTP and gRPC
//!
//! The feature `http` adds two such functions. `http_response` returns 503, 429 or 504 with
//! `Retry-After`, and `grpc_response` returns `UNAVAILABLE`, `RESOURCE_EXHAUSTED` or
//! `DEADLINE_EXCEEDED` with `grpc-retry-pushback-ms`.
//!
//! # Readiness
//!
//! The service is ready when the inner service is, so layers that make callers wait still do. If
//! the inner service rejects in `poll_ready`, which no layer of this crate does, the next `call`
//! returns the response.

#[cfg(all(test, feature = "http", not(stanchion_loom)))]
mod tests;

#[cfg(feature = "http")]
pub use crate::grpc::{grpc_response, grpc_status};
#[cfg(feature = "http")]
pub use crate::http::{http_response, http_status};

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::error::{Error, Rejected};

/// Turns each rejection by an inner layer into a response. See [the module](mod@self).
///
/// `response` runs in the task of the call, so it must not block.
pub const fn respond<F>(response: F) -> RespondLayer<F> {
    RespondLayer { response }
}

/// A layer that turns rejections into responses. Made by [`respond`].
#[derive(Clone, Copy)]
#[must_use = "a layer does nothing until it is put around a service"]
pub struct RespondLayer<F> {
    response: F,
}

impl<S, F: Clone> Layer<S> for RespondLayer<F> {
    type Service = Respond<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        Respond { inner, response: self.response.clone(), rejected: None }
    }
}

/// A service that returns responses in place of rejections. Made by [`respond`].
pub struct Respond<S, F> {
    inner: S,
    response: F,
    /// The rejection to which the next `call` responds, since `inner` is not ready.
    rejected: Option<Rejected>,
}

impl<S, F> Respond<S, F> {
    crate::middleware::macros::inner_accessors!();
}

impl<S, F, Req, E> Service<Req> for Respond<S, F>
where
    S: Service<Req, Error = Error<E>>,
    F: Fn(Rejected) -> S::Response + Clone,
    E: std::error::Error,
{
    type Response = S::Response;
    type Error = E;
    type Future = ResponseFuture<S::Future, F>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        if self.rejected.is_none() {
            match ready!(self.inner.poll_ready(cx)) {
                Ok(()) => {}
                Err(error) => self.rejected = Some(rejection(error)?),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let state = match self.rejected.take() {
            Some(rejected) => State::Rejected(Some(rejected)),
            None => State::Calling(self.inner.call(request)),
        };
        ResponseFuture { state, response: self.response.clone() }
    }
}

impl<S: Clone, F: Clone> Clone for Respond<S, F> {
    /// Returns a clone that is not ready and holds no rejection, even if this service is or does.
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), response: self.response.clone(), rejected: None }
    }
}

/// The future of [`Respond`].
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<T, F> {
    #[pin]
    state: State<T>,
    response: F,
}

#[pin_project(project = StateProjection)]
enum State<T> {
    Calling(#[pin] T),
    Rejected(Option<Rejected>),
}

impl<T, F, Res, E> Future for ResponseFuture<T, F>
where
    T: Future<Output = Result<Res, Error<E>>>,
    F: Fn(Rejected) -> Res,
    E: std::error::Error,
{
    type Output = Result<Res, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let rejected = match this.state.project() {
            StateProjection::Calling(inner) => match ready!(inner.poll(cx)) {
                Ok(response) => return Poll::Ready(Ok(response)),
                Err(error) => rejection(error)?,
            },
            StateProjection::Rejected(rejected) => {
                rejected.take().expect("a future is not polled after it was ready")
            }
        };
        Poll::Ready(Ok((this.response)(rejected)))
    }
}

/// Returns the rejection, even from within a boxed error, or else the service's own error.
fn rejection<E: std::error::Error>(error: Error<E>) -> Result<Rejected, E> {
    match (error.rejected(), error) {
        (Some(rejected), _) | (None, Error::Rejected(rejected)) => Ok(rejected),
        (None, Error::Inner(error)) => Err(error),
    }
}

impl<F> fmt::Debug for RespondLayer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RespondLayer").field("response", &std::any::type_name::<F>()).finish()
    }
}

impl<S: fmt::Debug, F> fmt::Debug for Respond<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Respond")
            .field("inner", &self.inner)
            .field("response", &std::any::type_name::<F>())
            .finish_non_exhaustive()
    }
}

impl<T, F> fmt::Debug for ResponseFuture<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("response", &std::any::type_name::<F>())
            .finish_non_exhaustive()
    }
}
