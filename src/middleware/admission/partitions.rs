use super::config::Mode;
use crate::config::InvalidConfig;
use crate::primitives::semaphore::{Fraction, Part};
use crate::protocol::Partition;

/// A part of a limit, for the calls that [claim](crate::protocol::CallAttributes::partition) it: see
/// [partitions](super#partitions).
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct PartitionConfig {
    /// What calls name it by.
    pub name: &'static str,
    /// How much of the limit it is; above 0, and at most 1 for all partitions together. It is rounded up, so that it is one
    /// call at least, unless the limit is [too small](super#partitions) for all.
    pub share: f64,
    /// How much of its share others may use while it is idle; 0 to 1. The rest is kept, rounded up. Default: 0.5, so that a
    /// burst has room at once, and the other half is not left unused for it.
    pub lends: f64,
}

impl PartitionConfig {
    const DEFAULT_LENDS: f64 = 0.5;

    /// A partition of this name and share, with the default for what it lends.
    #[must_use]
    pub const fn new(name: &'static str, share: f64) -> Self {
        Self { name, share, lends: Self::DEFAULT_LENDS }
    }

    /// Sets how much of the limit it is.
    #[must_use]
    pub const fn share(mut self, share: f64) -> Self {
        self.share = share;
        self
    }

    /// Sets how much of its share others may use while it is idle.
    #[must_use]
    pub const fn lends(mut self, part: f64) -> Self {
        self.lends = part;
        self
    }

    // Written so that a NaN fails: it is in no range.
    fn validate(&self) -> Result<(), InvalidConfig> {
        if !(self.share > 0.0 && self.share <= 1.0) {
            return Err(InvalidConfig::new("partitions.share", self.share, "a number above 0 and at most 1"));
        }
        if !(self.lends >= 0.0 && self.lends <= 1.0) {
            return Err(InvalidConfig::new("partitions.lends", self.lends, "a number from 0 to 1"));
        }
        Ok(())
    }

    fn kept(&self) -> Fraction {
        Fraction::new(self.share * (1.0 - self.lends))
    }

    pub(super) fn snapshot(&self, limit: u32, (in_flight, kept): (u32, u32)) -> PartitionSnapshot {
        PartitionSnapshot { name: self.name, in_flight, share: Fraction::new(self.share).of(limit), kept }
    }
}

/// What a [partition](super#partitions) was doing at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionSnapshot {
    /// What calls name it by.
    pub name: &'static str,
    /// How many of its calls were under way.
    pub in_flight: u32,
    /// How many calls its share of the limit is.
    pub share: u32,
    /// For how many of them it has room whatever others do.
    pub kept: u32,
}

pub(super) fn validate(partitions: &[PartitionConfig], mode: Mode) -> Result<(), InvalidConfig> {
    const MOST: usize = 16;
    if !partitions.is_empty() && mode == Mode::Backpressure {
        const NONE: &str = "no partitions in a layer made by `backpressure`";
        return Err(InvalidConfig::new("partitions", names(partitions), NONE));
    }
    if partitions.len() > MOST {
        return Err(InvalidConfig::new("partitions", partitions.len(), "at most 16 partitions"));
    }
    let mut seen = Vec::with_capacity(partitions.len());
    for partition in partitions {
        partition.validate()?;
        let named = Partition::named(partition.name);
        if seen.contains(&named) {
            return Err(InvalidConfig::new("partitions.name", partition.name, "unique names"));
        }
        seen.push(named);
    }
    // Ten times 0.1 may be a little more than 1.
    const ROUNDED: f64 = 1e-12;
    let sum: f64 = partitions.iter().map(|partition| partition.share).sum();
    if sum > 1.0 + ROUNDED {
        return Err(InvalidConfig::new("partitions.share", sum, "shares that add up to at most 1"));
    }
    Ok(())
}

fn names(partitions: &[PartitionConfig]) -> Vec<&'static str> {
    partitions.iter().map(|partition| partition.name).collect()
}

/// The partitions that a layer was made with.
#[derive(Debug)]
pub(super) struct Partitions(Box<[Partition]>);

impl Partitions {
    pub(super) fn new(partitions: &[PartitionConfig]) -> Self {
        Self(partitions.iter().map(|partition| Partition::named(partition.name)).collect())
    }

    /// Whether these are the same.
    pub(super) fn validate(&self, partitions: &[PartitionConfig]) -> Result<(), InvalidConfig> {
        if Self::new(partitions).0 == self.0 {
            return Ok(());
        }
        const SAME: &str = "the partitions that the layer was created with, in the same order";
        Err(InvalidConfig::new("partitions", names(partitions), SAME))
    }

    /// What is kept of the limit for each.
    pub(super) fn kept(partitions: &[PartitionConfig]) -> Box<[Fraction]> {
        partitions.iter().map(PartitionConfig::kept).collect()
    }

    /// Which part of the limit a call is for.
    pub(super) fn part(&self, partition: Option<Partition>) -> Part {
        if self.0.is_empty() {
            return Part::NONE;
        }
        let place = partition.and_then(|partition| self.0.iter().position(|named| *named == partition));
        Part::at(place.unwrap_or(self.0.len()))
    }
}
