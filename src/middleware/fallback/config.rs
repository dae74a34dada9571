use std::time::Duration;

use crate::config::InvalidConfig;

/// How many last good answers are held for a [fallback](super), and for how long.
///
/// Plain data: every field can be set directly or by the method of the same name, and all are checked when a
/// layer is made of it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StaleConfig {
    /// How old an answer may be to be given again; above zero. Default: 1 min, long enough for a restart, and too short
    /// to hide an outage.
    pub max_age: Duration,
    /// For how many keys answers are held; 1 to 1,000,000. Default: 1,000, since only you know how large an answer is.
    pub max_keys: u32,
}

impl StaleConfig {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { max_age: Duration::from_secs(60), max_keys: 1_000 }
    }

    /// Sets how old an answer may be to be given again.
    #[must_use]
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// Sets for how many keys answers are held.
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
