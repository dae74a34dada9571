//! Partitions of a limit, through the public API.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

#[path = "support/fault.rs"]
mod fault;
#[path = "partitions/headroom.rs"]
mod headroom;

use std::future::{Future, pending, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

use crate::fault::Fault;
use stanchion::bulkhead::Permit;
use stanchion::{
    BulkheadConfig, BulkheadHandle, BulkheadLayer, CallAttributes, Criticality, Error, Partition,
    PartitionConfig, PriorityShares, Reason,
};
use tokio_test::task::{self, Spawn};
use tokio_test::{assert_pending, assert_ready};
use tower::{Layer, Service, service_fn};

type Failure = Error<Fault>;
type Call = Pin<Box<dyn Future<Output = Result<u32, Failure>>>>;

const LIVE: Partition = Partition::named("live");
const BATCH: Partition = Partition::named("batch");

/// 0.7 for what is live and 0.3 for batches, which lend so much of their share.
fn lending(live: f64, batch: f64) -> [PartitionConfig; 2] {
    [PartitionConfig::new("live", 0.7).lends(live), PartitionConfig::new("batch", 0.3).lends(batch)]
}

fn config(max_in_flight: u32, partitions: impl Into<Vec<PartitionConfig>>) -> BulkheadConfig {
    BulkheadConfig::new().max_in_flight(max_in_flight).partitions(partitions)
}

fn handle(max_in_flight: u32, partitions: impl Into<Vec<PartitionConfig>>) -> BulkheadHandle {
    BulkheadLayer::new(config(max_in_flight, partitions)).handle()
}

/// As many as there is room for.
fn fill(handle: &BulkheadHandle, claim: CallAttributes) -> Vec<Permit> {
    std::iter::from_fn(|| handle.try_acquire_for(&claim).ok()).collect()
}

fn of(partition: Partition) -> CallAttributes {
    CallAttributes::new().partition(partition)
}

/// Of each partition: the calls under way, its share, and what is kept for it.
fn counts(handle: &BulkheadHandle) -> Vec<(u32, u32, u32)> {
    handle.partitions().iter().map(|part| (part.in_flight, part.share, part.kept)).collect()
}

/// Calls of batches are those above 100; 13 panics, and from 200 on they never end.
fn claim(request: &u32) -> CallAttributes {
    of(if *request > 100 { BATCH } else { LIVE })
}

fn serve(request: u32) -> Call {
    assert_ne!(request, 13, "the service panics");
    if request < 200 { Box::pin(ready(Ok(request))) } else { Box::pin(pending()) }
}

fn begin<S: Service<u32, Response = u32, Error = Failure>>(
    service: &mut S,
    request: u32,
) -> Spawn<S::Future> {
    let polled = task::spawn(()).enter(|cx, _| service.poll_ready(cx));
    assert_eq!(assert_ready!(polled), Ok(()));
    task::spawn(service.call(request))
}

#[test]
fn each_partition_has_what_it_keeps_and_borrows_what_the_others_lend() {
    let handle = handle(20, lending(0.5, 0.5));
    assert_eq!(counts(&handle), [(0, 14, 7), (0, 6, 3)]);
    let batches = fill(&handle, of(BATCH));
    assert_eq!(batches.len(), 13, "all but what is kept for the others");
    let live = fill(&handle, of(LIVE));
    assert_eq!((live.len(), handle.snapshot().in_flight), (7, 20), "the limit is the limit");
    assert_eq!(counts(&handle), [(7, 14, 7), (13, 6, 3)]);
    drop(batches);
    assert_eq!(fill(&handle, of(LIVE)).len(), 10, "three are kept for batches");
}

#[test]
fn what_lends_nothing_is_a_wall_and_what_lends_all_is_none() {
    let walls = handle(10, lending(0.0, 0.0));
    assert_eq!((fill(&walls, of(LIVE)).len(), fill(&walls, of(BATCH)).len()), (7, 3));
    let none = handle(10, lending(1.0, 1.0));
    for partition in [LIVE, BATCH] {
        assert_eq!(fill(&none, of(partition)).len(), 10);
    }
}

#[test]
fn calls_of_no_partition_and_of_one_that_is_unknown_have_what_is_kept_for_nobody() {
    let handle = handle(10, [PartitionConfig::new("batch", 0.3).lends(0.0)]);
    for claim in [CallAttributes::new(), of(Partition::named("unknown"))] {
        assert_eq!(fill(&handle, claim).len(), 7);
    }
    let unknown = fill(&handle, CallAttributes::new());
    assert_eq!(fill(&handle, of(BATCH)).len(), 3);
    drop(unknown);
    assert_eq!(fill(&handle, of(BATCH)).len(), 10);
}

#[test]
fn shares_follow_the_limit() {
    let handle = handle(10, lending(0.0, 0.0));
    assert_eq!(counts(&handle), [(0, 7, 7), (0, 3, 3)]);
    handle.resize(20).unwrap();
    assert_eq!(counts(&handle), [(0, 14, 14), (0, 6, 6)]);
    let live = fill(&handle, of(LIVE));
    handle.resize(1).unwrap();
    assert_eq!(counts(&handle), [(14, 1, 0), (0, 1, 0)], "the one is for both");
    assert!(handle.try_acquire_for(&of(BATCH)).is_err());
    handle.resize(16).unwrap();
    assert_eq!(fill(&handle, of(BATCH)).len(), 2, "within what is kept, for the limit is not reached");
    drop(live);
    assert_eq!(counts(&handle), [(0, 12, 12), (0, 5, 4)]);
}

#[test]
fn shares_change_while_calls_are_under_way() {
    let handle = handle(10, lending(1.0, 1.0));
    let mut batches = fill(&handle, of(BATCH));
    handle.reconfigure(config(10, lending(0.0, 0.0))).unwrap();
    assert_eq!((batches.len(), counts(&handle)), (10, vec![(0, 7, 7), (10, 3, 3)]));
    drop(batches.pop());
    assert!(handle.try_acquire_for(&of(BATCH)).is_err());
    let live = handle.try_acquire_for(&of(LIVE));
    assert!(live.is_ok() && handle.try_acquire_for(&of(LIVE)).is_err());
    drop((batches, live));
    assert_eq!((fill(&handle, of(LIVE)).len(), fill(&handle, of(BATCH)).len()), (7, 3));
}

#[test]
fn a_call_that_ends_panics_or_is_dropped_gives_its_room_back_to_its_partition() {
    let layer = BulkheadLayer::new(config(10, lending(0.0, 0.0))).attributes(claim);
    let mut service = layer.layer(service_fn(|request: u32| serve(request)));
    for request in [1, 101, 200, 201, 202] {
        let mut call = begin(&mut service, request);
        assert_eq!(call.poll().is_ready(), request < 200);
    }
    assert!(catch_unwind(AssertUnwindSafe(|| begin(&mut service, 13))).is_err());
    assert_eq!(counts(&layer.handle()), [(0, 7, 7), (0, 3, 3)]);
    let stuck: Vec<_> = (200..203).map(|request| begin(&mut service, request)).collect();
    let refused = assert_ready!(begin(&mut service, 203).poll()).unwrap_err();
    assert_eq!(refused.rejected().unwrap().reason(), Reason::BulkheadFull);
    assert_eq!(assert_ready!(begin(&mut service, 2).poll()), Ok(2), "of the other");
    drop(stuck);
    assert_eq!(layer.handle().snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_waits_keeps_no_other_waiting() {
    let layer = BulkheadLayer::waiting(config(10, lending(0.0, 0.0)).max_queued(4)).attributes(claim);
    let mut service = layer.layer(service_fn(|request: u32| serve(request)));
    let mut stuck: Vec<_> = (200..203).map(|request| begin(&mut service, request)).collect();
    let mut waits = begin(&mut service, 103);
    assert_pending!(waits.poll());
    assert!(layer.handle().try_acquire_for(&of(LIVE)).is_ok());
    assert_eq!(assert_ready!(begin(&mut service, 1).poll()), Ok(1));
    let given_up = begin(&mut service, 104);
    drop(stuck.pop());
    assert!(waits.is_woken());
    drop(waits);
    drop(given_up);
    assert_eq!((layer.handle().snapshot().in_flight, layer.handle().snapshot().queued), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_when_its_share_grows() {
    let layer = BulkheadLayer::waiting(config(10, lending(0.0, 0.0)).max_queued(4)).attributes(claim);
    let mut service = layer.layer(service_fn(|request: u32| serve(request)));
    let _stuck: Vec<_> = (200..203).map(|request| begin(&mut service, request)).collect();
    let mut waits = begin(&mut service, 103);
    assert_pending!(waits.poll());
    layer.handle().reconfigure(config(10, lending(0.1, 0.0)).max_queued(4)).unwrap();
    assert!(!waits.is_woken(), "0.63 of ten is seven");
    layer.handle().reconfigure(config(10, lending(0.5, 0.0)).max_queued(4)).unwrap();
    assert_eq!(assert_ready!(waits.poll()), Ok(103));
}

#[test]
fn within_a_partition_too_there_is_headroom_for_what_matters() {
    let layer = BulkheadLayer::new(config(20, lending(0.0, 0.0)).headroom(PriorityShares::RECOMMENDED));
    let room = |claim: CallAttributes| fill(&layer.handle(), claim).len();
    let levels = [Criticality::SHEDDABLE, Criticality::DEFAULT, Criticality::CRITICAL];
    assert_eq!(levels.map(|level| room(of(LIVE).criticality(level))), [7, 12, 14]);
    assert_eq!(levels.map(|level| room(of(BATCH).criticality(level))), [3, 5, 6]);
    let _all = fill(&layer.handle(), of(LIVE));
    assert_eq!(room(of(LIVE).criticality(Criticality::CRITICAL)), 2);
}

#[test]
fn what_cannot_be_is_refused_by_name_and_the_old_shares_stay() {
    let many = |count: usize| -> Vec<_> {
        const NAMES: [&str; 17] =
            ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q"];
        NAMES[..count].iter().map(|name| PartitionConfig::new(name, 1.0 / 17.0)).collect()
    };
    let one = |share: f64, lends: f64| vec![PartitionConfig::new("one", share).lends(lends)];
    let error = |partitions: Vec<PartitionConfig>| BulkheadLayer::try_new(config(10, partitions)).err();
    for share in [0.0, -0.1, 1.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(error(one(share, 0.5)).unwrap().field(), "partitions.share");
    }
    for lends in [-0.1, 1.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(error(one(0.5, lends)).unwrap().field(), "partitions.lends");
    }
    assert_eq!(error([lending(0.5, 0.5), lending(0.5, 0.5)].concat()).unwrap().field(), "partitions.name");
    let two = [one(0.6, 0.5), vec![PartitionConfig::new("two", 0.5)]].concat();
    let too_much = error(two).unwrap();
    assert_eq!((too_much.field(), too_much.given()), ("partitions.share", "1.1"));
    assert_eq!(error(many(17)).unwrap().field(), "partitions");
    for fits in [many(16), one(1.0, 0.0), one(f64::MIN_POSITIVE, 1.0), Vec::new()] {
        assert_eq!(error(fits), None);
    }
    let tenths = many(10).into_iter().map(|tenth| tenth.share(0.1)).collect();
    assert_eq!(error(tenths), None, "ten times 0.1");

    let backpressure = BulkheadLayer::try_backpressure(config(10, lending(0.5, 0.5)));
    assert_eq!(backpressure.err().unwrap().field(), "partitions");

    let handle = handle(10, lending(0.0, 0.0));
    let [live, batch] = lending(0.0, 0.0);
    for partitions in [vec![], vec![live], vec![batch, live], many(2)] {
        assert_eq!(handle.reconfigure(config(10, partitions)).unwrap_err().field(), "partitions");
    }
    assert_eq!(handle.config(), config(10, lending(0.0, 0.0)));
}

#[test]
fn the_largest_limit_has_partitions_too() {
    let handle = handle(2_147_483_647, lending(0.0, 0.5));
    // Less than a call from the exact numbers.
    assert_eq!(counts(&handle), [(0, 1_503_238_553, 1_503_238_553), (0, 644_245_094, 322_122_547)]);
    let _held = handle.try_acquire_for(&of(LIVE)).unwrap();
    handle.resize(1).unwrap();
    assert!(handle.try_acquire_for(&of(BATCH)).is_err());
}

#[cfg(feature = "http")]
#[test]
fn requests_of_http_say_it_in_their_extensions() {
    use stanchion::http::Http;
    use stanchion::protocol::RequestContext;

    let mut request = http::Request::new(());
    assert_eq!(Http::new().attributes(&request).partition, None);
    request.extensions_mut().insert(BATCH);
    assert_eq!(Http::new().attributes(&request).partition, Some(BATCH));
}
