use std::time::Duration;

use super::transition::State;
use crate::primitives::window::Counts;

/// What a circuit is doing, and what it has measured.
///
/// Counts and ratios are those of the window in a state that records, of the trial calls in a half-open
/// circuit, and in an open one of whichever of the two opened it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// What the circuit does with calls. An open circuit stays open until a caller asks after its wait.
    pub state: State,
    /// Grows by one with each state that is entered.
    pub generation: u64,
    /// How long the state has lasted.
    pub since: Duration,
    /// The share of calls that failed, 0 to 1; `None` below the minimum of calls.
    pub failure_ratio: Option<f64>,
    /// The share of calls that were slow, those in flight for too long among them; `None` below the minimum of
    /// calls, and without a slow-call rule.
    pub slow_ratio: Option<f64>,
    /// Calls that ended.
    pub calls: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Calls that were slow.
    pub slow: u64,
    /// Calls that failed and were slow.
    pub slow_failures: u64,
    /// Calls in flight for longer than they should be.
    pub overdue: u64,
    /// How often the circuit has opened since it was last closed.
    pub openings: u32,
    /// Time to the next trial call. `None` in a state that has none, or waits for somebody's order.
    pub retry_after: Option<Duration>,
}

/// A circuit's state as plain data, to be kept over a restart or shown to another process.
///
/// To read it back, begin with [`new`](Self::new) and set each field that was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PersistedState {
    /// What the circuit did with calls.
    pub state: State,
    /// How often it had opened since it was last closed.
    pub openings: u32,
    /// The time to the next trial call. `None` in an open or forced-open circuit if it stays open until further notice; not used
    /// in any other state.
    pub retry_after: Option<Duration>,
    /// Calls in the window.
    pub calls: u64,
    /// How many of them failed.
    pub failures: u64,
    /// How many of them were slow.
    pub slow: u64,
    /// How many of them failed and were slow.
    pub slow_failures: u64,
}

impl PersistedState {
    /// Returns the state of a circuit that has just entered `state`, with nothing recorded. If that is `Open` there is no time to
    /// wait, and the next call is a trial call; `ForcedOpen` lasts until further notice.
    #[must_use]
    pub const fn new(state: State) -> Self {
        let retry_after = match state {
            State::Open => Some(Duration::ZERO),
            _ => None,
        };
        Self { state, openings: 0, retry_after, calls: 0, failures: 0, slow: 0, slow_failures: 0 }
    }

    /// The counts, made consistent: this is data from outside.
    pub(super) fn counts(&self) -> Counts {
        let slow = self.slow.min(self.calls);
        let failures = self.failures.min(self.calls);
        // Failures and slow calls overlap at least where they do not fit beside each other.
        let least = failures.saturating_add(slow).saturating_sub(self.calls);
        Counts {
            calls: self.calls,
            failures,
            slow,
            slow_failures: self.slow_failures.clamp(least, failures.min(slow)),
        }
    }
}

impl From<&Snapshot> for PersistedState {
    fn from(snapshot: &Snapshot) -> Self {
        Self {
            state: snapshot.state,
            openings: snapshot.openings,
            retry_after: snapshot.retry_after,
            calls: snapshot.calls,
            failures: snapshot.failures,
            slow: snapshot.slow,
            slow_failures: snapshot.slow_failures,
        }
    }
}
