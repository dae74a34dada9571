use std::time::Duration;

use crate::classify::Class;

/// Whether a call that failed may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Repeat {
    /// No, it would fail again.
    Never,
    /// Yes, if executing the request twice does no harm: it may have been executed.
    IfIdempotent,
    /// Yes, whatever the request: it was surely not executed. A request that is not idempotent is repeated once
    /// for this reason, since a server that is wrong about it once is not to be trusted twice.
    Always,
}

/// What the server said about another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hint {
    /// Not before so long: an HTTP `Retry-After`.
    AtLeast(Duration),
    /// After exactly so long: gRPC's pushback.
    Exactly(Duration),
    /// No other attempt.
    Stop,
}

/// What the end of an attempt means.
///
/// Made of a [`Class`] where that is all that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Judgement {
    class: Class,
    repeat: Repeat,
    hint: Option<Hint>,
    is_accepted: bool,
}

impl Judgement {
    /// A good answer: it is handed out.
    #[must_use]
    pub const fn good() -> Self {
        Self { class: Class::Success, repeat: Repeat::Never, hint: None, is_accepted: true }
    }

    /// A failure that another attempt may cure.
    #[must_use]
    pub const fn failed() -> Self {
        Self { class: Class::Failure, repeat: Repeat::IfIdempotent, hint: None, is_accepted: false }
    }

    /// A failure to get the request executed at all: connection refused, stream refused, server going away.
    #[must_use]
    pub const fn unprocessed() -> Self {
        Self { class: Class::Failure, repeat: Repeat::Always, hint: None, is_accepted: false }
    }

    /// A refusal by a layer of this crate, which nobody is asked about.
    pub(crate) const fn refused() -> Self {
        Self { class: Class::Ignored, repeat: Repeat::Always, hint: None, is_accepted: false }
    }

    /// The same, not to be tried again.
    #[must_use]
    pub const fn never(mut self) -> Self {
        self.repeat = Repeat::Never;
        self
    }

    /// The same, and the server said this about another attempt.
    #[must_use]
    pub const fn hint(mut self, hint: Hint) -> Self {
        self.hint = Some(hint);
        self
    }

    /// The same, and the service did take the request on: that it failed has nothing to do with how much the service has
    /// to do. A [throttle](crate::throttle) lets such calls pass.
    #[must_use]
    pub const fn accepted(mut self) -> Self {
        self.is_accepted = true;
        self
    }

    /// What the end says about the service.
    #[must_use]
    pub const fn class(&self) -> Class {
        self.class
    }

    /// Whether it may be tried again.
    #[must_use]
    pub const fn repeat(&self) -> Repeat {
        self.repeat
    }

    /// Whether the service took the request on, as far as that can be told: not if it [failed](Self::failed), unless
    /// it is [said](Self::accepted) to be so.
    #[must_use]
    pub const fn is_accepted(&self) -> bool {
        self.is_accepted
    }

    /// What the server said about another attempt.
    #[must_use]
    pub const fn given_hint(&self) -> Option<Hint> {
        self.hint
    }
}

impl From<Class> for Judgement {
    fn from(class: Class) -> Self {
        match class {
            Class::Success => Self::good(),
            Class::Failure => Self::failed(),
            Class::Ignored => Self { class, ..Self::good() },
        }
    }
}

/// Judges the end of an attempt.
///
/// Implemented by every closure that looks at a result and returns a [`Judgement`] or a [`Class`]. Refusals by layers
/// of this crate further in are not put before it, and timeouts are told from other errors without it.
pub trait Judge<Res, E> {
    /// What it means.
    fn judge(&self, result: Result<&Res, &E>) -> Judgement;
}

impl<F, J, Res, E> Judge<Res, E> for F
where
    F: Fn(Result<&Res, &E>) -> J,
    J: Into<Judgement>,
{
    #[inline]
    fn judge(&self, result: Result<&Res, &E>) -> Judgement {
        self(result).into()
    }
}
