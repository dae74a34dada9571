//! What becomes of calls in the layers and the service further in.

use std::task::ready;

use pin_project::pin_project;
use stanchion::{
    BulkheadConfig, BulkheadLayer, CarryRejected, CircuitBreakerConfig, CircuitBreakerLayer, Rejected,
};
use tower::BoxError;

use super::*;

/// Holds errors back for some polls.
#[derive(Clone, Debug)]
struct Late<S>(S);

#[pin_project]
struct LateCall<F, E> {
    #[pin]
    call: F,
    error: Option<E>,
    polls: u32,
}

impl<S: Service<Ask>> Service<Ask> for Late<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = LateCall<S::Future, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, ask: Ask) -> Self::Future {
        LateCall { call: self.0.call(ask), error: None, polls: 3 }
    }
}

impl<F: Future<Output = Result<T, E>>, T, E> Future for LateCall<F, E> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, E>> {
        let this = self.project();
        if this.error.is_none() {
            match ready!(this.call.poll(cx)) {
                Ok(answer) => return Poll::Ready(Ok(answer)),
                Err(error) => *this.error = Some(error),
            }
        }
        *this.polls -= 1;
        if *this.polls > 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Err(this.error.take().unwrap()))
    }
}

/// An error type of an application.
#[derive(Debug, PartialEq)]
enum Own {
    Failed,
    Rejected(Rejected),
}

stanchion::carry_rejected!(Own, Rejected);

impl From<Failure> for Own {
    fn from(failure: Failure) -> Self {
        failure.rejected().map_or(Self::Failed, Self::Rejected)
    }
}

/// Ten calls that a layer further in refuses, each after 20 ms, and one that succeeds: only that one counts.
async fn refusals_do_not_count<L, E>(layer: L, stop: impl FnOnce())
where
    L: Layer<Backend>,
    L::Service: Service<Ask, Response = (), Error = Failure> + Clone,
    E: CarryRejected + From<Failure> + Debug,
{
    let (notes, late_notes) = (Notes::new(), Notes::new());
    let limit = |notes: &Notes| AdaptiveLimitLayer::new(notes.config().initial_limit(3));
    let inner = layer.layer(Backend).map_err(E::from);
    let (plain, late) = (limit(&notes), limit(&late_notes));
    for _ in 0..10 {
        sleep(20 * MS).await;
        plain.layer(inner.clone()).oneshot(Ask::Answer(MS)).await.unwrap_err();
        late.layer(Late(inner.clone())).oneshot(Ask::Answer(MS)).await.unwrap_err();
    }
    stop();
    for handle in [plain.handle(), late.handle()] {
        assert_eq!(handle.snapshot().in_flight, 0);
        end_window(&handle).await;
    }
    assert_eq!((notes.calls(), late_notes.calls()), ((1, 0), (1, 0)));
}

#[tokio::test(start_paused = true)]
async fn refusals_by_a_full_bulkhead_further_in_do_not_count() {
    async fn check<E: CarryRejected + From<Failure> + Debug>() {
        let layer = BulkheadLayer::new(BulkheadConfig::new().max_in_flight(1));
        let full = layer.handle().try_acquire().unwrap();
        refusals_do_not_count::<_, E>(layer, || drop(full)).await;
    }
    check::<Own>().await;
    check::<BoxError>().await;
    check::<Failure>().await;
}

#[tokio::test(start_paused = true)]
async fn refusals_by_an_open_breaker_further_in_do_not_count() {
    async fn check<E: CarryRejected + From<Failure> + Debug>() {
        let layer = CircuitBreakerLayer::new(CircuitBreakerConfig::new());
        layer.handle().force_open();
        refusals_do_not_count::<_, E>(layer, || {}).await;
    }
    check::<Own>().await;
    check::<BoxError>().await;
    check::<Failure>().await;
}

/// Unlike a refusal, that is a failure: the service is too slow.
#[tokio::test(start_paused = true)]
async fn a_timeout_further_in_is_a_failure() {
    let notes = Notes::new();
    let layer = AdaptiveLimitLayer::new(notes.config());
    let service = layer.layer(TimeoutLayer::after(20 * MS).layer(Backend).map_err(Own::from));
    for _ in 0..3 {
        let Err(Own::Rejected(rejected)) = service.clone().oneshot(Ask::Hang).await else {
            panic!("no timeout")
        };
        assert!(rejected.reached_service());
    }
    assert_eq!(notes.calls(), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_ends_in_a_panic_has_failed() {
    for ask in [Ask::Panic, Ask::PanicInCall] {
        let (notes, waiting_notes) = (Notes::new(), Notes::new());
        let layer = AdaptiveLimitLayer::new(notes.config().min_limit(1).initial_limit(1));
        let waiting = waiting_notes.config().min_limit(1).initial_limit(1).max_queued(1);
        let waiting = AdaptiveLimitLayer::waiting(waiting);
        for _ in 0..5 {
            assert!(tokio::spawn(layer.layer(Backend).oneshot(ask)).await.unwrap_err().is_panic());
            // It panics when it is its turn.
            let held = waiting.handle().try_acquire().unwrap();
            let call = tokio::spawn(waiting.layer(Backend).oneshot(ask));
            tokio::task::yield_now().await;
            assert_eq!(waiting.handle().snapshot().queued, 1);
            held.finish(Class::Ignored);
            assert!(call.await.unwrap_err().is_panic());
        }
        for (handle, notes) in [(layer.handle(), notes), (waiting.handle(), waiting_notes)] {
            assert_eq!(handle.snapshot().in_flight, 0);
            end_window(&handle).await;
            assert_eq!(notes.calls(), (6, 5), "{ask:?}");
        }
    }
}

/// The panic has nothing to do with the service.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_by_a_panic_elsewhere_was_cancelled() {
    let notes = Notes::new();
    let layer = AdaptiveLimitLayer::new(notes.config());
    let service = layer.layer(Backend);
    let panicked = tokio::spawn(async move {
        let mut call = task::spawn(service.oneshot(Ask::Hang));
        assert!(call.poll().is_pending());
        panic!("elsewhere");
    });
    assert!(panicked.await.unwrap_err().is_panic());
    for _ in 0..2 {
        end_window(&layer.handle()).await;
    }
    assert_eq!(notes.calls(), (2, 0));
}

/// The calls of a window, and how many of them failed, after calls of 20 ms of which others were given up after `patience`.
async fn given_up(succeed: u32, others: u32, patience: Duration) -> (u64, u64) {
    let notes = Notes::new();
    let layer = AdaptiveLimitLayer::new(notes.config().window(SECOND));
    let service = layer.layer(Backend);
    for _ in 0..20 {
        service.clone().oneshot(Ask::Answer(20 * MS)).await.unwrap();
    }
    end_window(&layer.handle()).await;
    notes.samples.lock().unwrap().clear();
    let impatient = TimeoutLayer::after(patience).layer(service.clone());
    for _ in 0..others {
        impatient.clone().oneshot(Ask::Hang).await.unwrap_err();
    }
    for _ in 0..succeed {
        service.clone().oneshot(Ask::Answer(20 * MS)).await.unwrap();
    }
    end_window(&layer.handle()).await;
    notes.calls()
}

#[tokio::test(start_paused = true)]
async fn a_call_has_failed_that_is_given_up_when_it_has_taken_much_longer_than_usual() {
    assert_eq!(given_up(2, 4, 60 * MS).await, (7, 4));
    assert_eq!(given_up(2, 4, 40 * MS).await, (3, 0));
}

#[tokio::test(start_paused = true)]
async fn calls_have_failed_that_are_given_up_however_soon_where_hardly_any_is_not() {
    assert_eq!(given_up(0, 9, 5 * MS).await, (1, 0));
    assert_eq!(given_up(0, 10, 5 * MS).await, (11, 10));
}
