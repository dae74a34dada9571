use std::time::Duration;

use crate::config::InvalidConfig;

/// The limits on the stored responses of a stale [fallback](super).
///
/// Plain data: every field can be set directly or by the method of the same name. All fields are
/// checked when a layer is created.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StaleConfig {
    /// The maximum age of a response that is returned again; above zero. Default: 1 min, long
    /// enough for a restart, and too short to hide an outage.
    pub max_age: Duration,
    /// The maximum number of keys for which a response is stored; 1 to 1,000,000. Default: 1,000, a
    /// careful number, since the size of a response is unknown.
    pub max_keys: u32,
}

impl StaleConfig {
    /// Returns the default configuration.
    #[must_use]
    pub const fn new() -> Self {
        Self { max_age: Duration::from_secs(60), max_keys: 1_000 }
    }

    /// Sets the maximum age of a response that is returned again.
    #[must_use]
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// Sets the maximum number of keys for which a response is stored.
    #[must_use]
    pub const fn max_keys(mut self, keys: u32) -> Self {
        self.max_keys = keys;
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    ///
    /// Returns the first field that is out of its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        const MOST: u32 = 1_000_000;
        if self.max_age.is_zero() {
            return Err(InvalidConfig::new("max_age", self.max_age, "a duration above zero"));
        }
        if !(1..=MOST).contains(&self.max_keys) {
            return Err(InvalidConfig::new("max_keys", self.max_keys, "a number from 1 to 1,000,000"));
        }
        Ok(())
    }
}

impl Default for StaleConfig {
    fn default() -> Self {
        Self::new()
    }
}
