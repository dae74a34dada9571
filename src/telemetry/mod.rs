//! What layers do, while they do it.
//!
//! Each layer reports to its [`Observer`]s: those it was given, and with the features `metrics` and `tracing`
//! those two. A layer without any makes no events and reads no clock for them.
//!
//! Observers are called on the thread on which things happen, never under a lock. They may call back into
//! the layer. One that panics is unheard from there on for that event only. Changes of state arrive one at a time,
//! in the order in which they happened.
//!
#![cfg_attr(
    feature = "metrics",
    doc = "# Metrics

With the feature `metrics`; `<module>` is for instance `circuit_breaker`. Install the
recorder before you build the layer: handles are taken once.

| name | kind | labels |
|---|---|---|
| `stanchion_<module>_calls_total` | counter | `name`, `outcome`: `success`, `failure`, `ignored`, `cancelled` |
| `stanchion_<module>_slow_calls_total` | counter | `name` |
| `stanchion_<module>_rejections_total` | counter | `name`, `reason` |
| `stanchion_<module>_call_duration_seconds` | histogram | `name`, `outcome`: `success`, `failure` |
| `stanchion_<module>_state` | gauge, how many circuits are in the state: of one circuit, 1 for its state and 0 for all others | `name`, `state` |
| `stanchion_<module>_transitions_total` | counter | `name`, `from`, `to` |
| `stanchion_<module>_attempts_total` | counter | `name`, `outcome` |
| `stanchion_<module>_actions_total` | counter | `name`, `action`: see [`Action`] |
| `stanchion_<module>_budget_tokens`, `_budget_cap` | gauges, the tokens that were left of the budget when it was last asked, and the most that there can be; both 0 if it is unlimited | `name` |
| `stanchion_<module>_keys` | gauge, how many keys are held | `name` |
| `stanchion_<module>_in_flight`, `_queued`, `_limit` | gauges, how many calls are under way, wait, may be under way | `name` |

A module has the series of what it does: those that come with a state or a duration are the circuit breaker's, attempts
and a budget are those of `retry` and `hedge`. Gauges of several layers of one name add up, and each layer that goes away takes its own
part with it; so a budget that two of them share counts twice, in its tokens and in its cap. All series but those of the transitions exist from the start. The Prometheus exporter renders histograms as summaries
unless it is given buckets (`set_buckets`)."
)]

mod action;
#[cfg(feature = "metrics")]
mod metrics;
mod span;
#[cfg(feature = "tracing")]
mod tracing;

pub use action::Action;
pub(crate) use span::AttemptSpan;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::base::sync::{AtomicU64, Ordering};
use crate::classify::Class;
use crate::error::{Reason, Rejected};
use crate::primitives::budget::Budget;

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LayerId {
    /// The module of the layer, such as `circuit_breaker`.
    pub module: &'static str,
    /// The name of the layer.
    pub name: &'static str,
}

/// How a call ended for the layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallOutcome {
    /// The service did its job.
    Success,
    /// It did not.
    Failure,
    /// The end says nothing about the service.
    Ignored,
    /// The caller gave up.
    Cancelled,
}

impl CallOutcome {
    /// Every outcome, in the order of their numbers.
    pub const ALL: &'static [Self] = &[Self::Success, Self::Failure, Self::Ignored, Self::Cancelled];

    /// A stable name for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Ignored => "ignored",
            Self::Cancelled => "cancelled",
        }
    }
}

impl From<Class> for CallOutcome {
    #[inline]
    fn from(class: Class) -> Self {
        match class {
            Class::Success => Self::Success,
            Class::Failure => Self::Failure,
            Class::Ignored => Self::Ignored,
        }
    }
}

/// What a layer with a limit on calls under way has more or fewer of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConcurrencyGauge {
    /// Calls under way.
    InFlight,
    /// Calls that wait for their turn.
    Queued,
    /// Calls that may be under way.
    Limit,
}

impl ConcurrencyGauge {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::InFlight, Self::Queued, Self::Limit];

    /// A stable name for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::Queued => "queued",
            Self::Limit => "limit",
        }
    }
}

/// Something a layer did.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A call ended.
    #[non_exhaustive]
    Call {
        /// How.
        outcome: CallOutcome,
        /// Whether it took longer than it should.
        slow: bool,
        /// How long it took.
        latency: Duration,
    },
    /// A call was refused, or given up.
    Rejected(&'a Rejected),
    /// An attempt at a call ended, in a layer that makes several.
    #[non_exhaustive]
    Attempt {
        /// Which one, counted from 1.
        number: u32,
        /// How.
        outcome: CallOutcome,
    },
    /// A layer did something about a call, or could not.
    #[non_exhaustive]
    Action {
        /// What.
        action: Action,
        /// The attempt that it follows, counted from 1; zero where nothing is attempted.
        attempt: u32,
        /// How long it waits until it does so.
        wait: Duration,
        /// Whether it is the first time that this layer does so, of an action that should be seen.
        is_news: bool,
    },
    /// A last good answer is given again; the [`Action::ServedStale`] follows.
    #[non_exhaustive]
    Stale {
        /// How old it is.
        age: Duration,
    },
    /// A retry or a hedge was asked of a budget.
    #[non_exhaustive]
    Budget {
        /// The share of it that is left, 0 to 1.
        share: f64,
    },
    /// A layer with a state for each key holds another number of them.
    #[non_exhaustive]
    Keys {
        /// How many more.
        change: i64,
    },
    /// A layer with a limit on calls under way has more or fewer of something. Only observers that want calls are told.
    #[non_exhaustive]
    Concurrency {
        /// Of what.
        what: ConcurrencyGauge,
        /// How many more.
        change: i64,
    },
    /// A layer's state began to exist.
    #[non_exhaustive]
    StateCreated {
        /// The name of the state it is in.
        state: &'static str,
    },
    /// A layer's state ceased to exist: nobody can reach it any more.
    #[non_exhaustive]
    StateDropped {
        /// The name of the state it was in.
        state: &'static str,
    },
    /// The layer changed its state.
    #[non_exhaustive]
    StateChanged {
        /// The name of the state that ended.
        from: &'static str,
        /// The name of the state that began.
        to: &'static str,
        /// Whether it refuses calls from now on.
        refuses: bool,
        /// What was measured, against which threshold, over how many calls.
        cause: &'a dyn fmt::Display,
    },
    /// A layer that only observes would have changed its state.
    #[non_exhaustive]
    WouldChange {
        /// The name of the state that would have begun.
        to: &'static str,
        /// What was measured, against which threshold, over how many calls.
        cause: &'a dyn fmt::Display,
    },
}

impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { outcome, slow, latency } => f
                .debug_struct("Call")
                .field("outcome", outcome)
                .field("slow", slow)
                .field("latency", latency)
                .finish(),
            Self::StateCreated { state } => write!(f, "StateCreated({state})"),
            Self::StateDropped { state } => write!(f, "StateDropped({state})"),
            Self::Rejected(rejected) => f.debug_tuple("Rejected").field(rejected).finish(),
            Self::Attempt { number, outcome } => write!(f, "Attempt({number}: {})", outcome.as_str()),
            Self::Action { action, attempt, wait, .. } => {
                write!(f, "Action({} after attempt {attempt}, in {wait:?})", action.as_str())
            }
            Self::Stale { age } => write!(f, "Stale({age:?})"),
            Self::Budget { share } => write!(f, "Budget({share})"),
            Self::Keys { change } => write!(f, "Keys({change:+})"),
            Self::Concurrency { what, change } => write!(f, "Concurrency({} {change:+})", what.as_str()),
            Self::StateChanged { from, to, cause, .. } => write!(f, "StateChanged({from} -> {to}: {cause})"),
            Self::WouldChange { to, cause } => write!(f, "WouldChange({to}: {cause})"),
        }
    }
}

/// Listens to layers.
///
/// Implemented by every closure that takes a [`LayerId`] and an [`Event`].
pub trait Observer: Send + Sync {
    /// Called for each event. Must not block: a call waits for it.
    fn on_event(&self, source: &LayerId, event: &Event<'_>);

    /// Whether the end of each call is of interest. A layer without such observers spares itself the
    /// readings of the clock that measuring a call takes.
    fn wants_calls(&self) -> bool {
        true
    }
}

impl<F: Fn(&LayerId, &Event<'_>) + Send + Sync> Observer for F {
    fn on_event(&self, source: &LayerId, event: &Event<'_>) {
        self(source, event);
    }
}

/// What the layers of a module report, so that each series of their metrics exists from the start.
#[derive(Debug)]
#[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "only metrics are registered"))]
pub(crate) struct Vocabulary<'a> {
    pub(crate) module: &'static str,
    pub(crate) states: &'a [&'static str],
    pub(crate) reasons: &'a [Reason],
    pub(crate) actions: &'a [Action],
    /// Whether they report calls, attempts.
    pub(crate) calls: bool,
    pub(crate) attempts: bool,
    pub(crate) budget: Option<&'a Budget>,
    /// Whether they have a state for each key, a limit on calls under way.
    pub(crate) keys: bool,
    pub(crate) load: bool,
}

impl<'a> Vocabulary<'a> {
    /// Nothing but refusals for `reasons`.
    pub(crate) const fn new(module: &'static str, reasons: &'a [Reason]) -> Self {
        Self {
            module,
            states: &[],
            reasons,
            actions: &[],
            calls: false,
            attempts: false,
            budget: None,
            keys: false,
            load: false,
        }
    }
}

/// The observers of one layer.
pub(crate) struct Telemetry {
    source: LayerId,
    observers: Box<[Arc<dyn Observer>]>,
    wants_calls: bool,
    /// The actions that have been reported as news, one bit each.
    told: AtomicU64,
}

impl Telemetry {
    pub(crate) fn new(vocabulary: &Vocabulary<'_>, name: &'static str, given: &[Arc<dyn Observer>]) -> Self {
        let source = LayerId { module: vocabulary.module, name };
        #[allow(unused_mut, reason = "only features add to it")]
        let mut observers = given.to_vec();
        #[cfg(feature = "metrics")]
        observers.push(Arc::new(metrics::Metrics::register(source, vocabulary)));
        #[cfg(feature = "tracing")]
        observers.push(Arc::new(tracing::Tracing));
        let wants_calls = observers.iter().any(|observer| observer.wants_calls());
        Self { source, observers: observers.into(), wants_calls, told: AtomicU64::new(0) }
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.source.name
    }

    /// Whether anybody listens.
    pub(crate) const fn is_observed(&self) -> bool {
        !self.observers.is_empty()
    }

    /// Whether calls need to be measured.
    pub(crate) const fn wants_calls(&self) -> bool {
        self.wants_calls
    }

    /// Tells all observers. None of them can harm another, or the call.
    pub(crate) fn emit(&self, event: &Event<'_>) {
        for observer in &self.observers {
            let _ = catch_unwind(AssertUnwindSafe(|| observer.on_event(&self.source, event)));
        }
    }

    /// Tells that something was done after `attempt`.
    pub(crate) fn act(&self, action: Action, attempt: u32, wait: Duration) {
        if self.is_observed() {
            let is_news = action.is_mistake() && self.is_first(action);
            self.emit(&Event::Action { action, attempt, wait, is_news });
        }
    }

    /// Tells how much is left of `budget`.
    pub(crate) fn tell(&self, budget: &Budget) {
        if self.wants_calls() {
            self.emit(&Event::Budget { share: budget.share() });
        }
    }

    fn is_first(&self, action: Action) -> bool {
        let bit = 1 << (action as u32);
        let told = self.told.load(Ordering::Relaxed);
        // Of two threads that find it untold both may tell it.
        self.told.store(told | bit, Ordering::Relaxed);
        told & bit == 0
    }

    /// The span of an attempt at a call, and of its copy number `hedge`.
    pub(crate) fn attempt(&self, number: u32, hedge: u32) -> AttemptSpan {
        AttemptSpan::new(&self.source, number, hedge)
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("source", &self.source)
            .field("observers", &self.observers.len())
            .finish()
    }
}
