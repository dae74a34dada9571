//! A service inside that is replaced.

use std::future::{Ready, ready};
use std::task::{Context, Poll};

use tower::{Layer, Service};

use super::*;

/// A service that asserts that it was ready.
#[derive(Debug, Default)]
struct Strict(bool);

impl Service<bool> for Strict {
    type Response = ();
    type Error = Failure;
    type Future = Ready<Result<(), Failure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.0 = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: bool) -> Self::Future {
        assert!(std::mem::take(&mut self.0), "it was not ready");
        ready(Ok(()))
    }
}

#[test]
fn a_service_that_may_have_been_replaced_is_asked_again_whether_it_is_ready() {
    let mut service = layer().layer(Strict::default());
    let poll_ready = |service: &mut CircuitBreaker<Strict>| {
        assert_ready_ok!(task::spawn(()).enter(|cx, _| service.poll_ready(cx)));
    };
    poll_ready(&mut service);
    *service.get_mut() = Strict::default();
    poll_ready(&mut service);
    assert_ready_ok!(task::spawn(service.call(true)).poll());
}
