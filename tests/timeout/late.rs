//! Tasks that are late while they wait for a service, and the time that their calls are charged.

use std::task::Waker;

use super::readiness::{Door, including, with_door};
use super::*;

type Limited = stanchion::Timeout<Door>;

fn poll(task: &mut task::Spawn<()>, service: &mut Limited) -> Poll<Result<(), Failure>> {
    task.enter(|cx, _| Service::<Duration>::poll_ready(service, cx))
}

/// Starts a task that waits for a service which is not ready yet.
fn waits(limit: Duration) -> (task::Spawn<()>, Limited, Door) {
    let (layer, mut service, door) = with_door();
    layer.handle().reconfigure(including().limit(Limit::Fixed(limit))).unwrap();
    let mut task = task::spawn(());
    assert_pending!(poll(&mut task, &mut service));
    (task, service, door)
}

#[tokio::test(start_paused = true)]
async fn the_time_for_which_a_task_was_busy_is_not_charged_to_its_call() {
    let (mut task, mut service, door) = waits(SECOND);
    advance(200 * MS).await;
    door.set(true);
    advance(150 * MS).await;
    assert_ready!(poll(&mut task, &mut service)).unwrap();
    assert_eq!(service.call(900 * MS).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn the_time_for_which_a_service_was_ready_already_is_not_charged_to_its_call() {
    let (mut task, mut service, door) = waits(SECOND);
    advance(100 * MS).await;
    door.set(true);
    for _ in 0..2 {
        assert_ready!(poll(&mut task, &mut service)).unwrap();
        advance(90 * MS).await;
    }
    assert_eq!(service.call(890 * MS).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_a_little_late_has_waited_however_short_the_limit() {
    let (mut task, mut service, door) = waits(200 * MS);
    advance(201 * MS).await;
    assert!(task.is_woken());
    advance(59 * MS).await;
    assert_ready!(poll(&mut task, &mut service)).unwrap();
    assert_refused(service.call(MS).await, "outer", Reason::TotalTimeout, 200 * MS);
    assert_eq!(door.calls.get(), 0);
}

/// The first wake-up counts, and not a later one at the end of the limit.
#[tokio::test(start_paused = true)]
async fn a_task_that_was_woken_long_ago_waits_anew() {
    let (mut task, mut service, door) = waits(SECOND);
    advance(100 * MS).await;
    door.waiting.borrow().as_ref().map(Waker::wake_by_ref).unwrap();
    advance(901 * MS).await;
    advance(49 * MS).await;
    assert_pending!(poll(&mut task, &mut service));
    advance(990 * MS).await;
    assert!(!task.is_woken(), "its new limit is not over");
    door.set(true);
    assert_ready!(poll(&mut task, &mut service)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_service_is_ready_is_not_woken_when_the_limit_is_over() {
    let (mut task, mut service, door) = waits(SECOND);
    door.set(true);
    assert_ready!(poll(&mut task, &mut service)).unwrap();
    advance(2 * SECOND).await;
    assert!(!task.is_woken());
}
