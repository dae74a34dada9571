//! PriorityShares in a limit with partitions, and calls for which there can be no room.

use std::time::Duration;

use stanchion::{
    BulkheadConfig, BulkheadLayer, CallAttributes, Criticality, PartitionConfig, PriorityShares, Reason,
};
use tokio_test::task;
use tokio_test::{assert_pending, assert_ready};

use super::{BATCH, Failure, LIVE, config, fill, handle, lending, of};

const LEVELS: [Criticality; 3] = [Criticality::SHEDDABLE, Criticality::DEFAULT, Criticality::CRITICAL];

fn half_is_kept() -> BulkheadConfig {
    config(100, [PartitionConfig::new("live", 0.5).lends(0.0)]).headroom(PriorityShares::RECOMMENDED)
}

#[test]
fn what_is_kept_and_idle_does_not_count_as_used_by_others() {
    let handle = BulkheadLayer::new(half_is_kept()).handle();
    let room = |claim: CallAttributes| LEVELS.map(|level| fill(&handle, claim.criticality(level)).len());
    assert_eq!(
        room(CallAttributes::new()),
        [25, 40, 50],
        "half, four fifths and all of what is kept for nobody"
    );
    assert_eq!(room(of(LIVE)), [75, 90, 100], "the same, besides what is kept for them");
    let _live = fill(&handle, of(LIVE).criticality(Criticality::CRITICAL));
    assert_eq!(room(CallAttributes::new()), [0, 0, 0]);
}

#[test]
fn sheddable_calls_leave_room_for_those_that_matter_more_beside_a_partition() {
    let handle = BulkheadLayer::new(half_is_kept()).handle();
    let fill = |level: usize| fill(&handle, CallAttributes::new().criticality(LEVELS[level]));
    let all = [fill(0), fill(1), fill(2)];
    assert_eq!(all.map(|held| held.len()), [25, 15, 10]);
}

#[tokio::test(start_paused = true)]
async fn a_sheddable_call_does_not_wait_beside_an_idle_limit() {
    let handle = BulkheadLayer::waiting(half_is_kept().max_queued(9)).handle();
    let claim = CallAttributes::new().criticality(Criticality::SHEDDABLE);
    let mut call = task::spawn(handle.run_for(&claim, async { Ok::<_, Failure>(1) }));
    assert_eq!(assert_ready!(call.poll()), Ok(1));
}

/// The reason for which a call is refused at once, in a layer that waits.
fn refused(config: BulkheadConfig, claim: CallAttributes) -> Reason {
    let handle = BulkheadLayer::waiting(config.max_queued(9).max_wait(Duration::from_secs(9))).handle();
    let mut call = task::spawn(handle.run_for(&claim, async { Ok::<_, Failure>(1) }));
    let refused = assert_ready!(call.poll()).unwrap_err();
    assert_eq!(handle.snapshot().queued, 0);
    refused.rejected().unwrap().reason()
}

#[tokio::test(start_paused = true)]
async fn a_call_for_which_there_can_be_no_room_is_refused_at_once() {
    // All of the limit is kept for others.
    assert_eq!(refused(config(10, lending(0.0, 0.0)), CallAttributes::new()), Reason::BulkheadFull);
    let all = [PartitionConfig::new("live", 1.0).lends(0.0)];
    assert_eq!(refused(config(1, all), of(BATCH)), Reason::BulkheadFull);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_is_refused_once_there_can_be_no_room_for_it() {
    let waiting = |live: f64| config(10, lending(live, 0.0)).max_queued(9);
    let handle = BulkheadLayer::waiting(waiting(0.5)).handle();
    let _live = fill(&handle, of(LIVE));
    let mut call = task::spawn(handle.run_for(&CallAttributes::new(), async { Ok::<_, Failure>(1) }));
    let mut batch = task::spawn(handle.run_for(&of(BATCH), async { Ok::<_, Failure>(1) }));
    assert_pending!(call.poll());
    assert_eq!(assert_ready!(batch.poll()), Ok(1));
    handle.reconfigure(waiting(0.0)).unwrap();
    assert!(call.is_woken());
    let refused = assert_ready!(call.poll()).unwrap_err();
    assert_eq!(refused.rejected().unwrap().reason(), Reason::BulkheadFull);
    assert_eq!(handle.snapshot().queued, 0);
}

#[test]
fn what_is_kept_for_a_partition_is_there_while_no_more_is_under_way_than_the_limit() {
    let handle = handle(20, lending(0.5, 0.5));
    let mut batches = fill(&handle, of(BATCH));
    assert_eq!(batches.len(), 13);
    handle.resize(12).unwrap();
    assert!(handle.try_acquire_for(&of(LIVE)).is_err(), "13 are under way, and 12 allowed");
    batches.truncate(11);
    assert!(handle.try_acquire_for(&of(LIVE)).is_ok());
}
