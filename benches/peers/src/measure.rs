//! How a row is measured: one loop for every contestant, on one thread or on two.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tower::{Service, ServiceExt};

/// One breaker around one service. A clone shares the breaker.
pub trait Contestant: Clone + Send + 'static {
    /// Makes one call; `true` when the service answered `Ok`.
    fn call(&mut self, req: u64) -> impl Future<Output = bool>;

    /// Runs before each chunk of the loop and outside its time. `Some(n)` limits the chunk to `n` calls.
    fn prepare(&mut self) -> impl Future<Output = Option<u64>> {
        std::future::ready(None)
    }
}

/// Any tower service.
#[derive(Clone)]
pub struct Tower<S>(pub S);

impl<S> Contestant for Tower<S>
where
    S: Service<u64> + Clone + Send + 'static,
{
    async fn call(&mut self, req: u64) -> bool {
        drive(&mut self.0, req).await
    }
}

/// The way tower says: ready first, then the call.
pub async fn drive<S: Service<u64>>(service: &mut S, req: u64) -> bool {
    match service.ready().await {
        // The whole answer is made opaque, so that no part of an error is optimised away.
        Ok(service) => black_box(service.call(req).await).is_ok(),
        Err(_) => false,
    }
}

/// The sum of the chunks of one loop.
#[derive(Clone, Copy, Default)]
pub struct Sample {
    pub calls: u64,
    pub ok: u64,
    pub allocations: u64,
    pub spent: Duration,
}

impl Sample {
    pub fn ns(&self) -> f64 {
        self.spent.as_nanos() as f64 / self.calls as f64
    }

    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.ok += other.ok;
        self.allocations += other.allocations;
        self.spent += other.spent;
    }
}

/// A loop over one clone of a contestant, ready to be sent to the thread that runs it.
pub type Lap = Box<dyn FnOnce(&Runtime, Duration, &Barrier) -> Sample + Send>;

pub fn lap<C: Contestant>(mut contestant: C) -> Lap {
    Box::new(move |runtime, budget, start| {
        // A loop that never waits would use up tokio's cooperative budget, and a breaker with a tokio lock
        // inside would be made to yield, which it would not in a request of its own. Hence `unconstrained`.
        runtime.block_on(tokio::task::unconstrained(async move {
            let mut next = 0;
            let mut size = 64;
            let mut total = Sample::default();
            let warm_up = chunk(&mut contestant, &mut next, size).await;
            size = size_of_chunk(warm_up);
            start.wait();
            while total.spent < budget {
                let limit = contestant.prepare().await;
                let sample = chunk(&mut contestant, &mut next, limit.unwrap_or(size)).await;
                size = size_of_chunk(sample);
                total.add(sample);
            }
            total
        }))
    })
}

/// Makes so many calls, by a clone of its own.
pub fn run(mut contestant: impl Contestant, calls: u64) -> Sample {
    block_on(tokio::task::unconstrained(async { chunk(&mut contestant, &mut 0, calls).await }))
}

/// About 100 us of calls: the two clock reads around a chunk disappear, and two threads stop at nearly the
/// same time.
fn size_of_chunk(last: Sample) -> u64 {
    (100_000.0 / last.ns().max(0.1)).clamp(16.0, 65_536.0) as u64
}

async fn chunk<C: Contestant>(contestant: &mut C, next: &mut u64, size: u64) -> Sample {
    let allocated = COUNTS.get().allocations;
    let mut ok = 0;
    let start = Instant::now();
    for req in *next..*next + size {
        ok += u64::from(contestant.call(black_box(req)).await);
    }
    let spent = start.elapsed();
    *next += size;
    Sample { calls: size, ok, allocations: COUNTS.get().allocations - allocated, spent }
}

/// Runs a future on a runtime that is of no further use.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    new_runtime().block_on(future)
}

fn new_runtime() -> Runtime {
    // The time driver, because a peer may want it; nothing here sleeps.
    Builder::new_current_thread().enable_time().build().expect("a current-thread runtime")
}

/// The calling thread and one more, each pinned to a core of its own, each with its own runtime, both living
/// as long as the run: what a library keeps per thread stays where it is.
pub struct Threads {
    here: Runtime,
    other: Option<Other>,
}

struct Other {
    jobs: Sender<Job>,
    results: Receiver<Sample>,
}

type Job = (Lap, Duration, Arc<Barrier>);

impl Threads {
    pub fn start() -> Self {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        if let Some(&core) = cores.first() {
            core_affinity::set_for_current(core);
        }
        let other = cores.get(1).map(|&core| {
            let (jobs, work) = channel::<Job>();
            let (done, results) = channel();
            std::thread::spawn(move || {
                core_affinity::set_for_current(core);
                let runtime = new_runtime();
                for (lap, budget, start) in work {
                    if done.send(lap(&runtime, budget, &start)).is_err() {
                        break;
                    }
                }
            });
            Other { jobs, results }
        });
        Self { here: new_runtime(), other }
    }

    pub fn one(&self, lap: Lap, budget: Duration) -> Sample {
        lap(&self.here, budget, &Barrier::new(1))
    }

    /// Both loops at once, of two clones of one instance. `None` on a machine with a single core.
    pub fn two(&self, laps: [Lap; 2], budget: Duration) -> Option<[Sample; 2]> {
        let Other { jobs, results } = self.other.as_ref()?;
        let start = Arc::new(Barrier::new(2));
        let [here, there] = laps;
        jobs.send((there, budget, Arc::clone(&start))).expect("the second thread lives");
        let mine = here(&self.here, budget, &start);
        Some([mine, results.recv().expect("the second thread lives")])
    }
}

/// Heap of one breaker in bytes, as asked from the allocator (not rounded up to its size classes).
#[derive(Clone, Copy)]
pub struct Heap {
    pub idle: f64,
    pub used: f64,
}

/// How many breakers are made, and how many calls a used one has seen.
const IDLE: usize = 10_000;
const USED: usize = 4;
const CALLS_HELD: u64 = 10_000;

pub fn heap<C: Contestant>(make: impl Fn() -> C) -> Heap {
    // The first one may set up what all share: a thread-local, a calibrated clock.
    drop(used(make()));
    Heap { idle: bytes_each(IDLE, &make), used: bytes_each(USED, || used(make())) }
}

fn used<C: Contestant>(mut contestant: C) -> C {
    block_on(tokio::task::unconstrained(async {
        for req in 0..CALLS_HELD {
            contestant.call(req).await;
        }
    }));
    contestant
}

fn bytes_each<C>(count: usize, make: impl Fn() -> C) -> f64 {
    let mut kept = Vec::with_capacity(count);
    let before = COUNTS.get().live;
    kept.extend(std::iter::repeat_with(make).take(count));
    let grown = COUNTS.get().live - before;
    drop(black_box(kept));
    grown as f64 / count as f64
}

/// What this thread has asked of the heap. Per thread, so that counting adds no shared cache line to a
/// contended row.
#[derive(Clone, Copy)]
struct Counts {
    allocations: u64,
    live: i64,
}

thread_local! {
    static COUNTS: Cell<Counts> = const { Cell::new(Counts { allocations: 0, live: 0 }) };
}

fn count(allocations: u64, bytes: i64) {
    let counts = COUNTS.get();
    COUNTS.set(Counts { allocations: counts.allocations + allocations, live: counts.live + bytes });
}

pub struct Counting;

// SAFETY: every call is passed on to `System` unchanged. The counters are a `const` thread-local without a
// destructor: reading them neither allocates nor fails, not even while a thread ends.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as i64 - layout.size() as i64);
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        unsafe { System.dealloc(block, layout) }
    }
}
