//! Calls that wait outside of a runtime, or in several.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use stanchion::{BulkheadConfig, BulkheadHandle, BulkheadLayer};
use tokio::runtime::{Builder, Runtime};

use super::{Failure, SECOND};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn handle() -> BulkheadHandle {
    BulkheadLayer::waiting(BulkheadConfig::new().max_in_flight(1).max_queued(10).max_wait(3 * SECOND))
        .handle()
}

async fn answer(number: u32) -> Result<u32, Failure> {
    Ok(number)
}

#[test]
fn a_call_that_begins_to_wait_outside_of_a_runtime_panics_nowhere() {
    let handle = handle();
    let permit = handle.try_acquire().unwrap();
    let panics = Arc::new(AtomicU32::new(0));
    let (before, counted, here) = (std::panic::take_hook(), Arc::clone(&panics), std::thread::current().id());
    std::panic::set_hook(Box::new(move |_| {
        counted.fetch_add(u32::from(std::thread::current().id() == here), Ordering::SeqCst);
    }));
    let waits = handle.run(answer(1));
    std::panic::set_hook(before);
    drop(permit);
    assert_eq!(runtime().block_on(waits), Ok(1));
    assert_eq!(panics.load(Ordering::SeqCst), 0);
}

#[test]
fn a_grant_is_passed_on_although_the_runtime_of_its_waiter_stands_still() {
    let (handle, idle, other) = (handle(), runtime(), runtime());
    let (kept, waits) = idle.block_on(async {
        let permit = handle.try_acquire().unwrap();
        let mut kept = Box::pin(handle.run(answer(0)));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut kept).poll(&mut cx).is_pending());
        let waits = handle.run(answer(1));
        drop(permit);
        (kept, waits)
    });
    let start = Instant::now();
    assert_eq!(other.block_on(waits), Ok(1));
    assert!(start.elapsed() < Duration::from_millis(800), "{:?}", start.elapsed());
    drop(kept);
}

#[test]
fn a_grant_is_passed_on_although_the_runtime_of_its_waiter_is_gone() {
    let (handle, gone, other) = (handle(), runtime(), runtime());
    let (kept, waits, permit) = gone.block_on(async {
        let permit = handle.try_acquire().unwrap();
        (handle.run(answer(0)), handle.run(answer(1)), permit)
    });
    drop(permit);
    drop(gone);
    let start = Instant::now();
    assert_eq!(other.block_on(waits), Ok(1));
    assert!(start.elapsed() < Duration::from_millis(800), "{:?}", start.elapsed());
    drop(kept);
}
