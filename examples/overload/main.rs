//! Goodput of an overloaded server by the limit in front of it.
//!
//! ```text
//! cargo run --example overload --all-features
//! ```
//!
//! The example takes some seconds with `--release`, and less than a minute without. The server is a
//! simulation, the layers are the real ones. Random numbers follow from a seed: `STANCHION_SEED=7` sets
//! another one. The example prints tables, and draws two plots into the folder that it is given, or into
//! `target`: `overload.svg`, with a copy as a data URI in `overload.uri`, and `overload_time.svg`. The plots
//! of the docs are made by `cargo run --release --example overload src/docs`.
//!
//! Ten workers take 10 ms for a call on average (exponential), so the capacity is 1,000 calls per second.
//! Callers leave after 100 ms. The server does not notice, and works for them nevertheless, unless the row
//! says that expired calls are skipped.
//!
//! The goodput is the number of calls per second that end in time. Without a limit, the queue grows until
//! every response is late: all workers are busy, and the goodput is zero.
//!
//! The exit status is not zero if one of the claims that the example prints does not hold.

#[path = "../../tests/support/fault.rs"]
mod fault;
#[path = "../../tests/support/overload.rs"]
mod overload;
#[path = "../../tests/support/virtual_server.rs"]
mod virtual_server;

mod plot;
mod report;
mod scenario;

use std::fs;
use std::iter;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

use stanchion::{
    AdaptiveLimitConfig, AdaptiveLimitLayer, BulkheadConfig, BulkheadLayer, Error, QueueDiscipline,
    TimeoutLayer,
};
use tower::{BoxError, Layer, ServiceBuilder};

use crate::fault::Fault;
use crate::overload::{DEADLINE, LEFT};
use crate::report::Report;
use crate::scenario::{Guarded, Overload, Scenario, Troubles, WORKERS};
use crate::virtual_server::{Failed, Orphans};

/// A limit in front of the server. To compare another one, add it here and to [`guard`](Self::guard).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contestant {
    Unlimited,
    ExpiredSkipped,
    TooHigh,
    Tower,
    Rejecting,
    Queueing,
    NewestFirst,
    Adaptive,
}

impl Contestant {
    const ALL: [Self; 8] = [
        Self::Unlimited,
        Self::ExpiredSkipped,
        Self::TooHigh,
        Self::Tower,
        Self::Rejecting,
        Self::Queueing,
        Self::NewestFirst,
        Self::Adaptive,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Unlimited => "no limit",
            Self::ExpiredSkipped => "no limit, expired calls skipped",
            Self::TooHigh => "bulkhead of 200 (too high)",
            Self::Tower => "tower limit of 20, load shed",
            Self::Rejecting => "bulkhead of 20, rejects",
            Self::Queueing => "bulkhead of 10, queue of 20",
            Self::NewestFirst => "bulkhead of 12, newest first",
            Self::Adaptive => "adaptive limit",
        }
    }

    fn guard<T: Scenario>(self, scenario: T) -> T::Outcome {
        // The server's own queue holds as many calls as it has workers, so that no worker is idle.
        let twice = BulkheadConfig::new().max_in_flight(2 * WORKERS);
        match self {
            Self::Unlimited => scenario.run(Guarded::new),
            // Calls whose callers have left are not started. Calls that expire a moment later are.
            Self::ExpiredSkipped => scenario.run(|server| {
                let layers = ServiceBuilder::new().map_err(|_| LEFT).layer(TimeoutLayer::after(DEADLINE));
                Guarded::new(layers.service(server.orphans(Orphans::Skipped)))
            }),
            Self::TooHigh => scenario.run(|server| {
                let layer = BulkheadLayer::new(twice.max_in_flight(20 * WORKERS));
                let handle = layer.handle();
                Guarded::new(layer.layer(server)).limit(move || handle.snapshot().max_in_flight)
            }),
            Self::Tower => scenario.run(|server| {
                let layers = ServiceBuilder::new()
                    .map_err(|_: BoxError| -> Failed { Error::Inner(Fault("overloaded")) })
                    .load_shed()
                    .concurrency_limit(2 * WORKERS as usize);
                Guarded::new(layers.service(server)).limit(|| 2 * WORKERS)
            }),
            Self::Rejecting => scenario.run(|server| {
                let layer = BulkheadLayer::new(twice);
                let handle = layer.handle();
                Guarded::new(layer.layer(server)).limit(move || handle.snapshot().max_in_flight)
            }),
            Self::Queueing => scenario.run(|server| {
                // A call that has waited for half of its time has the other half for its service.
                let config = twice.max_in_flight(WORKERS).max_queued(20).max_wait(DEADLINE / 2);
                let layer = BulkheadLayer::waiting(config);
                let handle = layer.handle();
                Guarded::new(layer.layer(server)).limit(move || handle.snapshot().max_in_flight)
            }),
            Self::NewestFirst => scenario.run(|server| {
                // The size of the queue is irrelevant: under overload no call waits for longer than 5 ms.
                let config = twice.max_in_flight(WORKERS + 2).max_queued(10_000);
                let layer = BulkheadLayer::waiting(config.discipline(QueueDiscipline::adaptive_lifo()));
                let handle = layer.handle();
                Guarded::new(layer.layer(server)).limit(move || handle.snapshot().max_in_flight)
            }),
            Self::Adaptive => scenario.run(|server| {
                let layer = AdaptiveLimitLayer::new(AdaptiveLimitConfig::new());
                let handle = layer.handle();
                Guarded::new(layer.layer(server)).limit(move || handle.snapshot().max_in_flight)
            }),
        }
    }
}

fn main() -> Result<ExitCode, std::io::Error> {
    let folder = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("target"), PathBuf::from);
    report::introduce();
    let overloads = Contestant::ALL.map(|contestant| Overload::LOADS.map(|load| (contestant, load)));
    // The longest first.
    let mut jobs = overloads.concat();
    jobs.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    let outcomes = on_all_cores(&jobs, |(contestant, load)| contestant.guard(Overload { load: *load }));
    let troubles = on_all_cores(&Contestant::ALL, |contestant| contestant.guard(Troubles));

    let report = Report::new(jobs.into_iter().zip(outcomes).collect(), troubles);
    report.print();
    fs::create_dir_all(&folder)?;
    let goodput = report.goodput_by_load();
    for (name, plot) in [
        ("overload.uri", plot::data_uri(&goodput)),
        ("overload.svg", goodput),
        ("overload_time.svg", report.over_time()),
    ] {
        let path = folder.join(name);
        fs::write(&path, plot)?;
        println!("wrote {}", path.display());
    }
    if report.check() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("\nA claim of this example does not hold: see the lines above that start with FAILED.");
    Ok(ExitCode::FAILURE)
}

/// Returns the results of `run` for each job, in their order. Each simulation runs on one thread.
fn on_all_cores<J: Sync, R: Send>(jobs: &[J], run: impl Fn(&J) -> R + Sync) -> Vec<R> {
    let left = Mutex::new(jobs.iter().enumerate());
    let lane = || {
        let next = iter::from_fn(|| left.lock().expect("no thread panics while it holds the lock").next());
        next.map(|(place, job)| (place, run(job))).collect::<Vec<_>>()
    };
    let mut results: Vec<(usize, R)> = thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let lanes: Vec<_> = (0..threads).map(|_| scope.spawn(lane)).collect();
        lanes.into_iter().flat_map(|lane| lane.join().expect("no simulation panics")).collect()
    });
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}
