//! Every layer under random calls, drops, panics and orders from other threads; at the end nothing may be missing.
//!
//!     cargo run --release --all-features --example stress            ten seconds
//!     cargo run --release --all-features --example stress -- 60      as many as given
//!
//! Each subject is a layer, or a stack of layers, around a service that fails, hangs, panics and is not ready at random. Callers
//! call it and give up at random, while a thread of its own changes its configuration and steers it. Then all callers stop, and
//! the books are balanced:
//!
//! - the service was never called when it was not ready, and each call that began has ended or was dropped;
//! - no permit is out, nobody waits, and the gauges that observers were told of are at zero;
//! - a breaker that is reset lets calls through, and a limit lets as many begin as it says, and no more;
//! - each call that a breaker let through was recorded once: succeeded, failed, ignored or cancelled.
//!
//! The seed is printed. It repeats the choices, not the interleaving of the threads.

#![allow(clippy::disallowed_methods, reason = "it takes real time, threads and tasks")]

mod books;
mod service;
mod subjects;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use service::Caught;
use subjects::{Subject, subjects};

/// Callers of each subject.
const CALLERS: usize = 16;

fn main() -> ExitCode {
    let seconds = std::env::args().nth(1).map_or(Ok(10), |seconds| seconds.parse());
    let Ok(seconds) = seconds else {
        eprintln!("usage: stress [seconds]");
        return ExitCode::FAILURE;
    };
    let seed = std::env::var("STRESS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}: STRESS_SEED={seed} repeats its choices");
    service::silence_planned_panics();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime can be made");
    if runtime.block_on(run(Duration::from_secs(seconds), seed)) {
        println!("nothing is missing");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn run(length: Duration, seed: u64) -> bool {
    let subjects = subjects();
    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = Vec::new();
    let mut operators = Vec::new();
    for (number, subject) in (0..).zip(&subjects) {
        for caller in 0..CALLERS as u64 {
            let random = fastrand::Rng::with_seed(seed ^ (number << 32) ^ caller);
            callers.push(tokio::spawn(call_until(Arc::clone(&stop), subject.clone(), random)));
        }
        let (stop, subject) = (Arc::clone(&stop), subject.clone());
        let random = fastrand::Rng::with_seed(seed ^ (number << 32) ^ u64::MAX);
        operators.push(std::thread::spawn(move || operate_until(&stop, &subject, random)));
    }
    let end = Instant::now() + length;
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for operator in operators {
        operator.join().expect("an operator does not panic");
    }
    let mut calls = 0;
    for caller in callers {
        calls += caller.await.expect("a caller catches what the service throws");
    }
    println!("{calls} calls of {} subjects in {length:?}", subjects.len());
    let mut is_balanced = true;
    for subject in &subjects {
        is_balanced &= subject.balance().await;
    }
    is_balanced
}

/// Calls, and gives up some of the calls; returns how many calls it made.
async fn call_until(stop: Arc<AtomicBool>, subject: Subject, mut random: fastrand::Rng) -> u64 {
    let mut calls = 0;
    let mut service = subject.service();
    while !stop.load(Ordering::Relaxed) {
        // Some callers keep their service, which may be ready, some take a new one.
        if random.u8(..) < 64 {
            service = subject.service();
        }
        let patience = Duration::from_micros(random.u64(0..4_000));
        let call = Caught(Box::pin(subjects::call(&mut service, random.fork())));
        // Dropped in the middle, if it takes longer.
        let _ = tokio::time::timeout(patience, call).await;
        calls += 1;
        if random.u8(..) < 16 {
            tokio::task::yield_now().await;
        }
    }
    calls
}

fn operate_until(stop: &AtomicBool, subject: &Subject, mut random: fastrand::Rng) {
    while !stop.load(Ordering::Relaxed) {
        subject.operate(&mut random);
        std::thread::sleep(Duration::from_micros(random.u64(0..2_000)));
    }
}
