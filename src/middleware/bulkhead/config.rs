use crate::config::InvalidConfig;
use crate::middleware::admission::AdmissionConfig;
use crate::middleware::admission::config::admission_setters;
use crate::primitives::semaphore::Permits;

/// How many calls may be under way, and how many more may wait: see [bulkheads](super).
///
/// Plain data: every field can be set directly or by the method of the same name, and all are checked when a
/// layer is made of it or a running one is given it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BulkheadConfig {
    /// How many calls may be under way at a time; 1 to 2,147,483,647. Default: 64. That is a guess: it should be what
    /// the service bears, which is about its calls per second times the seconds that one takes.
    pub max_in_flight: u32,
    /// Whom it lets in, and who waits.
    pub admission: AdmissionConfig,
}

impl BulkheadConfig {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { max_in_flight: 64, admission: AdmissionConfig::new() }
    }

    /// Sets how many calls may be under way.
    #[must_use]
    pub const fn max_in_flight(mut self, calls: u32) -> Self {
        self.max_in_flight = calls;
        self
    }

    /// Checks all fields, those of the [admission](AdmissionConfig::validate) included.
    ///
    /// # Errors
    ///
    /// If a field is outside of its range; the first that is.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if self.max_in_flight == 0 || self.max_in_flight > Permits::MAX {
            return Err(InvalidConfig::new(
                "max_in_flight",
                self.max_in_flight,
                "a number from 1 to 2,147,483,647",
            ));
        }
        self.admission.validate()
    }

    admission_setters!();
}

impl Default for BulkheadConfig {
    fn default() -> Self {
        Self::new()
    }
}
