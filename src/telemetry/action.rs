/// An action of a layer on a call, or the reason why it could not act.
///
/// Their names in metrics and logs are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// The call is retried.
    Retried,
    /// The call is not retried: it has had its maximum number of attempts.
    Exhausted,
    /// The call is not retried or hedged: the budget is spent.
    BudgetSpent,
    /// The call is not retried or hedged: the deadline is too near.
    NoTime,
    /// The call is not retried: the server asked for no retry, or for a wait longer than allowed.
    PushedBack,
    /// The call is not retried or hedged: it is not idempotent.
    NotIdempotent,
    /// The call is not retried or hedged: the request cannot be sent twice.
    NotReplayable,
    /// The call is not retried: the service did not become ready in time.
    NotReady,
    /// An outer layer retries as well, so attempts multiply.
    Nested,
    /// A second copy of the request was sent while the first was in flight.
    Hedged,
    /// The response to a copy was the first good one.
    HedgeWon,
    /// The response to the original was the first good one, while a copy was in flight.
    OriginalWon,
    /// A fallback's response replaced a failure.
    FellBack,
    /// The last good response replaced a failure.
    ServedStale,
    /// There was no fallback for a failure, or the fallback failed as well.
    NoFallback,
    /// The call waits for its turn under a rate limit.
    Waited,
    /// The call waits in a queue for a permit.
    Queued,
}

impl Action {
    /// Returns a stable name for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retried => "retried",
            Self::Exhausted => "exhausted",
            Self::BudgetSpent => "budget_spent",
            Self::NoTime => "no_time",
            Self::PushedBack => "pushed_back",
            Self::NotIdempotent => "not_idempotent",
            Self::NotReplayable => "not_replayable",
            Self::NotReady => "not_ready",
            Self::Nested => "nested",
            Self::Hedged => "hedged",
            Self::HedgeWon => "hedge_won",
            Self::OriginalWon => "original_won",
            Self::FellBack => "fell_back",
            Self::ServedStale => "served_stale",
            Self::NoFallback => "no_fallback",
            Self::Waited => "waited",
            Self::Queued => "queued",
        }
    }

    /// Returns `true` if the action is a sign of a wrong setup, which should be visible in the log.
    pub(crate) const fn is_mistake(self) -> bool {
        matches!(self, Self::NotReplayable | Self::Nested)
    }
}
