//! The least that a breaker can do for what it promises, as services: what is above these figures is overhead.

use std::hint::black_box;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tower::{Service, service_fn};

use super::{Contestant, Error, Failed, Tower, echo};

/// On a cache line of its own; 128 bytes, because lines are fetched in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Line(AtomicU64);

/// A counter, and who keeps it alive until the future has ended.
pub(crate) trait Counter: Clone + Send + 'static {
    type Kept: Deref<Target = Line> + Send + 'static;

    fn keep(&self) -> Self::Kept;
}

/// Nobody: a library cannot have that, since its futures must own what they use.
impl Counter for &'static Line {
    type Kept = Self;

    fn keep(&self) -> Self {
        self
    }
}

/// Each future, by a reference count that all clones of the service share.
impl Counter for Arc<Line> {
    type Kept = Self;

    fn keep(&self) -> Self {
        Self::clone(self)
    }
}

/// Each future; and each clone of the service counts on a line of its own.
#[derive(Default)]
pub(crate) struct Striped(Arc<Line>);

impl Clone for Striped {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Counter for Striped {
    type Kept = Arc<Line>;

    fn keep(&self) -> Arc<Line> {
        Arc::clone(&self.0)
    }
}

/// Not kept by anybody: see [`Counter`].
pub(crate) fn leaked() -> &'static Line {
    Box::leak(Box::default())
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Clocks {
    None,
    End,
    StartAndEnd,
}

const OPEN: u64 = 1;

/// Loads the state, calls, counts, and reads the clock as often as `clocks` says.
pub(crate) fn passing(clocks: Clocks, counter: impl Counter) -> impl Contestant {
    let mut inner = service_fn(echo);
    let state = Arc::new(Line::default());
    let origin = Instant::now();
    Tower(service_fn(move |request| {
        // It is never open, and the branch is there all the same.
        assert_ne!(state.0.load(Ordering::Acquire), OPEN);
        let start = if clocks == Clocks::StartAndEnd { Instant::now() } else { origin };
        let counter = counter.keep();
        let answer = inner.call(request);
        async move {
            let answer = answer.await;
            if clocks != Clocks::None {
                black_box(Instant::now().saturating_duration_since(start));
            }
            counter.0.fetch_add(1, Ordering::AcqRel);
            answer
        }
    }))
}

/// Loads the state, and compares the time with the end of the open phase.
pub(crate) fn refusing() -> impl Contestant {
    let mut inner = service_fn(echo);
    let state = Arc::new(Line(AtomicU64::new(OPEN)));
    let until = Instant::now() + Duration::from_secs(3_600);
    Tower(service_fn(move |request| {
        let is_refused = state.0.load(Ordering::Acquire) == OPEN && Instant::now() < until;
        let answer = (!is_refused).then(|| inner.call(request));
        async move {
            match answer {
                Some(answer) => answer.await,
                None => Err(Error::Inner(Failed)),
            }
        }
    }))
}
