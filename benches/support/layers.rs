//! The cases of the layers around a circuit breaker, alone and stacked, and of tower's that do the same.

use std::future::{Future, Ready, poll_fn, ready};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use stanchion::{CircuitBreakerLayer, RetryConfig, RetryLayer, TimeoutLayer};
use tower::retry::Policy;
use tower::retry::budget::{Budget, TpsBudget};
use tower::{Service, ServiceBuilder, service_fn};

use super::cases::by_count;
use super::{Case, Error, Expect, Tower, echo};

pub(crate) const TOWER_RETRY: &str = "tower retry, TpsBudget";
pub(crate) const TOWER_TIMEOUT: &str = "tower timeout";
pub(crate) const TOWER_ARMED: &str = "tower timeout, armed";
pub(crate) const TOWER_STACK: &str = "tower timeout, retry, timeout";

const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn all() -> Vec<Case> {
    let once = || ServiceBuilder::new().service(service_fn(echo));
    vec![
        succeeding(TOWER_RETRY, ServiceBuilder::new().retry(Within::default()).service(once())),
        succeeding("retry", ServiceBuilder::new().layer(retry()).service(once())).above(TOWER_RETRY),
        succeeding(TOWER_TIMEOUT, ServiceBuilder::new().timeout(SECOND).service(once())),
        succeeding("timeout", ServiceBuilder::new().layer(total()).service(once())).above(TOWER_TIMEOUT),
        succeeding(TOWER_ARMED, ServiceBuilder::new().timeout(SECOND).service(service_fn(pending_once))),
        succeeding("timeout, armed", ServiceBuilder::new().layer(total()).service(service_fn(pending_once)))
            .above(TOWER_ARMED),
        succeeding(
            TOWER_STACK,
            ServiceBuilder::new()
                .timeout(10 * SECOND)
                .retry(Within::default())
                .timeout(SECOND)
                .service(once()),
        ),
        succeeding(
            "timeout, retry, timeout",
            ServiceBuilder::new().layer(total()).layer(retry()).layer(attempt()).service(once()),
        )
        .above(TOWER_STACK),
        succeeding(
            "timeout, retry, breaker, timeout",
            ServiceBuilder::new()
                .layer(total())
                .layer(retry())
                .layer(CircuitBreakerLayer::new(by_count()))
                .layer(attempt())
                .service(once()),
        )
        .above(TOWER_STACK),
    ]
}

fn succeeding<S>(name: &'static str, service: S) -> Case
where
    S: Service<u64> + Clone + Send + 'static,
{
    Case::new(name, Expect::Success, Tower(service))
}

fn total() -> TimeoutLayer {
    TimeoutLayer::after(10 * SECOND)
}

fn attempt() -> TimeoutLayer {
    TimeoutLayer::per_attempt(SECOND)
}

fn retry() -> RetryLayer {
    RetryLayer::new(RetryConfig::new())
}

/// Not ready when it is first asked, so that a timeout has to arm its timer.
fn pending_once(request: u64) -> impl Future<Output = Result<u64, Error>> {
    let mut is_asked = false;
    poll_fn(move |cx| {
        if std::mem::replace(&mut is_asked, true) {
            return Poll::Ready(Ok(request));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// Repeats what fails, within tower's budget.
#[derive(Clone, Default)]
struct Within(Arc<TpsBudget>);

impl<E> Policy<u64, u64, E> for Within {
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
