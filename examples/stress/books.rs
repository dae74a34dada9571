//! What observers were told, added up.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use stanchion::telemetry::{ConcurrencyGauge, Event, LayerId, Observer};

/// The sums of what a subject's layers have told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// In the order of [`ConcurrencyGauge::ALL`].
    loads: [AtomicI64; 3],
    /// Calls that ended, whichever way.
    pub(crate) calls: AtomicU64,
    keys: AtomicI64,
}

/// Adds up what it hears.
#[derive(Clone, Debug)]
pub(crate) struct Listener(pub(crate) Arc<Told>);

impl Observer for Listener {
    fn on_event(&self, _: &LayerId, event: &Event<'_>) {
        match event {
            Event::Concurrency { what, change, .. } => {
                let place = ConcurrencyGauge::ALL.iter().position(|other| other == what);
                if let Some(sum) = place.and_then(|place| self.0.loads.get(place)) {
                    sum.fetch_add(*change, Ordering::SeqCst);
                }
            }
            Event::Call { .. } => {
                self.0.calls.fetch_add(1, Ordering::SeqCst);
            }
            Event::Keys { change, .. } => {
                self.0.keys.fetch_add(*change, Ordering::SeqCst);
            }
            _ => {}
        }
    }
}

impl Told {
    /// Calls in flight and calls that wait, by what was told.
    pub(crate) fn under_way(&self) -> [i64; 2] {
        let [in_flight, queued, _] = &self.loads;
        [in_flight, queued].map(|sum| sum.load(Ordering::SeqCst))
    }
}
