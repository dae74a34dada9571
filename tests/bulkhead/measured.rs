//! Limits that measure how long calls take, and what they make of it.

use stanchion::admission::MinRemaining;
use stanchion::classify::Class;
use stanchion::{CallAttributes, Deadline, Partition, PartitionConfig};

use super::*;

const MS: Duration = Duration::from_millis(1);

fn left(milliseconds: u64) -> CallAttributes {
    CallAttributes::new().deadline(Deadline::after(Duration::from_millis(milliseconds)))
}

/// Makes so many calls with 100 ms left, of which each takes this long.
async fn calls(handle: &BulkheadHandle, count: usize, takes: Duration) {
    for _ in 0..count {
        let permit = handle.try_acquire_for(&left(100)).unwrap();
        advance(takes).await;
        permit.finish(Class::Success);
    }
    // The quantile is found anew each second.
    advance(SECOND).await;
}

/// Calls took 40 ms so far, and had 100 ms left.
async fn used_to_40_ms(quantile: f64) -> BulkheadHandle {
    let handle = BulkheadLayer::new(config(64).min_remaining(MinRemaining::Measured(quantile))).handle();
    calls(&handle, 100, 40 * MS).await;
    handle
}

/// Whether a call is made that has this much left.
fn is_enough(handle: &BulkheadHandle, milliseconds: u64) -> bool {
    match handle.try_acquire_for(&left(milliseconds)) {
        Ok(_) => true,
        Err(late) => {
            assert_eq!(late.reason(), Reason::DeadlineExceeded);
            false
        }
    }
}

#[tokio::test(start_paused = true)]
async fn many_callers_with_a_tiny_deadline_do_not_make_less_time_enough() {
    for tiny in [1, 10, 35] {
        let handle = used_to_40_ms(0.99).await;
        assert!(!is_enough(&handle, 39) && is_enough(&handle, 45));
        for _ in 0..1_000 {
            assert!(!is_enough(&handle, tiny), "{tiny} ms");
        }
        assert!(!is_enough(&handle, 39), "after many with {tiny} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn callers_with_a_tiny_deadline_that_came_first_do_not_make_less_time_enough_for_long() {
    let handle = BulkheadLayer::new(config(64).min_remaining(MinRemaining::Measured(0.99))).handle();
    for _ in 0..1_000 {
        assert!(is_enough(&handle, 1), "nothing is known yet");
    }
    calls(&handle, 100, 40 * MS).await;
    assert!(!is_enough(&handle, 1) && !is_enough(&handle, 39));
}

#[tokio::test(start_paused = true)]
async fn after_a_slow_while_no_more_than_half_of_the_usual_time_is_needed() {
    let handle = used_to_40_ms(0.99).await;
    for _ in 0..2 {
        let held: Vec<_> = (0..64).map(|_| handle.try_acquire_for(&left(100)).unwrap()).collect();
        advance(500 * MS).await;
        held.into_iter().for_each(|permit| permit.finish(Class::Success));
    }
    advance(SECOND).await;
    assert!(is_enough(&handle, 55) && is_enough(&handle, 100), "the door is open");
    assert!(!is_enough(&handle, 45));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_given_up_is_measured_if_it_took_longer_than_was_known() {
    let handle = used_to_40_ms(0.5).await;
    for _ in 0..200 {
        let given_up = handle.try_acquire().unwrap();
        advance(MS).await;
        drop(given_up);
    }
    advance(SECOND).await;
    assert!(!is_enough(&handle, 39), "those that were given up soon tell nothing");
    for _ in 0..200 {
        let given_up = handle.try_acquire().unwrap();
        advance(45 * MS).await;
        drop(given_up);
    }
    advance(SECOND).await;
    assert!(!is_enough(&handle, 44) && is_enough(&handle, 55));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_not_measured() {
    let handle = used_to_40_ms(0.5).await;
    for _ in 0..200 {
        handle.try_acquire().unwrap().finish(Class::Failure);
    }
    advance(SECOND).await;
    assert!(!is_enough(&handle, 39));
}

#[tokio::test(start_paused = true)]
async fn a_full_limit_says_when_there_is_likely_to_be_room_if_that_is_known() {
    let measured = config(2).max_queued(5).min_remaining(MinRemaining::Measured(0.99));
    let handle = BulkheadLayer::waiting(measured).handle();
    let full = || [handle.try_acquire().unwrap(), handle.try_acquire().unwrap()];
    let retry_after = || handle.try_acquire().unwrap_err().retry_after();
    let held = full();
    assert_eq!(retry_after(), None, "nothing is known yet");
    drop(held);
    calls(&handle, 100, 40 * MS).await;
    let _held = full();
    let one = retry_after().unwrap();
    assert!((40 * MS..42 * MS).contains(&one), "{one:?}");
    let wait = || task::spawn(handle.run(pending::<Answer>()));
    let mut waiting = vec![wait()];
    assert_eq!(retry_after(), Some(one), "one waits for two permits");
    waiting.extend([wait(), wait(), wait(), wait()]);
    assert_eq!(handle.snapshot().queued, 5);
    assert_eq!(retry_after(), Some(3 * one), "five do");
    let refused = rejected(assert_ready!(wait().poll()));
    assert_eq!((refused.reason(), refused.retry_after()), (Reason::BulkheadFull, Some(3 * one)));
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_does_not_measure_does_not_say_when_there_is_room() {
    let handle = BulkheadLayer::new(config(1)).handle();
    calls(&handle, 100, 40 * MS).await;
    let _held = handle.try_acquire().unwrap();
    assert_eq!(handle.try_acquire().unwrap_err().retry_after(), None);
}

/// Without an observer, which would note each call.
#[tokio::test(start_paused = true)]
async fn a_measured_call_of_a_partition_leaves_it() {
    const BATCH: Partition = Partition::named("batch");
    let partitions = [PartitionConfig::new("batch", 0.5).lends(0.0)];
    let config = config(4).partitions(partitions).min_remaining(MinRemaining::Measured(0.99));
    let handle = BulkheadLayer::new(config).handle();
    let claim = CallAttributes::new().partition(BATCH);
    for _ in 0..3 {
        let held = [(); 4].map(|()| handle.try_acquire_for(&claim).unwrap());
        assert!(handle.try_acquire_for(&claim).is_err());
        assert_eq!(handle.partitions()[0].in_flight, 4);
        held.into_iter().for_each(|permit| permit.finish(Class::Success));
        assert_eq!((handle.partitions()[0].in_flight, handle.snapshot().in_flight), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_measured_is_still_known_after_a_reconfiguration() {
    let handle = used_to_40_ms(0.99).await;
    handle.reconfigure(config(32).min_remaining(MinRemaining::Measured(0.99))).unwrap();
    assert!(!is_enough(&handle, 39) && is_enough(&handle, 45));
}
