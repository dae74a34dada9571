use std::fmt;
use std::future::Future;
use std::sync::Arc;

use super::Running;
use super::config::Mode;
use super::limit::Limit;
use super::parked::{Given, Parked};
use super::partitions::PartitionSnapshot;
use super::permit::Permit;
use super::place::Place;
use super::shared::Shared;
use crate::config::InvalidConfig;
use crate::error::{CarryRejected, Rejected};
use crate::middleware::gate::ResponseFuture;
use crate::primitives::semaphore;
use crate::protocol::{AnyRequest, CallAttributes};

/// Inspects and changes a [limit](super), and limits what is no service.
pub struct AdmissionHandle<L: Limit> {
    shared: Arc<Shared<L>>,
}

/// What a layer with a [limit](super) was doing at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// How many calls were under way, and services ready for one with a permit taken ahead. More than
    /// `max_in_flight`, while calls are under way that began before the limit was lowered.
    pub in_flight: u32,
    /// How many might have been.
    pub max_in_flight: u32,
    /// How many waited for their turn.
    pub queued: usize,
}

impl<L: Limit> AdmissionHandle<L> {
    pub(super) const fn new(shared: Arc<Shared<L>>) -> Self {
        Self { shared }
    }

    /// The configuration in use.
    #[must_use]
    pub fn config(&self) -> L::Config {
        self.shared.config()
    }

    /// How many calls are under way, and how many wait.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let (in_flight, limit) = self.shared.counts();
        Snapshot { in_flight, max_in_flight: limit, queued: self.shared.queued() }
    }

    /// The same for each partition, in the order in which they are configured. Calls that are of none are not in it. While
    /// calls begin and end, these are not all numbers of the same moment.
    #[must_use]
    pub fn partitions(&self) -> Vec<PartitionSnapshot> {
        self.shared.partitions()
    }

    /// Changes the configuration. Calls that are under way go on; if they are more than are allowed, the next one begins when
    /// they have become fewer. If there is more room, calls that wait are served at once.
    ///
    /// Calls that wait stay in the queue, also if it is longer than the new one may be, and keep their own `max_wait`. All else
    /// holds for them from now on, too: a new [discipline](super::QueueDiscipline) sheds them and orders them as
    /// if it had been there when they came, and those for which there can be no room any more are rejected.
    ///
    /// # Errors
    ///
    /// If `config` is not valid; then the old one stays.
    pub fn reconfigure(&self, config: L::Config) -> Result<(), InvalidConfig> {
        self.change(|_| config)
    }

    pub(crate) fn change(&self, change: impl FnOnce(&L::Config) -> L::Config) -> Result<(), InvalidConfig> {
        self.shared.change(change)
    }

    /// Leave to do something that is no service's, now or not at all. To an adaptive limit, one that is dropped without
    /// [`finish`](Permit::finish) is a call that was cancelled, and when nearly all are, the service hangs.
    ///
    /// # Errors
    ///
    /// If there is no room, or others wait for it that are not of a lower criticality.
    pub fn try_acquire(&self) -> Result<Permit<L>, Rejected> {
        self.try_acquire_for(&CallAttributes::new())
    }

    /// The same, for something of which more is known.
    ///
    /// # Errors
    ///
    /// If there is no room for it, or others wait, or too little time is left.
    pub fn try_acquire_for(&self, attributes: &CallAttributes) -> Result<Permit<L>, Rejected> {
        self.shared.can_finish(attributes)?;
        let held = self.permit(attributes).ok_or_else(|| self.shared.refuse())?;
        Ok(Permit::new(held, attributes))
    }

    fn permit(&self, attributes: &CallAttributes) -> Option<semaphore::Permit<Shared<L>>> {
        self.shared.permit(attributes).or_else(|| self.shared.permit_before_others(attributes))
    }

    /// Runs `call` if there is room, or when it is its turn in a layer that
    /// [waits](crate::admission::AdmissionLayer::waiting). One that is refused is dropped without having been polled.
    ///
    /// The place is taken now, and not when the future is first polled.
    pub fn run<F, T, E>(&self, call: F) -> Running<F, L>
    where
        F: Future<Output = Result<T, E>>,
        E: CarryRejected,
    {
        self.run_for(&CallAttributes::new(), call)
    }

    /// The same, for a call of which more is known.
    pub fn run_for<F, T, E>(&self, attributes: &CallAttributes, call: F) -> Running<F, L>
    where
        F: Future<Output = Result<T, E>>,
        E: CarryRejected,
    {
        let place = match self.shared.can_finish(attributes) {
            Err(late) => Err(late),
            Ok(()) => match self.permit(attributes) {
                Some(held) => {
                    let permit = Permit::new(held, attributes);
                    return ResponseFuture::calling(call, AnyRequest, permit);
                }
                None if self.shared.mode == Mode::Wait => Place::take(&self.shared, attributes),
                None => Err(self.shared.refuse()),
            },
        };
        match place {
            Ok(place) => ResponseFuture::waiting(Parked::new(place, Given(Some(call)), AnyRequest)),
            Err(rejected) => ResponseFuture::rejected(rejected),
        }
    }
}

impl<L: Limit> Clone for AdmissionHandle<L> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }
}

impl<L: Limit> fmt::Debug for AdmissionHandle<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdmissionHandle")
            .field("module", &L::MODULE)
            .field("name", &self.shared.telemetry.name())
            .field("snapshot", &self.snapshot())
            .finish_non_exhaustive()
    }
}
