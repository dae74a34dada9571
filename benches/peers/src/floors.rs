//! The least a breaker can do for what it promises, written as tower services: what is above these figures
//! is overhead.

use std::convert::Infallible;
use std::hint::black_box;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::*};
use std::time::Duration;

use tokio::time::Instant;
use tower::{Service, service_fn};

use crate::measure::Tower;
use crate::row::{BARE, Expect::*, OURS_COUNT, OURS_OPEN, OURS_TIME, Row};
use crate::service::{Failed, echo, fragile, opened};

const OPEN: u8 = 1;

/// What is only read and what every call writes lie on cache lines of their own (128 bytes: they are fetched
/// in pairs).
#[derive(Default)]
#[repr(align(128))]
struct Line<T>(T);

/// Where the calls are counted, and who keeps it alive until the future has ended.
trait Counter: Clone + Send + 'static {
    type Kept: Deref<Target = Line<AtomicU64>> + Send + 'static;

    fn keep(&self) -> Self::Kept;
}

/// Nobody: not open to a library, whose futures must own what they use, but the floor of the floors.
impl Counter for &'static Line<AtomicU64> {
    type Kept = Self;

    fn keep(&self) -> Self::Kept {
        *self
    }
}

/// Each future, by a reference count that all clones of the service share.
impl Counter for Arc<Line<AtomicU64>> {
    type Kept = Self;

    fn keep(&self) -> Self::Kept {
        Arc::clone(self)
    }
}

/// Each future, but every clone of the service counts, and is counted, on a line of its own.
#[derive(Default)]
struct Striped(Arc<Line<AtomicU64>>);

impl Clone for Striped {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Counter for Striped {
    type Kept = Arc<Line<AtomicU64>>;

    fn keep(&self) -> Self::Kept {
        Arc::clone(&self.0)
    }
}

/// Loads the state, calls, counts; with `CLOCKS` it also takes the time of the call.
fn floor<const CLOCKS: bool>(
    counter: impl Counter,
) -> Tower<impl Service<u64, Response = u64, Error = Infallible> + Clone + Send> {
    let mut inner = service_fn(echo::<Infallible>);
    let state = Arc::new(Line(AtomicU8::new(0)));
    Tower(service_fn(move |req| {
        // The bare service cannot fail, so neither can this one; the branch is there all the same.
        assert_ne!(state.0.load(Acquire), OPEN);
        let start = CLOCKS.then(Instant::now);
        let counter = counter.keep();
        let answer = inner.call(req);
        async move {
            let answer = answer.await;
            if let Some(start) = start {
                black_box(Instant::now().saturating_duration_since(start));
            }
            counter.0.fetch_add(1, AcqRel);
            answer
        }
    }))
}

/// Loads the state and compares the time with the end of the open phase.
fn open_floor() -> Tower<impl Service<u64, Response = u64, Error = Failed> + Clone + Send> {
    opened(|failing| {
        let mut inner = service_fn(move |req| fragile::<Failed>(failing, req));
        let state = Arc::new(Line(AtomicU8::new(OPEN)));
        let until = Instant::now() + Duration::from_secs(3_600);
        Tower(service_fn(move |req| {
            let refused = state.0.load(Acquire) == OPEN && Instant::now() < until;
            let answer = (!refused).then(|| inner.call(req));
            async move {
                match answer {
                    Some(answer) => answer.await,
                    None => Err(Failed),
                }
            }
        }))
    })
}

fn leaked() -> &'static Line<AtomicU64> {
    Box::leak(Box::default())
}

pub fn successes() -> Vec<Row> {
    let shared = Arc::<Line<AtomicU64>>::default;
    vec![
        Row::new(BARE, Success, Tower(service_fn(echo::<Infallible>))),
        Row::new("floor: load, 1 RMW", Success, floor::<false>(leaked())).against(OURS_COUNT),
        Row::new("floor: load, 1 RMW, `Arc` into the future", Success, floor::<false>(shared()))
            .against(OURS_COUNT),
        Row::new("floor: load, 1 RMW, line and `Arc` per clone", Success, floor::<false>(Striped::default()))
            .against(OURS_COUNT),
        Row::new("floor: load, 2 clocks, 1 RMW", Success, floor::<true>(leaked())).against(OURS_TIME),
        Row::new("floor: load, 2 clocks, 1 RMW, `Arc` into the future", Success, floor::<true>(shared()))
            .against(OURS_TIME),
        Row::new(
            "floor: load, 2 clocks, 1 RMW, line and `Arc` per clone",
            Success,
            floor::<true>(Striped::default()),
        )
        .against(OURS_TIME),
    ]
}

pub fn refusals() -> Vec<Row> {
    vec![Row::new("floor: load, 1 clock", Refusal, open_floor()).against(OURS_OPEN)]
}
