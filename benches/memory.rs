//! What a breaker takes up: for each endpoint one, it should not matter how many endpoints there are.
//!
//!     cargo bench --bench memory                a million breakers of each kind; a few seconds, 1 GB
//!     cargo bench --bench memory -- --test      10,000 of each kind
//!
//! Made by `CircuitBreakerLayer::with_new_state`, so they share what is no state, and kept as handles. There is no runtime here
//! for a breaker to start a task or arm a timer on, and the threads are counted before and after.

#![allow(unsafe_code, reason = "there is no other way to write an allocator")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::future::{Ready, ready};
use std::hint::black_box;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use stanchion::classify::Class;
use stanchion::hedge::HedgeDelay;
use stanchion::rate_limit::Quota;
use stanchion::{
    CircuitBreakerConfig, CircuitBreakerHandle, CircuitBreakerLayer, FallbackLayer, HedgeConfig, HedgeLayer,
    RateLimitLayer, RetryConfig, RetryLayer, ThrottleConfig, ThrottleLayer, TimeoutLayer,
};
use tower::{Layer, Service, ServiceBuilder, service_fn};

use support::{Error, cases, is_test};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The system's allocator, which counts the bytes and the blocks that it has lent.
struct Counting;

static BYTES: AtomicI64 = AtomicI64::new(0);
static BLOCKS: AtomicI64 = AtomicI64::new(0);

fn count(blocks: i64, bytes: usize) {
    BLOCKS.fetch_add(blocks, Ordering::Relaxed);
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    BYTES.fetch_add(blocks * bytes, Ordering::Relaxed);
}

// SAFETY: every method passes its arguments on to the system's allocator as they are.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size());
        // SAFETY: the caller keeps the same promise to us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-1, layout.size());
        // SAFETY: the caller keeps the same promise to us.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What has been lent, and what the system says the process has.
#[derive(Clone, Copy)]
struct Reading {
    bytes: i64,
    blocks: i64,
    resident: Option<i64>,
    threads: Option<i64>,
}

impl Reading {
    fn now() -> Self {
        // First of all: what follows allocates.
        let (bytes, blocks) = (BYTES.load(Ordering::Relaxed), BLOCKS.load(Ordering::Relaxed));
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name))?;
            value.split_whitespace().next()?.parse().ok()
        };
        Self {
            bytes,
            blocks,
            resident: field("VmRSS:").map(|kilobytes: i64| kilobytes * 1_024),
            threads: field("Threads:"),
        }
    }
}

fn main() {
    let _keep_up = support::record_metrics();
    let breakers = if is_test() { 10_000 } else { 1_000_000 };
    println!("| a breaker that has not been called | bytes | blocks | MB of {breakers} | MB resident |");
    println!("|---|---:|---:|---:|---:|");
    for (name, config) in [
        ("100 calls", cases::by_count()),
        ("60 s in 10 buckets", cases::by_time()),
        ("the same, slow calls that have ended", cases::by_slowness(false)),
        ("the same, slow calls also in flight", cases::by_slowness(true)),
    ] {
        measure(name, &CircuitBreakerLayer::new(config), breakers);
    }
    layers();
    println!("\n| bytes more | 100 calls | 60 s, slow calls also in flight |");
    println!("|---|---:|---:|");
    for (name, life) in LIVES {
        let more = [cases::by_count(), cases::by_slowness(true)].map(|config| grown(config, *life));
        println!("| {name} | {} | {} |", more[0], more[1]);
    }
}

fn measure(name: &str, layer: &CircuitBreakerLayer, breakers: usize) {
    assert!(tokio::runtime::Handle::try_current().is_err(), "this is to work without a runtime");
    // What all of them share is there already.
    drop(layer.with_new_state().handle());
    let mut kept: Vec<CircuitBreakerHandle> = Vec::with_capacity(breakers);
    // Touched, so that the list is resident before the breakers are.
    kept.resize(breakers, layer.handle());
    kept.clear();
    let before = Reading::now();
    kept.extend(std::iter::repeat_with(|| layer.with_new_state().handle()).take(breakers));
    let after = Reading::now();
    assert_eq!(before.threads, after.threads, "{name}: a breaker starts no thread");
    black_box(&mut kept).clear();
    assert_eq!(BYTES.load(Ordering::Relaxed), before.bytes, "{name}: all is given back");

    let each = |sum: i64| sum / i64::try_from(breakers).unwrap_or(i64::MAX);
    let bytes = after.bytes - before.bytes;
    let resident = match before.resident.zip(after.resident).map(|(before, after)| after - before) {
        Some(resident) if resident >= bytes => (resident / 1_000_000).to_string(),
        // Memory of the kind before was used again.
        _ => "-".to_owned(),
    };
    let (bytes, blocks, megabytes) = (each(bytes), each(after.blocks - before.blocks), bytes / 1_000_000);
    println!("| {name} | {bytes} | {blocks} | {megabytes} | {resident} |");
}

/// What the other layers take up: on the heap, all that is made for one layer and its service, and what a service and
/// the future of a call are as values, around a service whose future is as large as a number.
fn layers() {
    println!("\n| a layer that has not been called | bytes | blocks | service | future |");
    println!("|---|---:|---:|---:|---:|");
    let quantile = || HedgeLayer::new(HedgeConfig::new());
    let fixed = HedgeConfig::new().delay(HedgeDelay::Fixed(Duration::from_secs(1)));
    let total = || TimeoutLayer::after(Duration::from_secs(10));
    let attempt = || TimeoutLayer::per_attempt(Duration::from_secs(1));
    let retry = || RetryLayer::new(RetryConfig::new());
    let breaker = || CircuitBreakerLayer::new(cases::by_count());
    occupied("none", || service_fn(plain));
    occupied("timeout", || total().layer(service_fn(plain)));
    occupied("retry", || retry().layer(service_fn(plain)));
    occupied("hedge, fixed", || HedgeLayer::new(fixed.clone()).layer(service_fn(plain)));
    occupied("hedge, quantile", || quantile().layer(service_fn(plain)));
    occupied("fallback", || FallbackLayer::value(0).layer(service_fn(plain)));
    occupied("circuit breaker, 100 calls", || breaker().layer(service_fn(plain)));
    let (quota, key) = (Quota::per_second(100), |request: &u64| Some(*request));
    occupied("rate limit", || RateLimitLayer::new(quota).layer(service_fn(plain)));
    occupied("rate limit that waits", || RateLimitLayer::new(quota).waits().layer(service_fn(plain)));
    occupied("rate limit by key", || RateLimitLayer::keyed(quota, key).layer(service_fn(plain)));
    occupied("throttle", || ThrottleLayer::new(ThrottleConfig::new()).layer(service_fn(plain)));
    occupied("timeout, retry, breaker, timeout", || {
        let stack = ServiceBuilder::new().layer(total()).layer(retry()).layer(breaker());
        stack.layer(attempt()).service_fn(plain)
    });
    occupied("timeout, fallback, retry, hedge, breaker, timeout", || {
        let outer = ServiceBuilder::new().layer(total()).layer(FallbackLayer::value(0)).layer(retry());
        outer.layer(quantile()).layer(breaker()).layer(attempt()).service_fn(plain)
    });
}

fn plain(request: u64) -> Ready<Result<u64, Error>> {
    ready(Ok(request))
}

fn occupied<S: Service<u64>>(name: &str, make: impl Fn() -> S) {
    drop(make());
    let before = Reading::now();
    let service = make();
    let after = Reading::now();
    let (bytes, blocks) = (after.bytes - before.bytes, after.blocks - before.blocks);
    println!("| {name} | {bytes} | {blocks} | {} | {} |", size_of_val(&service), size_of::<S::Future>());
}

/// What can happen to a breaker.
type Life = fn(&CircuitBreakerHandle);

const LIVES: &[(&str, Life)] = &[
    ("after 10,000 calls on one thread", |breaker| call(breaker, 10_000)),
    ("after it was open", |breaker| {
        breaker.trip();
        breaker.reset();
    }),
];

/// By how many bytes a breaker grows over such a life.
fn grown(config: CircuitBreakerConfig, life: Life) -> i64 {
    // Another one goes first: what is set up once for the process, or for the thread, is not the breaker's.
    life(&CircuitBreakerLayer::new(config.clone()).handle());
    let breaker = CircuitBreakerLayer::new(config).handle();
    let before = Reading::now();
    life(&breaker);
    let after = Reading::now();
    after.bytes - before.bytes
}

fn call(breaker: &CircuitBreakerHandle, calls: usize) {
    for call in 0..calls {
        if let Ok(permit) = breaker.try_acquire() {
            permit.finish(if call % 4 == 0 { Class::Failure } else { Class::Success });
        }
    }
}
