//! How calls join the queue.

use std::sync::Arc;

use tokio::time::Instant;

use super::config::Mode;
use super::limit::Limit;
use super::shared::Shared;
use crate::base::clock::{Timestamp, instant};
use crate::primitives::semaphore::{self, Acquire, Ask};
use crate::protocol::{CallAttributes, Tenant};

impl<L: Limit> Shared<L> {
    /// A permit for a call with these attributes while others wait, if it comes before them, or if one of them has not
    /// claimed its own in time.
    #[cold]
    pub(super) fn permit_before_others(
        self: &Arc<Self>,
        attributes: &CallAttributes,
    ) -> Option<semaphore::Permit<Self>> {
        // Nobody waits in other layers, and their refusals take no lock.
        if self.mode == Mode::Refuse {
            return None;
        }
        let now = instant();
        Acquire::try_enter(self, &self.ask(attributes, now), self.clock.at(now))
    }

    /// A place in the queue for a call with these attributes, or a permit after all; `None` if there is none.
    /// It waits `until` then at most, if that is given.
    pub(super) fn wait(
        self: &Arc<Self>,
        attributes: &CallAttributes,
        now: Instant,
        until: Option<Instant>,
    ) -> Option<Acquire<Self>> {
        let until = until.map_or(Timestamp::NEVER, |until| self.clock.at(until));
        let ask = Ask { until, ..self.ask(attributes, now) };
        if self.terms().exempt(attributes) {
            return Some(Acquire::exempt(self, ask.part));
        }
        let now = self.clock.at(now);
        self.lookout.prepare(now);
        if L::LEARNS {
            self.finds_no_room();
        }
        Acquire::enter(self, &ask, now)
    }

    fn ask(&self, attributes: &CallAttributes, now: Instant) -> Ask {
        let now_here = self.clock.at(now);
        let deadline = attributes.deadline.map(|deadline| now_here.after(deadline.remaining_at(now)));
        Ask {
            class: attributes.criticality.get(),
            part: self.partitions.part(attributes.partition),
            tenant: attributes.tenant.map_or(0, Tenant::number),
            deadline: deadline.unwrap_or(Timestamp::NEVER),
            until: Timestamp::NEVER,
        }
    }
}
