//! More calls than a server can answer, and what is left of it: goodput against offered load.
//!
//! ```text
//! cargo run --example overload --all-features
//! ```
//!
//! Takes some seconds with `--release`, and less than a minute without. The server is a simulation, the layers are the
//! real ones. What is random follows from a seed: `STANCHION_SEED=7` sets another. It prints tables, and draws two plots,
//! `overload.svg` and `overload_time.svg`, into the folder that it is given, or into `target`. Those of the docs are made by
//! `cargo run --release --example overload src/docs`.
//!
//! Ten workers take 10 ms for a call on average (exponential), so they can answer 1,000 per second. Callers leave after
//! 100 ms. Nobody tells the server: it answers those who have gone as well, unless it is said otherwise.
//!
//! What to look for: **how much of what the server does is of use to anybody** when it is asked for twice or ten times as
//! much as it can do. Without a limit the queue grows until every answer is late, and it is good for nothing while all its
//! workers are busy.
//!
//! It ends with an exit status that is not zero if any of this is not so.

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

/// Who guards the server. To see how another one does, add it here and to [`guard`](Self::guard).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contestant {
    Nobody,
    ExpiredSkipped,
    TooHigh,
    Tower,
    Refusing,
    Waiting,
    NewestFirst,
    Adaptive,
}

impl Contestant {
    const ALL: [Self; 8] = [
        Self::Nobody,
        Self::ExpiredSkipped,
        Self::TooHigh,
        Self::Tower,
        Self::Refusing,
        Self::Waiting,
        Self::NewestFirst,
        Self::Adaptive,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Nobody => "no limit",
            Self::ExpiredSkipped => "no limit, skips the expired",
            Self::TooHigh => "bulkhead of 200: too many",
            Self::Tower => "tower: limit 20, load shed",
            Self::Refusing => "bulkhead of 20, refuses",
            Self::Waiting => "bulkhead of 10, 20 wait",
            Self::NewestFirst => "bulkhead of 12, newest first",
            Self::Adaptive => "adaptive limit",
        }
    }

    fn guard<T: Scenario>(self, scenario: T) -> T::Outcome {
        // As many again wait at the server, so that its workers always have something to do.
        let twice = BulkheadConfig::new().max_in_flight(2 * WORKERS);
        match self {
            Self::Nobody => scenario.run(Guarded::new),
            // Whoever has left is not begun; whoever is about to leave is.
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
            Self::Refusing => scenario.run(|server| {
                let layer = BulkheadLayer::new(twice);
                let handle = layer.handle();
                Guarded::new(layer.layer(server)).limit(move || handle.snapshot().max_in_flight)
            }),
            Self::Waiting => scenario.run(|server| {
                // A call that has waited for half of its time has the other half to be answered in.
                let config = twice.max_in_flight(WORKERS).max_queued(20).max_wait(DEADLINE / 2);
                let layer = BulkheadLayer::waiting(config);
                let handle = layer.handle();
                Guarded::new(layer.layer(server)).limit(move || handle.snapshot().max_in_flight)
            }),
            Self::NewestFirst => scenario.run(|server| {
                // However many may wait: nobody does for longer than 5 ms while more come than can be served.
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
    for (name, plot) in
        [("overload.svg", report.goodput_by_load()), ("overload_time.svg", report.over_time())]
    {
        let path = folder.join(name);
        fs::write(&path, plot)?;
        println!("wrote {}", path.display());
    }
    if report.check() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("\nIt is not as this example says: see the lines above that begin with FAILED.");
    Ok(ExitCode::FAILURE)
}

/// What `run` makes of each job, in their order. Each simulation has a thread to itself.
fn on_all_cores<J: Sync, R: Send>(jobs: &[J], run: impl Fn(&J) -> R + Sync) -> Vec<R> {
    let left = Mutex::new(jobs.iter().enumerate());
    let lane = || {
        let next = iter::from_fn(|| left.lock().expect("nobody panics with it").next());
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
