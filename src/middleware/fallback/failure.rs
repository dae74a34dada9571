use crate::classify::{Cause, Outcome};

/// The kind of failure for which a call needs a fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// A layer of this crate rejected the call before it reached the service.
    Rejected,
    /// A layer of this crate gave up waiting for the service.
    TimedOut,
    /// The service failed, with its own error or with a response that counts as a failure.
    Failed,
}

impl From<Cause> for FailureKind {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Rejected => Self::Rejected,
            Cause::TimedOut | Cause::PastDeadline(_) => Self::TimedOut,
            Cause::Service => Self::Failed,
        }
    }
}

/// The result of a call that needs a fallback: an error, or a response that counts as a failure.
///
/// If the fallback has no response either, the caller receives this result unchanged.
#[derive(Debug)]
pub struct Failure<Res, E> {
    result: Result<Res, E>,
    outcome: Outcome,
}

impl<Res, E> Failure<Res, E> {
    pub(super) const fn new(result: Result<Res, E>, outcome: Outcome) -> Self {
        Self { result, outcome }
    }

    /// Returns the kind of the failure.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.outcome.cause.into()
    }

    /// Returns the error, or `None` if the service returned a response.
    #[must_use]
    pub fn error(&self) -> Option<&E> {
        self.result.as_ref().err()
    }

    /// Returns the response that counts as a failure, or `None` if the call ended in an error.
    #[must_use]
    pub fn answer(&self) -> Option<&Res> {
        self.result.as_ref().ok()
    }

    /// Returns the result of the service, or of the layer that rejected the call.
    ///
    /// # Errors
    ///
    /// Returns the error of the call if it ended in one.
    pub fn into_result(self) -> Result<Res, E> {
        self.result
    }
}
