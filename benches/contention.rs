//! One breaker, shared by the services of several threads, each with a runtime of its own.
//!
//!     cargo bench --bench contention                Criterion's estimates, then a table
//!     cargo bench --bench contention -- --table     the table alone, in less than a minute
//!     cargo bench --bench contention -- --test      each case once, not measured
//!
//! A figure is the time that passes for each call that completes, whichever thread made it: half of it on twice the
//! threads is perfect scaling. More threads than cores say how it behaves then, not how it scales.

#![allow(clippy::disallowed_methods, reason = "a bench measures time")]

mod support;

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};

use support::{Case, cases, each, has_flag, is_test};

const THREADS: [usize; 3] = [1, 2, 4];

fn main() {
    let keep_up = support::record_metrics();
    let cases = cases::all();
    if !has_flag("--table") {
        estimates(&cases, &keep_up);
    }
    if !has_flag("--list") {
        table(&cases, &keep_up);
    }
}

fn estimates(cases: &[Case], keep_up: &impl Fn()) {
    let mut criterion = Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for case in cases {
        let mut group = criterion.benchmark_group(format!("{}{}", case.name, support::LISTENING));
        group.throughput(Throughput::Elements(1));
        for threads in THREADS {
            group.bench_with_input(BenchmarkId::from_parameter(threads), &threads, |bencher, threads| {
                bencher.iter_custom(|calls| {
                    keep_up();
                    // As many calls in all, so that each takes its share of the time.
                    together(case, *threads, calls.div_ceil(*threads as u64))
                });
            });
        }
        group.finish();
    }
    criterion.final_summary();
}

/// How long it takes until all of `threads` threads have made `calls` calls each.
fn together(case: &Case, threads: usize, calls: u64) -> Duration {
    let start = Barrier::new(threads);
    let start = &start;
    thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|_| {
                let mut lap = case.lap();
                scope.spawn(move || {
                    let runtime = support::runtime();
                    lap(&runtime, 100);
                    start.wait();
                    let began = Instant::now();
                    lap(&runtime, calls);
                    (began, Instant::now())
                })
            })
            .collect();
        let spans: Vec<(Instant, Instant)> =
            running.into_iter().map(|thread| thread.join().expect("no call panics")).collect();
        let began = spans.iter().map(|(began, _)| *began).min();
        let ended = spans.iter().map(|(_, ended)| *ended).max();
        began.zip(ended).map_or(Duration::ZERO, |(began, ended)| ended - began)
    })
}

fn table(cases: &[Case], keep_up: &impl Fn()) {
    let rounds = if is_test() { 1 } else { 41 };
    let calls: Vec<u64> =
        cases.iter().map(|case| if is_test() { 100 } else { calls_in_a_round(case) }).collect();
    let mut figures = vec![[(); THREADS.len()].map(|()| Vec::new()); cases.len()];
    for _ in 0..rounds {
        for ((case, calls), figures) in cases.iter().zip(&calls).zip(&mut figures) {
            for (threads, figures) in THREADS.iter().zip(figures) {
                let took = together(case, *threads, *calls);
                figures.push(each(took, calls * *threads as u64));
            }
        }
        keep_up();
    }
    if is_test() {
        return;
    }
    println!("\n| ns for each call that completes, median{} | 1 thread | 2 | 4 |", support::LISTENING);
    println!("|---|---:|---:|---:|");
    for (case, figures) in cases.iter().zip(&figures) {
        let [one, two, four] = figures.each_ref().map(|figures| median(figures));
        println!("| {} | {one:.1} | {two:.1} | {four:.1} |", case.name);
    }
}

/// As many as take one thread some milliseconds. In a round that is shorter than it takes to wake a thread, the threads
/// would run one after the other.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive figure, and a small one"
)]
fn calls_in_a_round(case: &Case) -> u64 {
    const TRIED: u64 = 10_000;
    let nanoseconds = each(together(case, 1, TRIED), TRIED);
    (5_000_000.0 / nanoseconds.max(0.1)) as u64 + 1
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
