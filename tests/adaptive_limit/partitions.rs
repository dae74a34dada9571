//! Partitions of a limit that finds itself.

use stanchion::adaptive_limit::Permit;
use stanchion::{CallAttributes, Partition, PartitionConfig};
use tokio::time::advance;

use super::*;

const LIVE: &str = "live";
const BATCH: &str = "batch";

/// Walls between what is live and batches.
pub(super) const WALLS: [PartitionConfig; 2] =
    [PartitionConfig::new(LIVE, 0.7).lends(0.0), PartitionConfig::new(BATCH, 0.3).lends(0.0)];

/// As many as there is room for.
fn fill(handle: &AdaptiveLimitHandle<Notes>, partition: &'static str) -> Vec<Permit<Notes>> {
    let claim = CallAttributes::new().partition(Partition::named(partition));
    std::iter::from_fn(|| handle.try_acquire_for(&claim).ok()).collect()
}

/// Of each partition: the calls under way, and what is kept for it.
fn counts_of<A: Algorithm + Clone + PartialEq + Sync>(handle: &AdaptiveLimitHandle<A>) -> Vec<(u32, u32)> {
    handle.partitions().iter().map(|part| (part.in_flight, part.kept)).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_follows_the_limit_that_is_found() {
    let notes = Notes::new();
    let config = notes.config().initial_limit(10).partitions(WALLS);
    let handle = AdaptiveLimitLayer::new(config).handle();
    let (mut live, mut batches) = (fill(&handle, LIVE), fill(&handle, BATCH));
    assert_eq!(counts_of(&handle), [(7, 7), (3, 3)]);

    notes.set(20.0);
    advance(SECOND).await;
    live.pop().unwrap().finish(Class::Success);
    assert_eq!(counts_of(&handle), [(6, 14), (3, 6)]);
    live.extend(fill(&handle, LIVE));
    batches.extend(fill(&handle, BATCH));
    assert_eq!((counts_of(&handle), handle.snapshot().in_flight), (vec![(14, 14), (6, 6)], 20));

    notes.set(5.0);
    advance(10 * SECOND).await;
    batches.pop().unwrap().finish(Class::Success);
    assert_eq!(counts_of(&handle), [(14, 4), (5, 1)], "there is one left for the second");
    drop(live);
    assert_eq!(fill(&handle, LIVE).len(), 0, "the limit is the limit");
    batches.truncate(1);
    assert_eq!((fill(&handle, BATCH).len(), fill(&handle, LIVE).len()), (0, 4));

    let in_flight: Vec<_> = notes.samples.lock().unwrap().iter().map(|sample| sample.in_flight).collect();
    assert_eq!(in_flight[..2], [10, 20], "with the call that has ended");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_is_rejected_when_a_limit_that_rises_leaves_it_no_room() {
    let config = AdaptiveLimitConfig::new().initial_limit(1).min_calls(1).window(10 * MS);
    let halves = [PartitionConfig::new(LIVE, 0.5).lends(0.0), PartitionConfig::new(BATCH, 0.5).lends(0.0)];
    let config = config.algorithm(own::Says::these(&[2.0])).max_queued(10).max_wait(60 * SECOND);
    let handle = AdaptiveLimitLayer::waiting(config.partitions(halves)).handle();
    let live = CallAttributes::new().partition(Partition::named(LIVE));
    let permit = handle.try_acquire_for(&live).unwrap();
    let mut of_none = task::spawn(handle.run(async { Ok::<_, Failure>(1) }));
    assert!(of_none.poll().is_pending());
    advance(100 * MS).await;
    permit.finish(Class::Success);
    assert_eq!(counts_of(&handle), [(0, 1), (0, 1)], "all of the limit is kept");
    assert!(of_none.is_woken(), "{:?}", handle.snapshot());
    assert!(of_none.poll().is_ready());
}
