//! What happens to the server, and when.

use std::time::{Duration, Instant};

/// How the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Well,
    /// It answers at once, with an error.
    Fails,
    /// It takes the request and never answers.
    Hangs,
    /// It answers well, and closes the socket in the middle of the body.
    Cuts,
}

impl Condition {
    pub(crate) const fn is_fault(self) -> bool {
        !matches!(self, Self::Well)
    }

    pub(crate) const fn describe(self) -> &'static str {
        match self {
            Self::Well => "is well",
            Self::Fails => "fails: 500 and 503",
            Self::Hangs => "hangs: it never answers",
            Self::Cuts => "cuts its bodies off midway",
        }
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Fails => "fails",
            Self::Hangs => "hangs",
            Self::Cuts => "cuts",
        }
    }
}

const PHASES: [(Condition, Duration); 7] = [
    (Condition::Well, Duration::from_millis(1_500)),
    (Condition::Fails, Duration::from_millis(3_500)),
    (Condition::Well, Duration::from_millis(2_500)),
    (Condition::Hangs, Duration::from_millis(4_000)),
    // Trial calls that were sent just before it healed hang for their whole timeout, and then have another wait.
    (Condition::Well, Duration::from_millis(3_500)),
    (Condition::Cuts, Duration::from_millis(3_500)),
    (Condition::Well, Duration::from_millis(4_000)),
];

/// One phase, in time since the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) condition: Condition,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

impl Span {
    pub(crate) fn contains(&self, at: Duration) -> bool {
        (self.from..self.to).contains(&at)
    }
}

/// The script, and when it began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    origin: Instant,
}

impl Script {
    pub(crate) fn begin() -> Self {
        Self { origin: Instant::now() }
    }

    /// Time since the start; all times in this example are.
    pub(crate) fn now(self) -> Duration {
        self.origin.elapsed()
    }

    pub(crate) fn left(self) -> Duration {
        Self::length().saturating_sub(self.now())
    }

    pub(crate) fn is_over(self) -> bool {
        self.left().is_zero()
    }

    pub(crate) fn length() -> Duration {
        PHASES.iter().map(|(_, lasts)| *lasts).sum()
    }

    pub(crate) fn spans() -> impl Iterator<Item = Span> {
        PHASES.iter().scan(Duration::ZERO, |from, &(condition, lasts)| {
            let span = Span { condition, from: *from, to: *from + lasts };
            *from = span.to;
            Some(span)
        })
    }

    /// The three faults, each with the healthy phase that follows it.
    pub(crate) fn faults() -> impl Iterator<Item = (Span, Span)> {
        Self::spans().zip(Self::spans().skip(1)).filter(|(span, _)| span.condition.is_fault())
    }

    /// How the server is; after the end as it was at last.
    pub(crate) fn condition_at(at: Duration) -> Condition {
        Self::spans().find(|span| span.contains(at)).map_or(Condition::Well, |span| span.condition)
    }
}
