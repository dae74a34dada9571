//! Limits that calls under way, small shares or panics could keep where they are.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicI64, Ordering};

use stanchion::{CallAttributes, Partition, PartitionConfig};
use tokio::time::{Instant, advance};
use tokio_test::{assert_pending, assert_ready};

use super::*;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Makes calls one after the other for `time`, each of 5 ms, and returns how many were served and refused.
async fn one_at_a_time<A: Algorithm + Clone + PartialEq + Sync>(
    handle: &AdaptiveLimitHandle<A>,
    claim: &CallAttributes,
    time: Duration,
) -> (u32, u32) {
    let (mut served, mut refused) = (0, 0);
    let start = Instant::now();
    while start.elapsed() < time {
        let call = async {
            sleep(5 * MS).await;
            Ok::<_, Failure>(())
        };
        if handle.run_for(claim, call).await.is_ok() {
            served += 1;
        } else {
            refused += 1;
            sleep(5 * MS).await;
        }
    }
    (served, refused)
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_named_last_is_served_alone_after_an_outage() {
    for waits in [false, true] {
        let config = AdaptiveLimitConfig::new().partitions(NAMES.map(|name| PartitionConfig::new(name, 0.2)));
        let handle = if waits {
            AdaptiveLimitLayer::waiting(config.max_queued(100)).handle()
        } else {
            AdaptiveLimitLayer::new(config).handle()
        };
        // An outage in which all partitions are used.
        let mut outage = JoinSet::new();
        for name in NAMES.repeat(8) {
            let handle = handle.clone();
            outage.spawn(async move {
                let claim = CallAttributes::new().partition(Partition::named(name));
                for _ in 0..200 {
                    let failing = async {
                        sleep(50 * MS).await;
                        Err::<(), _>(Error::Inner(Fault("sick")))
                    };
                    if matches!(handle.run_for(&claim, failing).await, Err(Error::Rejected(_))) {
                        sleep(45 * MS).await;
                    }
                }
            });
        }
        while outage.join_next().await.is_some() {}
        let limit = handle.snapshot().max_in_flight;
        assert!(limit < 5, "the outage lowers the limit to {limit}");
        let last = CallAttributes::new().partition(Partition::named("e"));
        let (served, refused) = one_at_a_time(&handle, &last, 60 * SECOND).await;
        assert!(refused == 0, "{served} served, {refused} refused: {:?}", handle.snapshot());
    }
}

/// Measures a limit of three afresh, once.
#[derive(Clone, Debug, PartialEq)]
struct MeasuresThree(bool);

impl Algorithm for MeasuresThree {
    fn next(&mut self, _: f64, _: &Sample) -> Next {
        if std::mem::replace(&mut self.0, true) { Next::limit(20.0) } else { Next::limit(3.0).reset_window() }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_never_end_do_not_keep_all_others_out_while_the_limit_is_measured() {
    for (kept, is_exempt) in [(3, false), (3, true), (12, false), (12, true)] {
        let config = AdaptiveLimitConfig::new().admit_exempt(true).algorithm(MeasuresThree(false));
        let handle = AdaptiveLimitLayer::new(config).handle();
        let claim = CallAttributes::new().exempt(is_exempt);
        let kept: Vec<_> = (0..kept).map(|_| handle.try_acquire_for(&claim).unwrap()).collect();
        let (served, refused) = one_at_a_time(&handle, &CallAttributes::new(), 120 * SECOND).await;
        assert!(refused < served, "{} kept: {served} served, {refused} refused", kept.len());
        assert!(handle.snapshot().max_in_flight <= 20);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_one_that_never_ends_are_served_while_the_limit_is_measured() {
    let config = AdaptiveLimitConfig::new().max_queued(9).algorithm(MeasuresThree(false));
    let handle = AdaptiveLimitLayer::waiting(config).handle();
    let _kept: Vec<_> = (0..3).map(|_| handle.try_acquire().unwrap()).collect();
    let (served, refused) = one_at_a_time(&handle, &CallAttributes::new(), 120 * SECOND).await;
    assert!(refused < served, "{served} served, {refused} refused");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_finds_no_room_for_too_long_makes_room_for_those_that_wait_already() {
    let config = AdaptiveLimitConfig::new().max_queued(9).max_wait(3_600 * SECOND);
    let handle = AdaptiveLimitLayer::waiting(config.algorithm(MeasuresThree(false))).handle();
    let _kept: Vec<_> = (0..3).map(|_| handle.try_acquire().unwrap()).collect();
    while handle.snapshot().max_in_flight > 3 {
        one_at_a_time(&handle, &CallAttributes::new(), 5 * MS).await;
    }
    let call = || task::spawn(handle.run(std::future::ready(Ok::<_, Failure>(()))));
    let mut first = call();
    assert_pending!(first.poll());
    advance(60 * SECOND).await;
    assert!(!first.is_woken());
    let _second = call();
    assert!(first.is_woken());
    assert!(assert_ready!(first.poll()).is_ok());
}

#[tokio::test(start_paused = true)]
async fn exempt_calls_are_not_in_flight_for_an_algorithm() {
    let notes = Notes::new();
    let config = notes.config().admit_exempt(true);
    let handle = AdaptiveLimitLayer::new(config).handle();
    let exempt: Vec<_> =
        (0..3).map(|_| handle.try_acquire_for(&CallAttributes::new().exempt(true)).unwrap()).collect();
    for _ in 0..2 {
        sleep(SECOND).await;
        handle.try_acquire().unwrap().finish(Class::Success);
    }
    drop(exempt);
    sleep(SECOND).await;
    handle.try_acquire().unwrap().finish(Class::Success);
    let in_flight: Vec<_> = notes.samples.lock().unwrap().iter().map(|sample| sample.in_flight).collect();
    assert_eq!(in_flight, [1, 1, 1]);
}

/// Adds one to the limit, and panics when it is dropped for the `n`th time.
#[derive(Clone, Debug)]
struct Bomb(&'static str, Arc<AtomicI64>);

impl PartialEq for Bomb {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Algorithm for Bomb {
    fn next(&mut self, limit: f64, _: &Sample) -> Next {
        Next::limit(limit + 1.0)
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        let fires = self.1.fetch_sub(1, Ordering::Relaxed) == 0 && !std::thread::panicking();
        assert!(!fires, "asked to");
    }
}

#[tokio::test(start_paused = true)]
async fn an_algorithm_that_panics_when_it_is_replaced_does_not_freeze_the_limit() {
    for nth in 0..4 {
        let fuse = Arc::new(AtomicI64::new(i64::MAX));
        let config = AdaptiveLimitConfig::new().window(10 * MS).min_calls(1);
        let layer = AdaptiveLimitLayer::new(config.clone().algorithm(Bomb("a", Arc::clone(&fuse))));
        let handle = layer.handle();
        let windows = async |windows: u32| {
            for _ in 0..windows {
                sleep(30 * MS).await;
                handle.try_acquire().unwrap().finish(Class::Success);
            }
            handle.snapshot().max_in_flight
        };
        let before = windows(5).await;
        assert_eq!(before, 25);
        let other = config.algorithm(Bomb("b", Arc::new(AtomicI64::new(i64::MAX))));
        fuse.store(nth, Ordering::Relaxed);
        let _ = catch_unwind(AssertUnwindSafe(|| handle.reconfigure(other.clone())));
        fuse.store(i64::MAX, Ordering::Relaxed);
        let _ = catch_unwind(AssertUnwindSafe(|| handle.reconfigure(other)));
        let after = windows(50).await;
        assert!(after > before + 40, "after the {nth}th drop: {after}");
    }
}
