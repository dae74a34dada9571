//! Events of layers, observers, metrics and logs.
//!
//! Each layer reports events to its [`Observer`]s: those that were added to it, and those of the
//! features `metrics` and `tracing`. A layer without observers creates no events, and reads no
//! clock for them.
//!
//! Observers are called on the thread on which the event happens, and never under a lock. They may
//! call back into the layer. If an observer panics, only that event is lost for it. Changes of
//! state arrive one at a time, in the order in which they happened.
//!
#![cfg_attr(
    feature = "metrics",
    doc = "# Metrics

With the feature `metrics`; `<module>` is `circuit_breaker`, for example. Install the
recorder before you create the layer: it takes its handles only once.

| name | kind | labels |
|---|---|---|
| `stanchion_<module>_calls_total` | counter | `name`, `outcome`: `success`, `failure`, `ignored`, `cancelled` |
| `stanchion_<module>_slow_calls_total` | counter | `name` |
| `stanchion_<module>_rejections_total` | counter | `name`, `reason` |
| `stanchion_<module>_call_duration_seconds` | histogram | `name`, `outcome`: `success`, `failure` |
| `stanchion_<module>_state` | gauge: number of circuits in the state; a single circuit counts as 1 in its state and as 0 in all others | `name`, `state` |
| `stanchion_<module>_transitions_total` | counter | `name`, `from`, `to` |
| `stanchion_<module>_attempts_total` | counter | `name`, `outcome` |
| `stanchion_<module>_actions_total` | counter | `name`, `action`: see [`Action`] |
| `stanchion_<module>_budget_tokens`, `_budget_cap` | gauges: tokens left in the budget when it was last used, and the maximum; both are 0 for an unlimited budget | `name` |
| `stanchion_<module>_keys` | gauge: number of tracked keys | `name` |
| `stanchion_<module>_in_flight`, `_queued`, `_limit` | gauges: calls in flight, calls in the queue, and the limit on calls in flight | `name` |

Each module has only the series that it needs: state and duration belong to the circuit breaker, attempts
and budget to `retry` and `hedge`. Gauges of several layers with one name add up, and a layer removes
its own part when it is dropped. A budget that two such layers share therefore counts twice, in its tokens
and in its cap. All series except the transitions exist from the start. The Prometheus exporter renders
histograms as summaries unless it has buckets (`set_buckets`)."
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

/// The origin of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct LayerId {
    /// The module of the layer, such as `circuit_breaker`.
    pub module: &'static str,
    /// The name of the layer.
    pub name: &'static str,
}

/// The outcome of a call, as its layer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CallOutcome {
    /// The service worked.
    Success,
    /// The service failed.
    Failure,
    /// The call says nothing about the service.
    Ignored,
    /// The caller dropped the call.
    Cancelled,
}

impl CallOutcome {
    /// All outcomes, in the order of their discriminants.
    pub const ALL: &'static [Self] = &[Self::Success, Self::Failure, Self::Ignored, Self::Cancelled];

    /// Returns a stable name for metrics and logs.
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

/// A quantity that a layer with a limit on calls in flight reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConcurrencyGauge {
    /// The number of calls in flight.
    InFlight,
    /// The number of calls in the queue.
    Queued,
    /// The maximum number of calls in flight.
    Limit,
}

impl ConcurrencyGauge {
    /// All quantities.
    pub const ALL: &'static [Self] = &[Self::InFlight, Self::Queued, Self::Limit];

    /// Returns a stable name for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::Queued => "queued",
            Self::Limit => "limit",
        }
    }
}

/// An event of a layer.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A call ended.
    #[non_exhaustive]
    Call {
        /// The outcome of the call.
        outcome: CallOutcome,
        /// `true` if the call took longer than it should.
        slow: bool,
        /// The duration of the call.
        latency: Duration,
    },
    /// A call was rejected or given up.
    Rejected(&'a Rejected),
    /// An attempt ended, in a layer that makes several for one call.
    #[non_exhaustive]
    Attempt {
        /// The number of the attempt, counted from 1.
        number: u32,
        /// The outcome of the attempt.
        outcome: CallOutcome,
    },
    /// A layer acted on a call, or could not.
    #[non_exhaustive]
    Action {
        /// The action.
        action: Action,
        /// The attempt before the action, counted from 1; zero in layers without attempts.
        attempt: u32,
        /// The time until the layer acts.
        wait: Duration,
        /// `true` if this action indicates a wrong setup, and the layer reports it for the first
        /// time.
        is_news: bool,
    },
    /// A stored response is returned; [`Action::ServedStale`] follows.
    #[non_exhaustive]
    Stale {
        /// The age of the response.
        age: Duration,
    },
    /// A retry or a hedge has asked its budget for a token.
    #[non_exhaustive]
    Budget {
        /// The share of the budget that is left, from 0 to 1.
        share: f64,
    },
    /// The number of keys that a layer tracks has changed.
    #[non_exhaustive]
    Keys {
        /// The difference to the previous number.
        change: i64,
    },
    /// A quantity of a layer with a limit on calls in flight has changed. Sent only to layers with
    /// an observer that wants calls.
    #[non_exhaustive]
    Concurrency {
        /// The quantity.
        what: ConcurrencyGauge,
        /// The difference to the previous value.
        change: i64,
    },
    /// A layer has created its state.
    #[non_exhaustive]
    StateCreated {
        /// The name of the initial state.
        state: &'static str,
    },
    /// A layer has dropped its state: no service, clone or handle refers to it any more.
    #[non_exhaustive]
    StateDropped {
        /// The name of the last state.
        state: &'static str,
    },
    /// A layer has changed its state.
    #[non_exhaustive]
    StateChanged {
        /// The name of the state that ended.
        from: &'static str,
        /// The name of the state that began.
        to: &'static str,
        /// `true` if the new state rejects calls.
        refuses: bool,
        /// The measured value, its threshold, and the number of calls it is based on.
        cause: &'a dyn fmt::Display,
    },
    /// A layer that only observes would have changed its state.
    #[non_exhaustive]
    WouldChange {
        /// The name of the state that would have begun.
        to: &'static str,
        /// The measured value, its threshold, and the number of calls it is based on.
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

/// Receives the events of layers.
///
/// Implemented for every closure that takes a [`LayerId`] and an [`Event`].
pub trait Observer: Send + Sync {
    /// Handles an event. Must not block, since it runs in the task of a call.
    fn on_event(&self, source: &LayerId, event: &Event<'_>);

    /// Returns `true` if the observer needs the end and the duration of each call. A layer without
    /// such an observer does not read the clock to measure calls. Default: `true`.
    fn wants_calls(&self) -> bool {
        true
    }
}

impl<F: Fn(&LayerId, &Event<'_>) + Send + Sync> Observer for F {
    fn on_event(&self, source: &LayerId, event: &Event<'_>) {
        self(source, event);
    }
}

/// The metrics that the layers of a module report, which are registered when a layer is created.
#[derive(Debug)]
#[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "only metrics are registered"))]
pub(crate) struct MetricSet<'a> {
    pub(crate) module: &'static str,
    pub(crate) states: &'a [&'static str],
    pub(crate) reasons: &'a [Reason],
    pub(crate) actions: &'a [Action],
    /// `true` for modules that count calls and measure their duration.
    pub(crate) calls: bool,
    /// `true` for modules that make several attempts for one call.
    pub(crate) attempts: bool,
    pub(crate) budget: Option<&'a Budget>,
    /// `true` for modules with a state per key.
    pub(crate) keys: bool,
    /// `true` for modules with a limit on calls in flight.
    pub(crate) load: bool,
}

impl<'a> MetricSet<'a> {
    /// Creates a set with nothing but rejections for `reasons`.
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
    /// One bit for each action that has been reported as news.
    reported: AtomicU64,
}

impl Telemetry {
    pub(crate) fn new(set: &MetricSet<'_>, name: &'static str, given: &[Arc<dyn Observer>]) -> Self {
        let source = LayerId { module: set.module, name };
        #[allow(unused_mut, reason = "only features add to it")]
        let mut observers = given.to_vec();
        #[cfg(feature = "metrics")]
        observers.push(Arc::new(metrics::Metrics::register(source, set)));
        #[cfg(feature = "tracing")]
        observers.push(Arc::new(tracing::Tracing));
        let wants_calls = observers.iter().any(|observer| observer.wants_calls());
        Self { source, observers: observers.into(), wants_calls, reported: AtomicU64::new(0) }
    }

    pub(crate) const fn name(&self) -> &'static str {
        self.source.name
    }

    /// Returns `true` if there is an observer.
    pub(crate) const fn is_observed(&self) -> bool {
        !self.observers.is_empty()
    }

    /// Returns `true` if an observer needs the end and the duration of each call.
    pub(crate) const fn wants_calls(&self) -> bool {
        self.wants_calls
    }

    /// Sends `event` to all observers. A panic of one observer affects neither the others nor the
    /// call.
    pub(crate) fn emit(&self, event: &Event<'_>) {
        for observer in &self.observers {
            let _ = catch_unwind(AssertUnwindSafe(|| observer.on_event(&self.source, event)));
        }
    }

    /// Reports an action after `attempt`.
    pub(crate) fn act(&self, action: Action, attempt: u32, wait: Duration) {
        if self.is_observed() {
            let is_news = action.is_mistake() && self.is_first(action);
            self.emit(&Event::Action { action, attempt, wait, is_news });
        }
    }

    /// Reports the share of `budget` that is left.
    pub(crate) fn emit_budget(&self, budget: &Budget) {
        if self.wants_calls() {
            self.emit(&Event::Budget { share: budget.share() });
        }
    }

    fn is_first(&self, action: Action) -> bool {
        let bit = 1 << (action as u32);
        let reported = self.reported.load(Ordering::Relaxed);
        // Two threads may both find the bit unset, and both report the action. That is harmless.
        self.reported.store(reported | bit, Ordering::Relaxed);
        reported & bit == 0
    }

    /// Creates the span of attempt `number` at a call and its copy `hedge`.
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
