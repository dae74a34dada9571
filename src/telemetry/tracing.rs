//! The observer that writes log records with `tracing`.

use tracing::{debug, info, warn};

use super::{Action, Event, LayerId, Observer};

/// The target of all records, so that filters stay valid. Module and name are fields.
const TARGET: &str = "stanchion";

pub(super) struct Tracing;

impl Observer for Tracing {
    fn on_event(&self, source: &LayerId, event: &Event<'_>) {
        let LayerId { module, name } = *source;
        match event {
            Event::StateChanged { from, to, cause, refuses: true } => {
                warn!(target: TARGET, module, name, from, to, %cause, "state changed");
            }
            Event::StateChanged { from, to, cause, refuses: false } => {
                info!(target: TARGET, module, name, from, to, %cause, "state changed");
            }
            Event::WouldChange { to, cause } => {
                warn!(target: TARGET, module, name, to, %cause, "state would change");
            }
            // Below the usual level: while a dependency is down, there is one such record per call.
            Event::Rejected(rejected) => {
                let verb = if rejected.reached_service() { "given up" } else { "rejected" };
                debug!(target: TARGET, module, name, reason = %rejected.reason(), "call {verb}");
            }
            // `Event::Stale` has already logged this, with the age of the response.
            Event::Action { action: Action::ServedStale, .. } => {}
            Event::Stale { age } => {
                debug!(target: TARGET, module, name, action = Action::ServedStale.as_str(), ?age, "served_stale");
            }
            Event::Action { action, attempt, wait, is_news } => {
                let action = action.as_str();
                if *is_news {
                    warn!(target: TARGET, module, name, action, attempt, "this is logged once and will recur");
                } else {
                    debug!(target: TARGET, module, name, action, attempt, ?wait, "{action}");
                }
            }
            Event::Call { .. } | Event::Attempt { .. } | Event::Budget { .. } => {}
            Event::StateCreated { .. }
            | Event::StateDropped { .. }
            | Event::Keys { .. }
            | Event::Concurrency { .. } => {}
        }
    }

    fn wants_calls(&self) -> bool {
        false
    }
}
