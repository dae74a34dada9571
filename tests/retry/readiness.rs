//! Between two attempts, the inner service must become ready again, within a limited time.

use std::task::Waker;

use crate::fault::Fault;
use stanchion::CircuitBreakerHandle;
use stanchion::classify::Class;
use tokio::sync::watch;

use super::deadline::{Order, Orders};
use super::*;

/// The result of `poll_ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Ready,
    Busy,
    Broken,
}

/// A service that panics if an instance is called that has not reported readiness.
struct Strict {
    mood: watch::Sender<Mood>,
    waiting: Arc<Mutex<Vec<Waker>>>,
    starts: Starts,
    is_ready: bool,
    /// The layer that rejects the first attempt.
    refusing: Option<CircuitBreakerHandle>,
    answers: Answer,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self {
            mood: self.mood.clone(),
            waiting: Arc::clone(&self.waiting),
            starts: self.starts.clone(),
            is_ready: false,
            refusing: self.refusing.clone(),
            answers: self.answers.clone(),
        }
    }
}

impl Strict {
    fn new(answers: Answer) -> Self {
        let (mood, waiting) = (watch::Sender::new(Mood::Ready), Arc::default());
        Self { mood, waiting, starts: Starts::new(), is_ready: false, refusing: None, answers }
    }

    fn set(&self, mood: Mood) {
        self.mood.send_replace(mood);
        self.waiting.lock().unwrap().drain(..).for_each(Waker::wake);
    }

    /// Ready after this time.
    fn later(&self, after: Duration, mood: Mood) {
        let this = self.clone();
        tokio::spawn(async move {
            sleep(after).await;
            this.set(mood);
        });
    }
}

impl<R> Service<R> for Strict {
    type Response = u32;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.is_ready = false;
        let mood = *self.mood.borrow();
        match mood {
            Mood::Ready => {
                self.is_ready = true;
                Poll::Ready(Ok(()))
            }
            Mood::Busy => {
                self.waiting.lock().unwrap().push(cx.waker().clone());
                Poll::Pending
            }
            Mood::Broken => Poll::Ready(Err(Error::Inner(Fault("broken")))),
        }
    }

    fn call(&mut self, _: R) -> Self::Future {
        assert!(std::mem::take(&mut self.is_ready), "called without being ready");
        match (self.starts.begin(), &self.refusing) {
            (1, Some(circuit)) => Box::pin(circuit.run(std::future::ready(Ok(0)))),
            _ => Box::pin(std::future::ready(self.answers.clone())),
        }
    }
}

/// Makes one retry whose service is not ready until `after` the start of the call.
async fn busy_until<P, R>(
    layer: &RetryLayer<P>,
    request: R,
    after: Duration,
    answers: Answer,
) -> (Answer, Starts)
where
    P: stanchion::retry::RetryPolicy<R, u32, Failure, Request = R> + Clone,
{
    let inner = Strict::new(answers);
    let mut service = layer.layer(inner.clone());
    let call = ServiceExt::<R>::ready(&mut service).await.unwrap().call(request);
    inner.set(Mood::Busy);
    inner.later(after, Mood::Ready);
    (call.await, inner.starts)
}

/// Other libraries call a fresh clone, or skip `poll_ready` after the first attempt.
#[tokio::test(start_paused = true)]
async fn each_attempt_is_made_by_an_instance_that_has_said_it_is_ready() {
    let (answer, starts) = busy_until(&layer(), 7, 50 * MS, FAILED).await;
    assert_eq!(answer, FAILED);
    starts.assert_at(&[0, 100, 300]);
    let (answer, starts) = busy_until(&layer(), 7, 700 * MS, FAILED).await;
    assert_eq!(answer, FAILED);
    starts.assert_at(&[0, 700, 900]);
}

/// tower's own retries wait for ever.
#[tokio::test(start_paused = true)]
async fn a_service_that_does_not_get_ready_is_given_up_with_the_last_error() {
    let heard = Heard::default();
    let (answer, starts) = busy_until(&heard.by(layer()), 7, 9 * SECOND, FAILED).await;
    assert_eq!(answer, FAILED);
    starts.assert_at(&[0]);
    assert_eq!(starts.origin.elapsed(), 100 * MS + SECOND);
    assert_eq!(heard.take(), ["1 failure", "budget", "retried after 1 in 100ms", "not_ready after 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_last_response_was_dropped_ends_in_a_rejection() {
    let heard = Heard::default();
    let layer = heard.by(layer().classify(|_: Result<&u32, &Failure>| Class::Failure));
    let (answer, _) = busy_until(&layer, 7, 9 * SECOND, Ok(503)).await;
    let Err(Error::Rejected(rejected)) = answer else { panic!("{answer:?}") };
    assert_eq!((rejected.reason(), rejected.layer()), (Reason::NotReady, "orders"));
    assert!(rejected.reached_service(), "an attempt before did");
    assert_eq!(rejected.to_string(), "given up by orders: service is not ready to be tried again");
    assert_eq!(heard.take()[3..], ["not_ready after 1", "rejected: not_ready"]);
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_readiness_leaves_enough_time_before_the_deadline() {
    for (min_remaining, given_up_at) in [(0, 400), (150, 250)] {
        let layer = RetryLayer::new(config().min_remaining(min_remaining * MS)).protocol(Orders);
        let order = Order::within(400 * MS);
        let (answer, starts) = busy_until(&layer, order, 390 * MS, FAILED).await;
        assert_eq!(answer, FAILED);
        if min_remaining == 0 {
            starts.assert_at(&[0, 390]);
        } else {
            starts.assert_at(&[0]);
            assert_eq!(starts.origin.elapsed(), given_up_at * MS);
        }
        let order = Order::within(given_up_at * MS + min_remaining * MS);
        let (answer, starts) = busy_until(&layer, order, 9 * SECOND, FAILED).await;
        assert_eq!(answer, FAILED);
        assert_eq!(starts.origin.elapsed(), given_up_at * MS);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_breaks_between_two_attempts_says_so_itself() {
    let inner = Strict::new(FAILED);
    let mut service = layer().layer(inner.clone());
    let call = ServiceExt::<u32>::ready(&mut service).await.unwrap().call(7);
    inner.set(Mood::Broken);
    assert_eq!(call.await, Err(Error::Inner(Fault("broken"))));
    assert_eq!(inner.starts.count(), 1);
}

/// The first attempt is rejected. To an outer circuit, what follows is no rejection.
#[tokio::test(start_paused = true)]
async fn what_ends_a_call_between_two_attempts_is_told_from_how_the_attempts_ended() {
    for (mood, error) in [(Mood::Broken, "broken"), (Mood::Busy, "failed")] {
        let outside = CircuitBreakerLayer::new(CircuitBreakerConfig::new().consecutive_failures(1));
        let circuit = CircuitBreakerLayer::new(CircuitBreakerConfig::new()).handle();
        circuit.force_open();
        let inner = Strict { refusing: Some(circuit), ..Strict::new(FAILED) };
        let service = ServiceBuilder::new()
            .layer(outside.clone())
            .layer(RetryLayer::new(config().retry_refusals(true)))
            .service(inner.clone());
        let mut call = task::spawn(service.oneshot(7));
        assert_pending!(call.poll());
        if mood == Mood::Broken {
            inner.set(mood);
        } else {
            // After the second attempt, which fails.
            inner.later(150 * MS, mood);
        }
        assert_eq!(call.await, Err(Error::Inner(Fault(error))));
        assert_eq!(inner.starts.count(), 1 + usize::from(mood == Mood::Busy));
        assert_eq!(outside.handle().state(), State::Open, "{mood:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_while_it_waits_for_readiness_makes_no_other_attempt() {
    let inner = Strict::new(FAILED);
    let service = layer().layer(inner.clone());
    let mut call = task::spawn(service.oneshot(7));
    assert_pending!(call.poll());
    inner.set(Mood::Busy);
    sleep(500 * MS).await;
    assert_pending!(call.poll());
    assert_eq!(inner.waiting.lock().unwrap().len(), 1, "it waits");
    drop(call);
    inner.set(Mood::Ready);
    sleep(SECOND).await;
    assert_eq!(inner.starts.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_place_in_a_full_pool_is_given_back_before_the_wait_and_asked_for_after_it() {
    let (service, starts) = backend(|_| async {
        sleep(10 * MS).await;
        FAILED
    });
    let one_at_a_time = ConcurrencyLimitLayer::new(1);
    let service = ServiceBuilder::new().layer(layer()).layer(one_at_a_time).service(service);
    let calls = [(); 3].map(|()| tokio::spawn(service.clone().oneshot(7)));
    for call in calls {
        assert_eq!(call.await.unwrap(), FAILED);
    }
    // The other calls use the time in which one of them waits.
    starts.assert_at(&[0, 10, 20, 110, 120, 130, 320, 330, 340]);
}

/// Works even without a runtime.
#[test]
fn a_retry_without_a_wait_needs_no_timer() {
    let (service, starts) = failing_without_time(2);
    let service = RetryLayer::new(config().backoff(Backoff::constant(Duration::ZERO))).layer(service);
    let mut call = task::spawn(service.oneshot(7));
    assert_eq!(call.poll(), Poll::Ready(Ok(3)));
    assert_eq!(starts.load(Ordering::Relaxed), 3);
}

fn failing_without_time(
    times: u32,
) -> (impl Service<u32, Response = u32, Error = Failure> + Clone, Arc<AtomicU32>) {
    let attempts = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&attempts);
    let service = service_fn(move |_| {
        let attempt = count.fetch_add(1, Ordering::Relaxed) + 1;
        std::future::ready(if attempt <= times { FAILED } else { Ok(attempt) })
    });
    (service, attempts)
}
