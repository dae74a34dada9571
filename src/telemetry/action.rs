/// Something that a layer did about a call, or could not do.
///
/// The names that metrics and logs have for them do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// The call is tried again.
    Retried,
    /// It is not: it has been tried as often as it may be.
    Exhausted,
    /// It is not tried again or hedged: the budget is spent.
    BudgetSpent,
    /// It is not tried again or hedged: the deadline is too near.
    NoTime,
    /// It is not tried again: the server asked not to, or to wait for longer than is allowed.
    PushedBack,
    /// It is not tried again or hedged: it might be executed twice.
    NotIdempotent,
    /// It is not tried again or hedged: the request cannot be sent twice.
    NotReplayable,
    /// It is not tried again: the service did not become ready in time.
    NotReady,
    /// A layer further out retries as well, so that attempts multiply.
    Nested,
    /// A second copy of the request was sent while the first was under way.
    Hedged,
    /// The answer to a copy was the first good one.
    HedgeWon,
    /// The answer to the original was the first good one, though a copy was under way.
    OriginalWon,
    /// A fallback's answer took the place of a failure.
    FellBack,
    /// The last good answer took the place of a failure.
    ServedStale,
    /// There was no fallback for a failure, or it failed as well.
    NoFallback,
    /// The call waits for its turn.
    Waited,
    /// The call waits until there is room for it.
    Queued,
}

impl Action {
    /// A stable name for metrics and logs.
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

    /// Whether it is a sign that something is set up wrongly, and should be seen.
    pub(crate) const fn is_mistake(self) -> bool {
        matches!(self, Self::NotReplayable | Self::Nested)
    }
}
