use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroU64;
use std::sync::OnceLock;

use crate::deadline::Deadline;

/// The importance of a request when not all requests can be served, from 0 to 100.
///
/// The front end of a system usually decides it, and every service passes it on with its own
/// outgoing requests. Put it into the request's extensions, or compute it in a closure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Criticality(u8);

impl Criticality {
    /// The highest level, 100: users notice at once if the request is not served.
    pub const CRITICAL: Self = Self(100);
    /// The default level, 50, of requests without a criticality.
    pub const DEFAULT: Self = Self(50);
    /// The lowest level, 0, for requests that are expected to be rejected at times, such as
    /// prefetches or batch jobs that are repeated.
    pub const SHEDDABLE: Self = Self(0);

    /// Returns the criticality of a level from 0 to 100. A higher level counts as 100.
    #[must_use]
    pub const fn level(level: u8) -> Self {
        if level < Self::CRITICAL.0 { Self(level) } else { Self::CRITICAL }
    }

    /// Returns the level as a number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for Criticality {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The party on whose behalf a request is made. Tenants share a service fairly.
///
/// Two keys are taken for the same tenant with a probability of 1 in 2^64. Callers cannot provoke
/// such a collision, since each process hashes keys with a random secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(u64);

impl Tenant {
    /// Returns the tenant that `key` identifies, such as a customer's name or an address.
    #[must_use]
    pub fn of(key: impl Hash) -> Self {
        static SECRET: OnceLock<RandomState> = OnceLock::new();
        Self(SECRET.get_or_init(RandomState::new).hash_one(key))
    }

    pub(crate) const fn number(self) -> u64 {
        self.0
    }
}

/// A named part of a limit.
///
/// A partition is identified by a hash of its name. Make it a constant, so that the hash is
/// computed at compile time.
///
/// ```
/// use stanchion::{CallAttributes, Partition};
///
/// const BATCH: Partition = Partition::named("batch");
///
/// let attributes = CallAttributes::new().partition(BATCH);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(NonZeroU64);

impl Partition {
    /// Returns the partition with this name. Two names have the same hash with a probability of 1
    /// in 2^64. A layer panics when it is created with two such partitions.
    #[must_use]
    pub const fn named(name: &str) -> Self {
        // FNV-1a.
        let (mut number, mut bytes) = (0xcbf2_9ce4_8422_2325_u64, name.as_bytes());
        while let [byte, rest @ ..] = bytes {
            number = (number ^ *byte as u64).wrapping_mul(0x0100_0000_01b3);
            bytes = rest;
        }
        Self(NonZeroU64::MIN.saturating_add(number))
    }
}

/// The attributes of a call that layers with a limit use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallAttributes {
    /// The importance of the call. Default: [`Criticality::DEFAULT`].
    pub criticality: Criticality,
    /// The tenant on whose behalf the call is made. Default: `None`, which counts as one more
    /// tenant.
    pub tenant: Option<Tenant>,
    /// The part of the limit that the call uses. Default: `None`, so the call uses the room that is
    /// not reserved for a partition.
    pub partition: Option<Partition>,
    /// The time by which the caller wants a response. Default: `None`.
    pub deadline: Option<Deadline>,
    /// `true` if the call is exempt from limits on the number of calls, as in Kubernetes' API
    /// priority and fairness. Use it for health checks and the like, which are few and must not be
    /// rejected. Only layers that are [configured to](crate::AdmissionConfig::admit_exempt) admit
    /// exempt calls read it. Default: `false`.
    pub exempt: bool,
}

impl CallAttributes {
    /// Returns the default attributes.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            criticality: Criticality::DEFAULT,
            tenant: None,
            partition: None,
            deadline: None,
            exempt: false,
        }
    }

    /// Sets the importance of the call.
    #[must_use]
    pub const fn criticality(mut self, criticality: Criticality) -> Self {
        self.criticality = criticality;
        self
    }

    /// Sets the tenant on whose behalf the call is made.
    #[must_use]
    pub const fn tenant(mut self, tenant: Tenant) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// Sets the part of the limit that the call uses.
    #[must_use]
    pub const fn partition(mut self, partition: Partition) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the time by which the caller wants a response.
    #[must_use]
    pub const fn deadline(mut self, deadline: Deadline) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets whether the call is exempt from limits.
    ///
    /// ```
    /// use stanchion::CallAttributes;
    ///
    /// let attributes = |path: &&str| CallAttributes::new().exempt(*path == "/health");
    /// assert!(attributes(&"/health").exempt);
    /// ```
    #[must_use]
    pub const fn exempt(mut self, exempt: bool) -> Self {
        self.exempt = exempt;
        self
    }
}
