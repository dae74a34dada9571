use crate::classify::{Class, Guard};
use crate::permits;

/// Leave to have one call under way, from a [bulkhead](super). Dropping it makes room for the next.
#[derive(Debug)]
#[must_use = "dropping the permit at once makes room for the next call"]
pub struct Permit {
    _held: permits::Permit,
}

impl Permit {
    #[inline]
    pub(super) const fn new(held: permits::Permit) -> Self {
        Self { _held: held }
    }
}

impl Guard for Permit {
    /// How a call ended does not matter, but that it did.
    #[inline]
    fn finish(self, _: Class) {}
}
