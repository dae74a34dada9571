use crate::config::InvalidConfig;

/// How many retries and hedges a [budget](super) allows.
///
/// Plain data: every field can be set directly or by the method of the same name, and all are checked when a
/// budget is made of it. A token is what a retry costs by default.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BudgetConfig {
    /// So many tokens come with each call; 0 to 1,000. Default: 0.1, a tenth more load in an outage, with which a
    /// service that was used to 80 % gets up again.
    pub ratio: f64,
    /// So many tokens come with each second; 0 to 1,000,000,000. Default: 1, so that a client that calls a few
    /// times a minute may retry, and a hundred clients do not make a storm of it.
    pub per_second: f64,
    /// The most tokens that are saved up, and those to begin with; 0.001 to 1,000,000,000. Default: 10, the
    /// calls that a server has in hand when it restarts.
    pub cap: f64,
    /// The tokens that a retry or a hedge costs; 0.001 to `cap`. Default: 1.
    pub retry_cost: f64,
    /// The tokens that the retry of an attempt that timed out costs; 0.001 to `cap`. Default: 2, because that
    /// attempt has cost the service most, and may go on there.
    pub timeout_cost: f64,
}

impl BudgetConfig {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { ratio: 0.1, per_second: 1.0, cap: 10.0, retry_cost: 1.0, timeout_cost: 2.0 }
    }

    /// Sets the tokens that come with each call.
    #[must_use]
    pub const fn ratio(mut self, ratio: f64) -> Self {
        self.ratio = ratio;
        self
    }

    /// Sets the tokens that come with each second.
    #[must_use]
    pub const fn per_second(mut self, tokens: f64) -> Self {
        self.per_second = tokens;
        self
    }

    /// Sets the most tokens that are saved up.
    #[must_use]
    pub const fn cap(mut self, tokens: f64) -> Self {
        self.cap = tokens;
        self
    }

    /// Sets what a retry or a hedge costs.
    #[must_use]
    pub const fn retry_cost(mut self, tokens: f64) -> Self {
        self.retry_cost = tokens;
        self
    }

    /// Sets what the retry of an attempt that timed out costs.
    #[must_use]
    pub const fn timeout_cost(mut self, tokens: f64) -> Self {
        self.timeout_cost = tokens;
        self
    }

    /// Checks every field.
    ///
    /// # Errors
    ///
    /// The first field that is out of its range.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        Settings::new(self).map(|_| ())
    }
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// The configuration, checked, in units of [a token's](Self::TOKEN) parts.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) deposit: u64,
    /// In 584 years that makes less than 2^128.
    pub(super) per_second: u64,
    pub(super) cap: u64,
    pub(super) retry_cost: u64,
    pub(super) timeout_cost: u64,
}

impl Settings {
    /// The units in a token.
    pub(super) const TOKEN: u64 = 1_000_000_000;
    /// In tokens.
    const LEAST: f64 = 0.001;
    const MOST: f64 = 1e9;

    pub(super) fn new(config: &BudgetConfig) -> Result<Self, InvalidConfig> {
        // Written so that a NaN fails: it is in no range.
        if !(0.0..=1_000.0).contains(&config.ratio) {
            return Err(InvalidConfig::new(
                "ratio",
                config.ratio,
                "a number from 0 to 1,000 (0.1 is a tenth)",
            ));
        }
        if !(0.0..=Self::MOST).contains(&config.per_second) {
            return Err(InvalidConfig::new(
                "per_second",
                config.per_second,
                "a number from 0 to 1,000,000,000",
            ));
        }
        if !(Self::LEAST..=Self::MOST).contains(&config.cap) {
            return Err(InvalidConfig::new("cap", config.cap, "a number from 0.001 to 1,000,000,000"));
        }
        let costs = [("retry_cost", config.retry_cost), ("timeout_cost", config.timeout_cost)];
        for (field, cost) in costs {
            if !(Self::LEAST..=config.cap).contains(&cost) {
                return Err(InvalidConfig::new(field, cost, "a number from 0.001 to `cap`"));
            }
        }
        Ok(Self {
            deposit: units(config.ratio),
            per_second: units(config.per_second),
            cap: units(config.cap),
            retry_cost: units(config.retry_cost),
            timeout_cost: units(config.timeout_cost),
        })
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "neither negative nor above 10^18, as was checked"
)]
fn units(tokens: f64) -> u64 {
    (tokens * Settings::TOKEN as f64).round() as u64
}
