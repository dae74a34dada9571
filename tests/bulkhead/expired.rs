//! Calls that have waited for as long as they may and are not polled.

use stanchion::{BulkheadConfig, BulkheadLayer, Reason};
use tokio::time::advance;
use tokio_test::assert_pending;
use tokio_test::task;

use super::{Failure, SECOND};

async fn answer(number: u32) -> Result<u32, Failure> {
    Ok(number)
}

#[tokio::test(start_paused = true)]
async fn an_unpolled_call_that_has_waited_too_long_keeps_no_place() {
    let config = BulkheadConfig::new().max_in_flight(1).max_queued(2).max_wait(SECOND);
    let handle = BulkheadLayer::waiting(config).handle();
    let _permit = handle.try_acquire().unwrap();
    let kept: Vec<_> = (0..2).map(|_| handle.run(answer(0))).collect();
    advance(30 * SECOND).await;
    let mut new = task::spawn(handle.run(answer(1)));
    assert_pending!(new.poll());
    assert_eq!(handle.snapshot().queued, 1);
    for call in kept {
        let rejected = call.await.unwrap_err().rejected().unwrap();
        assert_eq!(rejected.reason(), Reason::BulkheadTimeout);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unpolled_call_that_has_waited_too_long_is_granted_nothing() {
    let config = BulkheadConfig::new().max_in_flight(1).max_queued(100).max_wait(SECOND);
    let handle = BulkheadLayer::waiting(config).handle();
    let permit = handle.try_acquire().unwrap();
    let _kept: Vec<_> = (0..20).map(|_| handle.run(answer(0))).collect();
    advance(30 * SECOND).await;
    let mut new = task::spawn(handle.run(answer(1)));
    assert_pending!(new.poll());
    drop(permit);
    assert!(new.is_woken(), "all before it have waited for too long");
    assert_eq!(new.await, Ok(1));
}
