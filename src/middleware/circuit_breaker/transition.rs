use std::fmt;
use std::time::Duration;

use crate::base::clock::Rounded;

/// What a circuit does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Calls pass, and are judged.
    Closed,
    /// Calls are refused.
    Open,
    /// A few trial calls pass, the others are refused.
    HalfOpen,
    /// The trial calls have succeeded: a growing share of calls passes.
    Recovering,
    /// Calls pass, and nothing is recorded. By hand only.
    Disabled,
    /// Calls are refused until further notice. By hand only.
    ForcedOpen,
    /// Calls pass and are judged, and what the circuit would do is reported instead of done. By hand only.
    ObserveOnly,
}

impl State {
    /// Every state, in the order of their numbers.
    pub const ALL: &'static [Self] = &[
        Self::Closed,
        Self::Open,
        Self::HalfOpen,
        Self::Recovering,
        Self::Disabled,
        Self::ForcedOpen,
        Self::ObserveOnly,
    ];

    /// A stable name for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Recovering => "recovering",
            Self::Disabled => "disabled",
            Self::ForcedOpen => "forced_open",
            Self::ObserveOnly => "observe_only",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a circuit changed its state: what was measured, against which threshold, over how many calls.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// Too many of the calls failed.
    #[non_exhaustive]
    FailureRatio {
        /// The share that failed, 0 to 1.
        measured: f64,
        /// The share that opens the circuit.
        threshold: f64,
        /// How many calls were judged.
        calls: u64,
    },
    /// Too many of the calls were slow.
    #[non_exhaustive]
    SlowRatio {
        /// The share that was slow, 0 to 1.
        measured: f64,
        /// The share that opens the circuit.
        threshold: f64,
        /// How many calls were judged, those in flight for too long among them.
        calls: u64,
        /// How many of them were still in flight.
        in_flight: u64,
        /// From when on a call is slow.
        slow_after: Duration,
    },
    /// Too many calls failed one after the other.
    #[non_exhaustive]
    ConsecutiveFailures {
        /// How many failures in a row open the circuit.
        threshold: u32,
    },
    /// Most of the latest calls of a recovery were bad again.
    #[non_exhaustive]
    Relapse {
        /// The share of bad calls that is allowed.
        threshold: f64,
    },
    /// The circuit had been open long enough, and somebody called.
    #[non_exhaustive]
    WaitElapsed {
        /// How long it was to stay open.
        wait: Duration,
    },
    /// The trial calls went well.
    #[non_exhaustive]
    ProbesSucceeded {
        /// How many there were.
        calls: u64,
    },
    /// The gradual recovery reached all calls.
    #[non_exhaustive]
    RampCompleted {
        /// How long it took.
        ramp: Duration,
    },
    /// Somebody asked for it through the handle.
    Operator,
    /// A saved state was restored.
    Restored,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FailureRatio { measured, threshold, calls } => {
                let (measured, threshold) = (Percent(*measured), Percent(*threshold));
                write!(f, "{measured} of {calls} calls failed, threshold {threshold}")
            }
            Self::SlowRatio { measured, threshold, calls, in_flight, slow_after } => {
                let (measured, threshold) = (Percent(*measured), Percent(*threshold));
                write!(
                    f,
                    "{measured} of {calls} calls took over {}, threshold {threshold}",
                    Rounded(*slow_after)
                )?;
                match in_flight {
                    0 => Ok(()),
                    in_flight => write!(f, ", {in_flight} of them still in flight"),
                }
            }
            Self::ConsecutiveFailures { threshold } => write!(f, "{threshold} calls failed in a row"),
            Self::Relapse { threshold } => {
                write!(f, "most of the latest calls failed or were slow, threshold {}", Percent(*threshold))
            }
            Self::WaitElapsed { wait } => write!(f, "the wait of {} is over", Rounded(*wait)),
            Self::ProbesSucceeded { calls: 1 } => f.write_str("the trial call succeeded"),
            Self::ProbesSucceeded { calls } => write!(f, "{calls} trial calls went well"),
            Self::RampCompleted { ramp } => write!(f, "all calls admitted after {}", Rounded(*ramp)),
            Self::Operator => f.write_str("asked for by an operator"),
            Self::Restored => f.write_str("restored from a saved state"),
        }
    }
}

/// A ratio as people read it, with one decimal where there is one.
struct Percent(f64);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (self.0 * 1000.0).round();
        write!(f, "{}%", tenths / 10.0)
    }
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Transition {
    /// The state that ended.
    pub from: State,
    /// The state that began.
    pub to: State,
    /// Why.
    pub cause: Cause,
    /// How long the state that ended had lasted.
    pub lasted: Duration,
    /// For an opening, how long the circuit stays open; `None` if until further notice, and for other states.
    pub open_for: Option<Duration>,
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}: {}", self.from, self.to, self.cause)
    }
}
