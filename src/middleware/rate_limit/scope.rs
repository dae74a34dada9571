use std::hash::Hash;

/// Tells which calls share a quota.
///
/// Implemented by every closure that looks at a request.
pub trait KeyExtractor<Req> {
    /// What the calls that share a quota have in common.
    type Key: Hash;

    /// The key of a request; `None` if it is not limited.
    fn key(&self, request: &Req) -> Option<Self::Key>;
}

impl<F: Fn(&Req) -> Option<K>, Req, K: Hash> KeyExtractor<Req> for F {
    type Key = K;

    #[inline]
    fn key(&self, request: &Req) -> Option<K> {
        self(request)
    }
}

/// All calls share one quota. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SharedQuota;

impl<Req> KeyExtractor<Req> for SharedQuota {
    type Key = ();

    #[inline]
    fn key(&self, _: &Req) -> Option<()> {
        Some(())
    }
}

/// Tells how much of a quota a call takes.
///
/// Implemented by every closure that looks at a request.
pub trait RequestCost<Req> {
    /// The cost of a request. Zero is not limited; more than a burst is always refused.
    fn cost(&self, request: &Req) -> u32;
}

impl<F: Fn(&Req) -> u32, Req> RequestCost<Req> for F {
    #[inline]
    fn cost(&self, request: &Req) -> u32 {
        self(request)
    }
}

/// Each call costs 1. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnitCost;

impl<Req> RequestCost<Req> for UnitCost {
    #[inline]
    fn cost(&self, _: &Req) -> u32 {
        1
    }
}
