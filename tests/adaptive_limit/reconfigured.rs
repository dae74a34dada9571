//! A limit that is given another configuration while it is at work.

use super::*;

/// The next limit is twice as high, and then three times, and so on.
#[derive(Clone, Debug, PartialEq)]
struct Multiplies {
    windows: u32,
    step: u32,
}

impl Algorithm for Multiplies {
    fn next(&mut self, _: f64, _: &Sample) -> Next {
        self.windows += 1;
        Next::limit(f64::from(10 * self.windows * self.step))
    }
}

fn config(step: u32) -> AdaptiveLimitConfig<Multiplies> {
    let algorithm = Multiplies { windows: 0, step };
    AdaptiveLimitConfig::new().window(10 * MS).min_calls(1).algorithm(algorithm)
}

/// Two windows have been seen.
async fn at_twenty() -> AdaptiveLimitHandle<Multiplies> {
    let handle = AdaptiveLimitLayer::waiting(config(1)).handle();
    assert_eq!([after_a_window(&handle).await, after_a_window(&handle).await], [10, 20]);
    handle
}

async fn after_a_window(handle: &AdaptiveLimitHandle<Multiplies>) -> u32 {
    end_window(handle).await;
    limit(handle)
}

fn limit(handle: &AdaptiveLimitHandle<Multiplies>) -> u32 {
    handle.snapshot().max_in_flight
}

#[tokio::test(start_paused = true)]
async fn what_was_learned_stays_if_only_the_queue_is_another() {
    let handle = at_twenty().await;
    let queue = config(1).max_queued(9).max_wait(SECOND).headroom(PriorityShares::RECOMMENDED);
    handle.reconfigure(queue.clone()).unwrap();
    assert_eq!((limit(&handle), handle.config()), (20, queue));
    assert_eq!(after_a_window(&handle).await, 30);
}

#[tokio::test(start_paused = true)]
async fn another_range_holds_at_once_and_forgets_nothing() {
    let handle = at_twenty().await;
    handle.reconfigure(config(1).max_limit(15).initial_limit(15)).unwrap();
    assert_eq!(limit(&handle), 15);
    assert_eq!(after_a_window(&handle).await, 15);
    handle.reconfigure(config(1)).unwrap();
    assert_eq!(limit(&handle), 15);
    assert_eq!(after_a_window(&handle).await, 40);
    handle.reconfigure(config(1).min_limit(45).initial_limit(100)).unwrap();
    assert_eq!(limit(&handle), 45);
    assert_eq!([after_a_window(&handle).await, after_a_window(&handle).await], [50, 60]);
}

#[tokio::test(start_paused = true)]
async fn another_window_holds_at_once_and_forgets_nothing() {
    let handle = at_twenty().await;
    handle.reconfigure(config(1).window(60 * SECOND)).unwrap();
    for _ in 0..50 {
        assert_eq!(after_a_window(&handle).await, 20);
    }
    sleep(10 * SECOND).await;
    assert_eq!(after_a_window(&handle).await, 30);
}

#[tokio::test(start_paused = true)]
async fn another_algorithm_begins_anew_from_the_limit_there_is() {
    let handle = at_twenty().await;
    handle.reconfigure(config(2)).unwrap();
    assert_eq!(limit(&handle), 20);
    assert_eq!([after_a_window(&handle).await, after_a_window(&handle).await], [20, 40]);
    // Back to the first one: that begins anew as well.
    handle.reconfigure(config(1)).unwrap();
    assert_eq!([limit(&handle), after_a_window(&handle).await], [40, 10]);
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_is_refused_changes_nothing() {
    let handle = at_twenty().await;
    let refused = handle.reconfigure(config(5).max_limit(15)).unwrap_err();
    assert_eq!(refused.field(), "initial_limit");
    assert_eq!((limit(&handle), handle.config()), (20, config(1)));
    assert_eq!(after_a_window(&handle).await, 30);
}

#[tokio::test(start_paused = true)]
async fn what_is_usual_is_still_known_in_another_range() {
    let mut limited = from(64, Gradient::new());
    limited.rounds(100, 20, Ask::Answer(10 * MS)).await;
    let config = limited.handle.config().max_limit(500);
    limited.handle.reconfigure(config).unwrap();
    limited.lowest = u32::MAX;
    // Otherwise it would be measured, for which the limit is lowered.
    limited.rounds(100, 60, Ask::Answer(10 * MS)).await;
    assert!(limited.lowest >= 60, "{}", limited.lowest);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_began_before_the_change_ends_after_it() {
    let handle = at_twenty().await;
    let permits: Vec<_> = std::iter::from_fn(|| handle.try_acquire().ok()).collect();
    assert_eq!(permits.len(), 20);
    handle.reconfigure(config(3).max_limit(5).initial_limit(5)).unwrap();
    assert!(handle.try_acquire().is_err());
    sleep(20 * MS).await;
    for permit in permits {
        permit.finish(Class::Success);
    }
    let now = handle.snapshot();
    assert_eq!((now.in_flight, now.max_in_flight), (0, 5));
}
