use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use super::config::RetryConfig;
use super::policy::{Facts, Standard};
use super::shared::Shared;
use super::state::{Ended, Progress};
use crate::base::clock::{instant, instant_after, wait_until};
use crate::classify::{Asking, Classify};
use crate::config::InvalidConfig;
use crate::error::CarryRejected;
use crate::primitives::budget::Budget;

/// A handle to reconfigure a [retry](super) layer, and to retry work that is not a `Service`.
pub struct RetryHandle<P> {
    shared: Arc<Shared>,
    policy: P,
}

impl<P> RetryHandle<P> {
    pub(super) const fn new(shared: Arc<Shared>, policy: P) -> Self {
        Self { shared, policy }
    }

    /// Returns the current configuration.
    #[must_use]
    pub fn config(&self) -> RetryConfig {
        self.shared.config()
    }

    /// Replaces the configuration, also for calls in flight. The budget does not change.
    ///
    /// # Errors
    ///
    /// If `config` is not valid. The old configuration then stays in place.
    pub fn reconfigure(&self, config: RetryConfig) -> Result<(), InvalidConfig> {
        self.shared.reconfigure(config)
    }

    /// Returns the budget.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.shared.budget
    }
}

impl<P> RetryHandle<Standard<P>> {
    /// Runs `attempt`, such as a query or a publish, until it succeeds or the layer allows no
    /// further attempt. It uses the same budget as the calls of the layer.
    ///
    /// A rejection within `attempt`, for example by a circuit breaker's
    /// [`run`](crate::CircuitBreakerHandle::run), is returned at once. For an error type that
    /// cannot carry rejections, use [`run_opaque`](Self::run_opaque).
    ///
    /// Dropping the future cancels the attempt in flight.
    ///
    /// # Errors
    ///
    /// Returns the error of the last attempt.
    pub async fn run<F, Fut, T, E>(&self, attempt: F) -> Result<T, E>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        P: Classify<T, E> + Clone,
        E: CarryRejected,
    {
        self.run_by(&Asking(self.policy.protocol().clone()), attempt).await
    }

    /// Runs `attempt` like [`run`](Self::run), but treats every error as the service's own.
    ///
    /// # Errors
    ///
    /// Returns the error of the last attempt.
    ///
    /// ```
    /// use stanchion::{RetryConfig, RetryLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
    /// let retry = RetryLayer::new(RetryConfig::new()).name("orders").handle();
    /// let mut attempts = 0;
    /// let result = retry
    ///     .run_opaque(|| {
    ///         attempts += 1;
    ///         let result = if attempts < 3 { Err("connection reset") } else { Ok(42) };
    ///         async move { result }
    ///     })
    ///     .await;
    /// assert_eq!((result, attempts), (Ok(42), 3));
    /// # }
    /// ```
    pub async fn run_opaque<F, Fut, T, E>(&self, attempt: F) -> Result<T, E>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        P: Classify<T, E>,
    {
        self.run_by(self.policy.protocol(), attempt).await
    }

    async fn run_by<C, F, Fut, T, E>(&self, classify: &C, mut attempt: F) -> Result<T, E>
    where
        C: Classify<T, E>,
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.shared.begin();
        let mut progress = Progress::default();
        loop {
            let number = progress.attempts().saturating_add(1);
            let result = {
                let span = self.shared.telemetry.attempt(number, 0);
                let mut attempt = pin!(span.run(&mut attempt));
                poll_fn(|cx| span.run(|| attempt.as_mut().poll(cx))).await
            };
            let outcome = classify.classify(result.as_ref());
            self.shared.ended(number, outcome.class);
            let ended = Ended { outcome, is_idempotent: true };
            let Some(wait) = self.shared.next(&mut progress, ended, Facts::default(), |_| true) else {
                return result;
            };
            drop(result);
            if !wait.is_zero() {
                wait_until(instant_after(instant(), wait)).await;
            }
        }
    }
}

impl<P: Clone> Clone for RetryHandle<P> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), policy: self.policy.clone() }
    }
}

impl<P> fmt::Debug for RetryHandle<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryHandle")
            .field("name", &self.shared.telemetry.name())
            .field("budget", &self.shared.budget)
            .finish_non_exhaustive()
    }
}
