use std::fmt;

use super::config::AdmissionConfig;
use crate::base::clock::Timestamp;
use crate::classify::Class;
use crate::config::InvalidConfig;
use crate::error::Reason;

/// How many calls may be under way at a time, and what that is found from: implemented by the
/// limits of this crate, and sealed.
///
/// For an adaptive limit of your own there is [`Algorithm`](crate::adaptive_limit::Algorithm).
pub trait Limit: sealed::Sealed + fmt::Debug + Send + Sync + Sized + 'static {
    /// What a user sets.
    type Config: Clone + fmt::Debug + PartialEq + Send + Sync + 'static;

    /// The name of the module, for metrics and logs.
    const MODULE: &'static str;
    /// Why a call is refused that finds no room.
    const FULL: Reason;
    /// Why one is that has waited for too long.
    const TIMEOUT: Reason;
    /// Whether it is told of the end of each call.
    const LEARNS: bool;

    /// # Errors
    ///
    /// If what is its own in `config` is not valid.
    fn validate(config: &Self::Config) -> Result<(), InvalidConfig>;

    /// The part that all limits have.
    fn admission(config: &Self::Config) -> &AdmissionConfig;

    /// A new one; `config` is valid.
    fn new(config: &Self::Config) -> Self;

    /// What the limit is when it is new.
    fn first(config: &Self::Config) -> u32;

    /// Goes on with another configuration, and calls `set` with the limit that holds from now on.
    fn reconfigure(&self, change: &Change<'_, Self::Config>, set: impl FnOnce(u32));

    /// Takes note of a call, and calls `set` with the limit that holds from now on, if that may be
    /// another: then it returns `true`. Of two threads that set a limit at the same time, the one
    /// whose limit holds is the last.
    fn ended(&self, call: &Ended, set: impl FnOnce(u32)) -> bool;

    /// Takes note of a call that finds no room, and else as [`ended`](Self::ended).
    fn finds_no_room(&self, full: Full, set: impl FnOnce(u32)) -> bool;
}

pub(crate) mod sealed {
    /// Keeps [`Limit`](super::Limit) for the limits of this crate: it can gain methods.
    pub trait Sealed {}
}

/// A configuration that takes the place of another; both are valid.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a, C> {
    pub(crate) before: &'a C,
    pub(crate) after: &'a C,
    pub(crate) now: Timestamp,
}

/// A call that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    pub(crate) began: Timestamp,
    pub(crate) now: Timestamp,
    /// How many were under way, with this one.
    pub(crate) in_flight: u32,
    /// None: it was cancelled.
    pub(crate) class: Option<Class>,
}

/// A limit that is used up.
#[derive(Clone, Copy, Debug)]
pub struct Full {
    pub(crate) now: Timestamp,
    /// How many calls were under way.
    pub(crate) in_flight: u32,
}
