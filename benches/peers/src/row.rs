//! A row of the table: what is measured, and what it is compared with.

use crate::measure::{Contestant, Heap, Lap, Sample, heap, lap, run};

pub const BARE: &str = "bare service";
pub const OURS_COUNT: &str = "**stanchion**, 100 calls";
pub const OURS_TIME: &str = "**stanchion**, 60 s in 10 buckets, slow calls";
pub const OURS_OPEN: &str = "**stanchion**, open";
pub const OURS_RETRY: &str = "**stanchion**, retry with budget";
pub const OURS_TIMEOUT: &str = "**stanchion**, timeout";
pub const OURS_ARMED: &str = "**stanchion**, timeout, armed";
pub const OURS_HEDGE: &str = "**stanchion**, hedge";
pub const OURS_HEDGE_ARMED: &str = "**stanchion**, hedge, armed";
pub const OURS_FIXED_HEDGE: &str = "**stanchion**, hedge, fixed";
pub const OURS_FIXED_HEDGE_ARMED: &str = "**stanchion**, hedge, fixed, armed";
pub const OURS_FALLBACK: &str = "**stanchion**, fallback, not used";
pub const OURS_FELL_BACK: &str = "**stanchion**, fallback, used";
pub const OURS_SMALL_STACK: &str = "**stanchion**, timeout + retry + timeout";
pub const OURS_STACK: &str = "**stanchion**, timeout + retry + breaker (100 calls) + timeout";
pub const OURS_TIME_STACK: &str = "**stanchion**, timeout + retry + breaker (60 s) + timeout";
#[cfg(feature = "ours")]
pub const OURS_SLOW_STACK: &str = "**stanchion**, timeout + retry + breaker (60 s, slow calls) + timeout";
pub const OURS_RATE: &str = "**stanchion**, rate limit";
pub const OURS_RATE_BY_KEY: &str = "**stanchion**, rate limit by key";
pub const OURS_RATE_WAITS: &str = "**stanchion**, rate limit that waits, at once";
pub const OURS_RATE_REFUSED: &str = "**stanchion**, rate limit, rejected";
pub const OURS_KEY_REFUSED: &str = "**stanchion**, rate limit by key, rejected";
pub const OURS_BULKHEAD: &str = "**stanchion**, bulkhead";
#[cfg(feature = "ours")]
pub const OURS_BULKHEAD_WAITS: &str = "**stanchion**, bulkhead that waits, at once";
pub const OURS_BACKPRESSURE: &str = "**stanchion**, bulkhead, backpressure";
pub const OURS_FULL: &str = "**stanchion**, bulkhead, rejected";

/// How many of the calls must succeed, checked after every loop: a breaker that has tripped by itself, or one
/// that was meant to refuse and does not, would be fast and wrong.
#[derive(Clone, Copy, PartialEq)]
pub enum Expect {
    Success,
    Refusal,
    /// One call in 32 succeeds: the failed-call rows stay just below a threshold of 100 %.
    #[cfg_attr(not(feature = "ours"), expect(dead_code, reason = "only rows of ours fail"))]
    Failure,
}

impl Expect {
    pub fn check(self, name: &str, sample: Sample) {
        let Sample { calls, ok, .. } = sample;
        let as_expected = match self {
            Self::Success => ok == calls,
            Self::Refusal => ok == 0,
            Self::Failure => ok.abs_diff(calls / 32) <= 1,
        };
        assert!(as_expected, "{name}: {ok} of {calls} calls succeeded");
    }
}

pub struct Row {
    pub name: &'static str,
    pub expect: Expect,
    /// The row of ours that does the same job.
    pub ours: Option<&'static str>,
    /// Whether two threads may share the instance.
    pub shared: bool,
    pub lap: Box<dyn Fn() -> Lap>,
    /// Makes so many calls.
    pub run: Box<dyn Fn(u64)>,
    pub heap: Option<Box<dyn Fn() -> Heap>>,
}

impl Row {
    pub fn new<C: Contestant>(name: &'static str, expect: Expect, contestant: C) -> Self {
        let to_run = contestant.clone();
        Self {
            name,
            expect,
            ours: None,
            shared: true,
            lap: Box::new(move || lap(contestant.clone())),
            run: Box::new(move |calls| expect.check(name, run(to_run.clone(), calls))),
            heap: None,
        }
    }

    /// A row whose heap is measured too: `make` makes an independent breaker each time.
    pub fn with_heap<C: Contestant>(
        name: &'static str,
        expect: Expect,
        make: impl Fn() -> C + 'static,
    ) -> Self {
        let mut row = Self::new(name, expect, make());
        row.heap = Some(Box::new(move || heap(&make)));
        row
    }

    pub fn against(mut self, ours: &'static str) -> Self {
        self.ours = Some(ours);
        self
    }

    pub fn one_thread(mut self) -> Self {
        self.shared = false;
        self
    }
}
