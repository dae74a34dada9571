//! Validated settings, and a cell to swap them while serving.

use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;

/// A rejected setting: its name, the value that was given, and the values that are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidConfig {
    field: &'static str,
    given: String,
    allowed: &'static str,
}

impl InvalidConfig {
    /// Creates the error for the setting `field` with the value `given`. `allowed` completes the
    /// sentence "expected ..".
    #[must_use]
    pub fn new(field: &'static str, given: impl fmt::Debug, allowed: &'static str) -> Self {
        Self { field, given: format!("{given:?}"), allowed }
    }

    /// Returns the name of the setting.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// Returns the value that was given, as its `Debug` text.
    #[must_use]
    pub fn given(&self) -> &str {
        &self.given
    }

    /// Returns the values that are allowed, in words.
    #[must_use]
    pub const fn allowed(&self) -> &'static str {
        self.allowed
    }
}

/// What was made of a configuration that is written in the source.
#[track_caller]
#[allow(clippy::panic, reason = "a mistake in the source")]
pub(crate) fn valid<T>(made: Result<T, InvalidConfig>) -> T {
    match made {
        Ok(made) => made,
        Err(error) => panic!("{error}"),
    }
}

/// Panics if what services of a layer share has been made: `setter` would leave a handle or a service that was handed
/// out behind, with a state of its own.
#[track_caller]
#[allow(clippy::panic, reason = "a mistake in the source")]
pub(crate) fn assert_unused<T>(shared: &OnceLock<T>, setter: &str) {
    assert!(
        shared.get().is_none(),
        "`{setter}` comes too late: this layer was cloned, or has made a service or a handle, which would not share its state"
    );
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid value for `{}`: got {}, expected {}", self.field, self.given, self.allowed)
    }
}

impl std::error::Error for InvalidConfig {}

/// A share above zero, at most one.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub(crate) struct Ratio(f64);

impl Ratio {
    const ALLOWED: &'static str = "a number above 0 and at most 1 (0.5 is half; not a percentage)";

    /// The ratio `value`, called `field` in the error.
    ///
    /// # Errors
    ///
    /// If `value` is not above 0 and at most 1, so also if it is not a number.
    pub(crate) fn new(field: &'static str, value: f64) -> Result<Self, InvalidConfig> {
        // Written so that a NaN fails: it is in no range.
        if value > 0.0 && value <= 1.0 {
            Ok(Self(value))
        } else {
            Err(InvalidConfig::new(field, value, Self::ALLOWED))
        }
    }

    /// The ratio as a number.
    pub(crate) const fn get(self) -> f64 {
        self.0
    }
}

/// `part / whole`, if there is a whole.
#[allow(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(crate) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// A configuration that can be swapped while others read it.
#[derive(Debug)]
pub(crate) struct Live<T>(ArcSwap<T>);

impl<T> Live<T> {
    pub(crate) fn new(value: Arc<T>) -> Self {
        Self(ArcSwap::new(value))
    }

    pub(crate) fn read(&self) -> arc_swap::Guard<Arc<T>> {
        self.0.load()
    }

    pub(crate) fn swap(&self, value: Arc<T>) {
        self.0.store(value);
    }

    /// Replaces the value by one made of it. If another thread has replaced it in the meantime, it is made again, of that one.
    pub(crate) fn update(&self, next: impl Fn(&T) -> T) {
        self.0.rcu(|value| Arc::new(next(value)));
    }
}
