use std::fmt;

use super::config::AdmissionConfig;
use crate::classify::Class;
use crate::clock::Timestamp;
use crate::config::InvalidConfig;
use crate::error::Reason;

/// How many calls may be under way at a time, and what that is found from: implemented by the limits of this crate.
///
/// For an adaptive limit of your own there is [`Algorithm`](crate::adaptive_limit::Algorithm).
pub trait Limit: fmt::Debug + Send + Sync + Sized + 'static {
    /// What a user sets.
    type Config: Clone + fmt::Debug + PartialEq;

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

    /// Goes on with another configuration: what the limit is from now on.
    fn reconfigure(&self, change: &Change<'_, Self::Config>) -> u32;

    /// Takes note of a call: what the limit is from now on, if that is another.
    fn ended(&self, call: &Ended) -> Option<u32>;
}

/// A configuration that takes the place of another; both are valid.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a, C> {
    pub(crate) before: &'a C,
    pub(crate) after: &'a C,
    pub(crate) now: Timestamp,
    /// What the limit is.
    pub(crate) limit: u32,
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
