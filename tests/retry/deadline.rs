//! What a request says about itself, above all its deadline.

use crate::fault::Fault;
use stanchion::Deadline;
use stanchion::classify::{Classify, Outcome, RetryHint, Retryable};
use stanchion::protocol::{Attempt, Replay, RequestContext};
use stanchion::retry::{Attempts, Facts, RetryPolicy, Standard};
use tokio::time::advance;

use super::*;

/// A request with everything that a protocol can carry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    pub(crate) deadline: Option<Deadline>,
    pub(crate) attempt: Option<Attempt>,
    pub(crate) is_not_idempotent: bool,
}

impl Order {
    pub(crate) fn within(time: Duration) -> Self {
        Self { deadline: Some(Deadline::after(time)), ..Self::default() }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Orders;

impl RequestContext<Order> for Orders {
    fn deadline(&self, order: &Order) -> Option<Deadline> {
        order.deadline
    }

    fn set_deadline(&self, order: &mut Order, deadline: Deadline) {
        order.deadline = Some(deadline);
    }

    fn attempt(&self, order: &Order) -> Option<Attempt> {
        order.attempt
    }

    fn set_attempt(&self, order: &mut Order, attempt: Attempt) {
        order.attempt = Some(attempt);
    }

    fn is_idempotent(&self, order: &Order) -> bool {
        !order.is_not_idempotent
    }
}

impl Replay<Order> for Orders {
    type Request = Order;
    type Saved = Order;

    fn save(&self, order: Order, is_wanted: bool) -> (Order, Option<Order>) {
        (order.clone(), is_wanted.then_some(order))
    }

    fn replay(&self, kept: &mut Order) -> Option<Order> {
        Some(kept.clone())
    }
}

impl<Res> Classify<Res, Failure> for Orders {
    fn classify(&self, result: Result<&Res, &Failure>) -> Outcome {
        match result {
            Ok(_) => Outcome::success(),
            Err(Error::Inner(Fault("unprocessed"))) => Outcome::unprocessed(),
            Err(Error::Inner(Fault("busy"))) => Outcome::failure().retry_hint(RetryHint::AtLeast(300 * MS)),
            Err(_) => Outcome::failure(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_wait_goes_past_the_deadline_and_the_failure_is_handed_out_at_once() {
    for (within, attempts) in [(100, &[0][..]), (101, &[0, 100]), (300, &[0, 100]), (301, &[0, 100, 300])] {
        let heard = Heard::default();
        let (service, starts) = backend(|_| async { FAILED });
        let service = heard.by(layer().protocol(Orders)).layer(service);
        let answer = service.oneshot(Order::within(within * MS)).await;
        assert_eq!(answer, FAILED);
        starts.assert_at(attempts);
        let last = *attempts.last().unwrap() * MS;
        assert_eq!(starts.origin.elapsed(), last, "at the instant of the last failure");
        assert_eq!(heard.count("no_time"), usize::from(attempts.len() < 3));
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_without_enough_time_costs_nothing() {
    let budget = two_tokens();
    let (service, starts) = backend(|_| async { FAILED });
    let service = layer().protocol(Orders).budget(budget.clone()).layer(service);
    assert_eq!(service.oneshot(Order::within(50 * MS)).await, FAILED);
    assert_eq!((starts.count(), budget.balance()), (1, 2.0));
}

#[tokio::test(start_paused = true)]
async fn no_attempt_begins_with_less_time_than_it_needs() {
    let config = config().min_remaining(SECOND);
    for (within, attempts) in [(1_100, 1), (1_101, 2), (1_300, 2), (1_301, 3)] {
        let (service, starts) = backend(|_| async { FAILED });
        let service = RetryLayer::new(config.clone()).protocol(Orders).layer(service);
        assert_eq!(service.oneshot(Order::within(within * MS)).await, FAILED);
        assert_eq!(starts.count(), attempts);
    }
}

/// Timers fire on whole milliseconds, so a wait may be longer than configured.
#[tokio::test(start_paused = true)]
async fn no_attempt_begins_after_the_deadline_though_its_timer_fires_late() {
    let heard = Heard::default();
    let nano = Duration::from_nanos(1);
    let backoff = Backoff::constant(10 * MS + nano);
    let (service, starts) = backend(|_| async { FAILED });
    let layer = heard.by(RetryLayer::new(config().backoff(backoff)).protocol(Orders));
    let service = layer.layer(service);
    assert_eq!(service.clone().oneshot(Order::within(10 * MS + 3 * nano)).await, FAILED);
    assert_eq!(starts.count(), 1);
    assert_eq!(heard.take().last().unwrap(), "no_time after 1");

    // A busy thread is late as well.
    let mut call = task::spawn(service.oneshot(Order::within(50 * MS)));
    assert_pending!(call.poll());
    advance(60 * MS).await;
    assert_eq!(call.await, FAILED);
    assert_eq!(starts.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_a_wait_past_the_deadline_is_not_called_again() {
    let (service, starts) = backend(|_| async { Err::<(), _>(Error::Inner(Fault("busy"))) });
    let service = layer().protocol(Orders).layer(service);
    let _ = service.clone().oneshot(Order::within(299 * MS)).await;
    starts.assert_at(&[0]);
    let _ = service.oneshot(Order::within(SECOND)).await;
    starts.assert_at(&[0, 0, 300, 600]);
}

#[tokio::test(start_paused = true)]
async fn each_attempt_knows_its_number_and_the_deadline_of_the_call() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let service = service_fn(move |order: Order| {
        log.lock().unwrap().push((order.attempt.unwrap().number, order.deadline));
        async { FAILED }
    });
    let order = Order::within(9 * SECOND);
    let deadline = order.deadline;
    assert_eq!(layer().protocol(Orders).layer(service).oneshot(order).await, FAILED);
    assert_eq!(*seen.lock().unwrap(), [(1, deadline), (2, deadline), (3, deadline)]);
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_executed_twice_is_repeated_once_and_only_if_it_was_not_executed() {
    let attempts = |errors: [&'static str; 3]| async move {
        let heard = Heard::default();
        let (service, starts) =
            backend(
                move |attempt| async move { Err::<(), _>(Error::Inner(Fault(errors[attempt as usize - 1]))) },
            );
        let order = Order { is_not_idempotent: true, ..Order::default() };
        let _ = heard.by(layer().protocol(Orders)).layer(service).oneshot(order).await;
        (starts.count(), heard.count("not_idempotent"))
    };
    assert_eq!(attempts(["failed", "", ""]).await, (1, 1));
    assert_eq!(attempts(["unprocessed", "failed", ""]).await, (2, 1));
    assert_eq!(attempts(["unprocessed", "unprocessed", ""]).await, (2, 1));
}

/// In .NET, four attempts in each of two nested handlers were 16 requests, without a warning.
#[tokio::test(start_paused = true)]
async fn a_layer_tells_that_another_one_further_out_retries_as_well() {
    let (outer, inner) = (Heard::default(), Heard::default());
    let (service, starts) = backend(|_| async { FAILED });
    let services = ServiceBuilder::new()
        .layer(outer.by(layer().protocol(Orders)))
        .layer(inner.by(layer().protocol(Orders)))
        .service(service);
    assert_eq!(services.oneshot(Order::default()).await, FAILED);
    assert_eq!(starts.count(), 9);
    assert_eq!(inner.count("nested"), 6, "with each repetition");
    assert_eq!(outer.count("nested"), 0);
}

/// A policy that waits as it is told.
#[derive(Clone, Copy, Debug)]
struct Sleepy(Duration);

impl Attempts<Order> for Sleepy {
    type Request = Order;
    type Saved = (Order, u32);

    fn begin(&self, order: Order, _: bool) -> (Order, Self::Saved) {
        (order.clone(), (order, 0))
    }

    fn facts(&self, (order, _): &Self::Saved) -> Facts {
        let mut facts = Facts::default();
        facts.deadline = order.deadline;
        facts
    }

    fn replay(&self, (order, _): &mut Self::Saved, _: u32) -> Option<Order> {
        Some(order.clone())
    }
}

impl<Res> RetryPolicy<Order, Res, Failure> for Sleepy {
    type Wait = tokio::time::Sleep;

    fn classify(&self, _: &mut Self::Saved, result: &mut Result<Res, Failure>) -> Outcome {
        if result.is_ok() { Outcome::success() } else { Outcome::failure() }
    }

    fn wait(&self, (_, waits): &mut Self::Saved) -> Option<Self::Wait> {
        *waits += 1;
        (*waits == 1).then(|| sleep(self.0))
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_of_the_policys_own_takes_the_place_of_the_other() {
    let (service, starts) = backend(|_| async { FAILED });
    let answer = layer().policy(Sleepy(7 * SECOND)).layer(service).oneshot(Order::default()).await;
    assert_eq!(answer, FAILED);
    starts.assert_at(&[0, 7_000, 7_200]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_of_the_policys_own_does_not_go_past_the_deadline_either() {
    let heard = Heard::default();
    let (service, starts) = backend(|_| async { FAILED });
    let service = heard.by(layer().policy(Sleepy(7 * SECOND))).layer(service);
    assert_eq!(service.oneshot(Order::within(SECOND)).await, FAILED);
    assert_eq!(starts.origin.elapsed(), SECOND);
    assert_eq!(starts.count(), 1);
    assert_eq!(heard.take().last().unwrap(), "no_time after 1");
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_a_protocol_takes_another_classifier() {
    let (service, starts) = backend(|_| async { FAILED });
    let never = |_: Result<&u32, &Failure>| Outcome::failure().retryable(Retryable::Never);
    let layer = layer().policy(Standard::new(Orders)).classify(never);
    assert_eq!(layer.layer(service).oneshot(Order::default()).await, FAILED);
    assert_eq!(starts.count(), 1);
}
