use crate::classify::{Cause, Outcome};

/// Why a call needs a fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Why {
    /// A layer of this crate kept it from the service.
    Refused,
    /// A layer of this crate gave up waiting for the service.
    TimedOut,
    /// The service failed: with an error of its own, or with an answer that is a failure.
    Failed,
}

impl From<Cause> for Why {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Rejected => Self::Refused,
            Cause::TimedOut | Cause::PastDeadline(_) => Self::TimedOut,
            Cause::Service => Self::Failed,
        }
    }
}

/// The end of a call that needs a fallback: an error, or an answer that is a failure.
///
/// Where there is no fallback for it, it reaches the caller as it was.
#[derive(Debug)]
pub struct Failure<Res, E> {
    result: Result<Res, E>,
    outcome: Outcome,
}

impl<Res, E> Failure<Res, E> {
    pub(super) const fn new(result: Result<Res, E>, outcome: Outcome) -> Self {
        Self { result, outcome }
    }

    /// Why there is no good answer.
    #[must_use]
    pub fn why(&self) -> Why {
        self.outcome.cause.into()
    }

    /// The error, unless it is an answer.
    #[must_use]
    pub fn error(&self) -> Option<&E> {
        self.result.as_ref().err()
    }

    /// The answer that is a failure, unless it is an error.
    #[must_use]
    pub fn answer(&self) -> Option<&Res> {
        self.result.as_ref().ok()
    }

    /// What the service, or the layer that refused, gave.
    ///
    /// # Errors
    ///
    /// If that was one.
    pub fn into_result(self) -> Result<Res, E> {
        self.result
    }
}
