//! The cases of tower's own layers, for ours to be compared with.

use std::future::{Ready, ready};
use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tower::hedge::{self, Hedge};
use tower::limit::RateLimit;
use tower::limit::rate::Rate;
use tower::retry;
use tower::retry::budget::{Budget, TpsBudget};
use tower::util::ServiceFn;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};

use super::layers::{SECOND, pending_once, succeeding};
use super::{Case, Contestant, Error, Expect, Tower, echo, mostly_fail};

pub(crate) const PENDING: &str = "bare service, not ready at once";
pub(crate) const RETRY: &str = "tower retry, TpsBudget";
pub(crate) const RETRY_SPENT: &str = "tower retry, TpsBudget, failed, budget spent";
pub(crate) const TIMEOUT: &str = "tower timeout";
pub(crate) const ARMED: &str = "tower timeout, armed";
pub(crate) const HEDGE: &str = "tower hedge, one for each clone";
pub(crate) const HEDGE_ARMED: &str = "tower hedge, one for each clone, armed";
pub(crate) const LIMIT: &str = "tower concurrency limit";
pub(crate) const LIMIT_REFUSED: &str = "tower load shed, concurrency limit, rejected";
pub(crate) const RATE: &str = "tower rate limit, one for each clone";
pub(crate) const STACK: &str = "tower timeout, retry, timeout";

pub(crate) fn all() -> Vec<Case> {
    let spent = Within(Arc::new(TpsBudget::new(SECOND, 0, 0.0)));
    let timeout = |limit: Duration| ServiceBuilder::new().timeout(limit);
    let stack = timeout(10 * SECOND).retry(Within::default()).timeout(SECOND);
    vec![
        succeeding(PENDING, service_fn(pending_once)),
        succeeding(RETRY, ServiceBuilder::new().retry(Within::default()).service_fn(echo)),
        Case::new(
            RETRY_SPENT,
            Expect::Failure,
            Tower(ServiceBuilder::new().retry(spent).service_fn(mostly_fail)),
        ),
        succeeding(TIMEOUT, timeout(SECOND).service_fn(echo)),
        succeeding(ARMED, timeout(SECOND).service_fn(pending_once)),
        succeeding(HEDGE, hedged(service_fn(echo))),
        succeeding(HEDGE_ARMED, hedged(service_fn(pending_once))),
        succeeding(STACK, stack.service_fn(echo)),
        succeeding(LIMIT, ServiceBuilder::new().concurrency_limit(64).service_fn(echo)),
        Case::new(
            LIMIT_REFUSED,
            Expect::Refusal,
            Tower(ServiceBuilder::new().load_shed().concurrency_limit(0).service_fn(echo)),
        ),
        Case::new(RATE, Expect::Success, Limited(None)),
    ]
}

/// Repeats what fails, within tower's budget.
#[derive(Clone, Default)]
struct Within(Arc<TpsBudget>);

impl<E> retry::Policy<u64, u64, E> for Within {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut u64, result: &mut Result<u64, E>) -> Option<Ready<()>> {
        if result.is_ok() {
            self.0.deposit();
            return None;
        }
        self.0.withdraw().then(|| ready(()))
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}

/// Hedges whatever is late.
#[derive(Clone)]
struct Always;

impl hedge::Policy<u64> for Always {
    fn clone_request(&self, request: &u64) -> Option<u64> {
        Some(*request)
    }

    fn can_retry(&self, _: &u64) -> bool {
        true
    }
}

/// With the quantile and the number of calls, and half of the time, that are our defaults.
fn hedged<S>(service: S) -> Hedged<S>
where
    S: Service<u64> + Clone,
    S::Error: Into<BoxError>,
{
    Hedged(Hedge::new(service.clone(), Always, 100, 0.95, 15 * SECOND), service)
}

/// A hedge and the service inside. A hedge cannot be cloned, so that each thread has one of its own.
struct Hedged<S>(Hedge<S, Always>, S);

impl<S> Clone for Hedged<S>
where
    S: Service<u64> + Clone,
    S::Error: Into<BoxError>,
{
    fn clone(&self) -> Self {
        hedged(self.1.clone())
    }
}

impl<S> Service<u64> for Hedged<S>
where
    S: Service<u64> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = <Hedge<S, Always> as Service<u64>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: u64) -> Self::Future {
        self.0.call(request)
    }
}

/// As many calls as there can be. A rate limit cannot be cloned, so each clone has one of its own; and wants a runtime, so
/// that is made where it is called.
struct Limited(Option<RateLimit<Inner>>);

type Inner = ServiceFn<fn(u64) -> Ready<Result<u64, Error>>>;

impl Clone for Limited {
    fn clone(&self) -> Self {
        Self(None)
    }
}

impl Contestant for Limited {
    async fn call(&mut self, request: u64) -> bool {
        let made = || {
            let inner: Inner = service_fn(|request| ready(Ok(request)));
            RateLimit::new(inner, Rate::new(1_000_000_000, SECOND))
        };
        match self.0.get_or_insert_with(made).ready().await {
            Ok(service) => black_box(service.call(request).await).is_ok(),
            Err(_) => false,
        }
    }
}
