//! Policies that were written for `tower::retry`.

use std::fmt;
use std::marker::PhantomData;

use tower::retry::Policy;

use crate::classify::{Outcome, Retryable};
use crate::middleware::retry::{Attempts, RetryPolicy};

/// A policy written for `tower::retry`, for use in a [`RetryLayer`](crate::RetryLayer).
///
/// The policy decides whether to retry a call and how long to wait. The layer adds its own bounds:
/// the number of attempts, the budget, and no retry of a rejection by a layer of this crate. As in
/// tower, each call has a clone of the policy, and the policy is not asked about a call whose
/// request it cannot clone.
///
/// ```
/// use std::future::{Ready, ready};
///
/// use stanchion::{Error, RetryConfig, RetryLayer, TowerPolicy};
/// use tower::retry::Policy;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// #[derive(Clone)]
/// struct Once(bool);
///
/// impl Policy<u32, u32, Error<std::fmt::Error>> for Once {
///     type Future = Ready<()>;
///
///     fn retry(
///         &mut self,
///         _: &mut u32,
///         result: &mut Result<u32, Error<std::fmt::Error>>,
///     ) -> Option<Ready<()>> {
///         (result.is_err() && std::mem::take(&mut self.0)).then(|| ready(()))
///     }
///
///     fn clone_request(&mut self, request: &u32) -> Option<u32> {
///         Some(*request + 1)
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// let layer = RetryLayer::new(RetryConfig::new()).policy(TowerPolicy::new(Once(true)));
/// let service = layer.layer(service_fn(|n: u32| async move {
///     if n == 1 { Err(Error::Inner(std::fmt::Error)) } else { Ok(n) }
/// }));
/// assert_eq!(service.oneshot(1).await.unwrap(), 2);
/// # }
/// ```
pub struct TowerPolicy<T, Res, E> {
    policy: T,
    ends: PhantomData<fn(Res, E)>,
}

impl<T, Res, E> TowerPolicy<T, Res, E> {
    /// Wraps `policy`.
    pub const fn new(policy: T) -> Self {
        Self { policy, ends: PhantomData }
    }
}

/// The state of one call: its policy and the request of its next attempt.
pub struct Saved<T, Req, W> {
    policy: T,
    /// The request of the next attempt.
    request: Option<Req>,
    wait: Option<W>,
}

impl<T, Req, Res, E> Attempts<Req> for TowerPolicy<T, Res, E>
where
    T: Policy<Req, Res, E> + Clone,
{
    type Request = Req;
    type Saved = Saved<T, Req, T::Future>;

    fn begin(&self, request: Req, is_repeatable: bool) -> (Req, Self::Saved) {
        let mut policy = self.policy.clone();
        let next = if is_repeatable { policy.clone_request(&request) } else { None };
        (request, Saved { policy, request: next, wait: None })
    }

    fn replay(&self, kept: &mut Self::Saved, _: u32) -> Option<Req> {
        let request = kept.request.take()?;
        kept.request = kept.policy.clone_request(&request);
        Some(request)
    }
}

impl<T, Req, Res, E> RetryPolicy<Req, Res, E> for TowerPolicy<T, Res, E>
where
    T: Policy<Req, Res, E> + Clone,
{
    type Wait = T::Future;

    fn classify(&self, kept: &mut Self::Saved, result: &mut Result<Res, E>) -> Outcome {
        let wait = kept.request.as_mut().map(|request| kept.policy.retry(request, result));
        match (wait, result.is_ok()) {
            // Without another request the policy is not asked, so it is unknown whether it would retry.
            (None, false) => Outcome::failure(),
            (Some(Some(wait)), _) => {
                kept.wait = Some(wait);
                Outcome::failure()
            }
            (Some(None), false) => Outcome::failure().retryable(Retryable::Never),
            (Some(None) | None, true) => Outcome::success(),
        }
    }

    fn wait(&self, kept: &mut Self::Saved) -> Option<T::Future> {
        kept.wait.take()
    }
}

impl<T: Clone, Res, E> Clone for TowerPolicy<T, Res, E> {
    fn clone(&self) -> Self {
        Self::new(self.policy.clone())
    }
}

impl<T: fmt::Debug, Res, E> fmt::Debug for TowerPolicy<T, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TowerPolicy").field(&self.policy).finish()
    }
}

impl<T, Req, W> fmt::Debug for Saved<T, Req, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saved").field("can_repeat", &self.request.is_some()).finish_non_exhaustive()
    }
}
