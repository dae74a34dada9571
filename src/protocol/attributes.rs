use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroU64;
use std::sync::OnceLock;

use crate::deadline::Deadline;

/// How much it matters that a request is served when not all can be, from 0 to 100.
///
/// As a rule the front end of a system decides, and every service passes it on with what it sends out for the request. Put it
/// into the request's extensions, or let a closure tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Criticality(u8);

impl Criticality {
    /// Users see it at once if this is not served. The highest level, 100.
    pub const CRITICAL: Self = Self(100);
    /// What nobody said anything of. Level 50.
    pub const DEFAULT: Self = Self(50);
    /// It is expected that this is not always served: it is done ahead, or will be repeated. The lowest level, 0.
    pub const SHEDDABLE: Self = Self(0);

    /// A level between these, from 0 to 100; a higher one counts as 100.
    #[must_use]
    pub const fn level(level: u8) -> Self {
        if level < Self::CRITICAL.0 { Self(level) } else { Self::CRITICAL }
    }

    /// The level as a number.
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

/// On whose behalf a request is made: those who share a service by fair parts.
///
/// Two keys may be taken for one, once in as many as there are numbers of 64 bits. Which ones cannot be foretold, since each
/// process hashes by a secret of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(u64);

impl Tenant {
    /// The tenant that is known by `key`: the name of a customer, an address.
    #[must_use]
    pub fn of(key: impl Hash) -> Self {
        static SECRET: OnceLock<RandomState> = OnceLock::new();
        Self(SECRET.get_or_init(RandomState::new).hash_one(key))
    }

    pub(crate) const fn number(self) -> u64 {
        self.0
    }
}

/// Which part of a limit a request is for, by name.
///
/// The name is told by a number made of it, so make it a constant: then nothing is left to be done for a request.
///
/// ```
/// use stanchion::{CallAttributes, Partition};
///
/// const BATCH: Partition = Partition::named("batch");
///
/// let claim = CallAttributes::new().partition(BATCH);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(NonZeroU64);

impl Partition {
    /// The partition of this name. Two names have the same number once in as many as there are numbers of 64 bits; layers
    /// refuse to be made with two of them.
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

/// The attributes of a call that a layer with a limit goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallAttributes {
    /// How much it matters. Default: [`Criticality::DEFAULT`].
    pub criticality: Criticality,
    /// On whose behalf it is made. Default: nobody's, which is a tenant like all others.
    pub tenant: Option<Tenant>,
    /// Which part of the limit it is for. Default: none, and it has what is kept for nobody.
    pub partition: Option<Partition>,
    /// By when the caller wants an answer. Default: none.
    pub deadline: Option<Deadline>,
    /// Whether the call is exempt from limits on the number of calls, as in Kubernetes' API
    /// priority and fairness: for health checks and the like, which are few and must not be
    /// rejected. Only layers that are [configured to](crate::AdmissionConfig::admit_exempt) heed
    /// it. Default: `false`.
    pub exempt: bool,
}

impl CallAttributes {
    /// The defaults.
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

    /// Sets how much it matters.
    #[must_use]
    pub const fn criticality(mut self, criticality: Criticality) -> Self {
        self.criticality = criticality;
        self
    }

    /// Sets on whose behalf it is made.
    #[must_use]
    pub const fn tenant(mut self, tenant: Tenant) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// Sets which part of the limit it is for.
    #[must_use]
    pub const fn partition(mut self, partition: Partition) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets by when an answer is wanted.
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
    /// let claims = |path: &&str| CallAttributes::new().exempt(*path == "/health");
    /// assert!(claims(&"/health").exempt);
    /// ```
    #[must_use]
    pub const fn exempt(mut self, exempt: bool) -> Self {
        self.exempt = exempt;
        self
    }
}
