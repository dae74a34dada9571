//! What a breaker adds to a call, on one thread.
//!
//!     cargo bench --bench overhead                         Criterion's estimates, then a table of ratios
//!     cargo bench --bench overhead --features metrics      with a recorder that records
//!     cargo bench --bench overhead -- --ratios             the table alone, in ten seconds
//!     cargo bench --bench overhead -- --test               each case once, not measured
//!
//! Criterion measures one case after another, which a machine with other work to do spoils. For the table all cases
//! take turns, and the best of many short rounds counts. `docs::performance` says what each case is.

mod support;

use std::time::Duration;

use criterion::{Criterion, Throughput};
use tokio::runtime::Runtime;

use support::{Case, Lap, cases, each, has_flag, is_test};

fn main() {
    let keep_up = support::record_metrics();
    let runtime = support::runtime();
    let cases = cases::all();
    if !has_flag("--ratios") {
        estimates(&cases, &runtime, &keep_up);
    }
    if !has_flag("--list") {
        ratios(&cases, &runtime, &keep_up);
    }
}

fn estimates(cases: &[Case], runtime: &Runtime, keep_up: &impl Fn()) {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut group = criterion.benchmark_group(format!("one call{}", support::LISTENING));
    group.throughput(Throughput::Elements(1));
    for case in cases {
        let mut lap = case.lap();
        group.bench_function(case.name, |bencher| {
            bencher.iter_custom(|calls| {
                keep_up();
                lap(runtime, calls)
            });
        });
    }
    group.finish();
    criterion.final_summary();
}

/// A row of the table: a case, and the nanoseconds of a call in each round.
struct Row<'a> {
    case: &'a Case,
    lap: Lap,
    rounds: Vec<f64>,
}

impl Row<'_> {
    fn best(&self) -> f64 {
        self.rounds.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn median(&self) -> f64 {
        let mut sorted = self.rounds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

fn ratios(cases: &[Case], runtime: &Runtime, keep_up: &impl Fn()) {
    const CALLS: u64 = 3_000;
    let rounds = if is_test() { 1 } else { 500 };
    let mut rows: Vec<Row<'_>> =
        cases.iter().map(|case| Row { case, lap: case.lap(), rounds: Vec::new() }).collect();
    for _ in 0..rounds {
        for row in &mut rows {
            // What the caches and the branch predictor have of the case before is not its business.
            (row.lap)(runtime, 100);
            row.rounds.push(each((row.lap)(runtime, CALLS), CALLS));
        }
        keep_up();
    }
    if is_test() {
        return;
    }
    let best = |name: &str| rows.iter().find(|row| row.case.name == name).map(Row::best);
    println!("\n| one call{} | ns, best | ns, median | x floor | floor |", support::LISTENING);
    println!("|---|---:|---:|---:|---|");
    for row in &rows {
        let (ratio, floor) = match row.case.floor.and_then(|floor| Some((best(floor)?, floor))) {
            Some((least, floor)) => (format!("{:.2}", row.best() / least), floor),
            None => ("-".to_owned(), "-"),
        };
        println!("| {} | {:.1} | {:.1} | {ratio} | {floor} |", row.case.name, row.best(), row.median());
    }
}
