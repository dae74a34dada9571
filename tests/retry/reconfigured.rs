//! Reconfigurations while calls are in flight.

use std::thread;

use stanchion::RetryHandle;
use stanchion::retry::Standard;

use super::*;

/// Runs `change` in the first wait of a call, and returns its attempts.
async fn changed<P>(
    layer: RetryLayer<Standard<P>>,
    change: impl FnOnce(&RetryHandle<Standard<P>>),
) -> (Starts, Answer)
where
    Standard<P>: stanchion::retry::RetryPolicy<u32, u32, Failure, Request = u32> + Clone,
{
    let (service, starts) = failing(u32::MAX);
    let mut call = task::spawn(layer.layer(service).oneshot(7));
    assert_pending!(call.poll());
    change(&layer.handle());
    let answer = call.await;
    (starts, answer)
}

#[tokio::test(start_paused = true)]
async fn a_call_under_way_goes_on_by_the_new_configuration() {
    for (most, attempts) in [(1, &[0, 100][..]), (2, &[0, 100]), (4, &[0, 100, 300, 700])] {
        let (starts, _) =
            changed(layer(), |handle| handle.reconfigure(config().max_attempts(most)).unwrap()).await;
        starts.assert_at(attempts);
    }
    let slower = config().backoff(Backoff::exponential(SECOND).jitter(Jitter::None));
    let (starts, _) = changed(layer(), |handle| handle.reconfigure(slower).unwrap()).await;
    starts.assert_at(&[0, 100, 2_100]);
}

#[tokio::test(start_paused = true)]
async fn a_bad_configuration_changes_nothing_and_the_next_one_counts() {
    let handle = layer().handle();
    for bad in [config().max_attempts(0), config().backoff(Backoff::default().factor(0.5))] {
        handle.reconfigure(bad).unwrap_err();
        assert_eq!(handle.config(), config());
    }
    let bad = |handle: &RetryHandle<_>| drop(handle.reconfigure(config().max_attempts(0)).unwrap_err());
    let (starts, _) = changed(layer(), bad).await;
    assert_eq!(starts.count(), 3);
    handle.reconfigure(config().max_attempts(9)).unwrap();
    assert_eq!(handle.config().max_attempts, 9);
}

#[tokio::test(start_paused = true)]
async fn the_services_handles_and_clones_of_a_layer_are_changed_together_and_the_budget_stays() {
    let layer = layer().budget(two_tokens());
    let (service, starts) = failing(u32::MAX);
    let services =
        [layer.layer(service.clone()), layer.clone().layer(service.clone()), layer.layer(service).clone()];
    layer.clone().handle().reconfigure(config().max_attempts(1)).unwrap();
    for service in services {
        assert_eq!(service.oneshot(7).await, FAILED);
    }
    assert_eq!(starts.count(), 3);
    assert_eq!(layer.handle().config().max_attempts, 1);
    assert_eq!(layer.handle().budget().balance(), 2.0);
}

/// A request that was to be sent once was not saved. That is no wrong setup.
#[tokio::test(start_paused = true)]
async fn a_call_that_began_as_the_only_attempt_stays_so() {
    let heard = Heard::default();
    let layer = heard.by(RetryLayer::new(config().max_attempts(1)));
    let (service, starts) = backend(|_| async {
        sleep(SECOND).await;
        FAILED
    });
    let mut call = task::spawn(layer.layer(service).oneshot(7));
    assert_pending!(call.poll());
    layer.handle().reconfigure(config()).unwrap();
    assert_eq!(call.await, FAILED);
    assert_eq!(starts.count(), 1);
    assert_eq!(heard.take(), ["1 failure", "exhausted after 1"]);
}

/// The value that every call reads is stored separately, and must stay equal to the configuration.
#[test]
fn concurrent_reconfigurations_leave_one_configuration() {
    let (service, starts) = failing_at_once();
    let layer =
        RetryLayer::new(config().backoff(Backoff::constant(Duration::ZERO))).budget(Budget::unlimited());
    for _ in 0..4_000 {
        thread::scope(|scope| {
            for most in [1, 3] {
                let handle = layer.handle();
                scope.spawn(move || {
                    handle.reconfigure(handle.config().max_attempts(most)).unwrap();
                });
            }
        });
        let before = starts.load(Ordering::Relaxed);
        assert!(task::spawn(layer.layer(service.clone()).oneshot(7)).poll().is_ready());
        let made = starts.load(Ordering::Relaxed) - before;
        assert_eq!(made, layer.handle().config().max_attempts);
    }
}

fn failing_at_once()
-> (impl Service<u32, Response = u32, Error = Failure, Future: Send> + Clone + Send, Arc<AtomicU32>) {
    let starts = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&starts);
    let service = service_fn(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        std::future::ready(FAILED)
    });
    (service, starts)
}

#[test]
fn calls_work_during_reconfigurations() {
    let (service, starts) = failing_at_once();
    let layer =
        RetryLayer::new(config().backoff(Backoff::constant(Duration::ZERO))).budget(Budget::unlimited());
    thread::scope(|scope| {
        let handle = layer.handle();
        let changes = scope.spawn(move || {
            for turn in 0..4_000 {
                let most = [1, 2, 5, 0][turn % 4];
                let changed = handle.reconfigure(handle.config().max_attempts(most));
                assert_eq!(changed.is_ok(), most > 0);
            }
        });
        while !changes.is_finished() {
            let before = starts.load(Ordering::Relaxed);
            assert_eq!(task::spawn(layer.layer(service.clone()).oneshot(7)).poll(), Poll::Ready(FAILED));
            assert!((1..=5).contains(&(starts.load(Ordering::Relaxed) - before)));
        }
    });
}
