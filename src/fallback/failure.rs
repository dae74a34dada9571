use crate::mark::Cause;

/// Why a call needs a fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Why {
    /// A layer of this crate kept it from the service.
    Refused,
    /// A layer of this crate gave up waiting for the service.
    TimedOut,
    /// The service failed: with an error of its own, or with an answer that is judged a failure.
    Failed,
}

impl From<Cause> for Why {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Refused => Self::Refused,
            Cause::TimedOut | Cause::PastDeadline => Self::TimedOut,
            Cause::Failed => Self::Failed,
        }
    }
}

/// The end of a call that needs a fallback: an error, or an answer that is judged a failure.
///
/// Where there is no fallback for it, it reaches the caller as it was.
#[derive(Debug)]
pub struct Failure<Res, E> {
    result: Result<Res, E>,
    cause: Cause,
}

impl<Res, E> Failure<Res, E> {
    pub(super) const fn new(result: Result<Res, E>, cause: Cause) -> Self {
        Self { result, cause }
    }

    /// Why there is no good answer.
    #[must_use]
    pub fn why(&self) -> Why {
        self.cause.into()
    }

    /// The error, unless it is an answer.
    #[must_use]
    pub fn error(&self) -> Option<&E> {
        self.result.as_ref().err()
    }

    /// The answer that is judged a failure, unless it is an error.
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

    /// The same, on its way to the caller.
    pub(super) fn hand_out(self) -> Result<Res, E> {
        if self.result.is_err() {
            self.cause.deliver();
        }
        self.result
    }
}
