use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;

use super::ResponseFuture;
use super::config::{CircuitBreakerConfig, Settings};
use super::orders::Order;
use super::permit::Permit;
use super::shared::Shared;
use super::snapshot::{PersistedState, Snapshot};
use super::transition::{State, Transition};
use crate::classify::Outcome;
use crate::config::InvalidConfig;
use crate::error::{CarryRejected, Rejected};
use crate::protocol::{AnyRequest, Classified};

/// Inspects and controls the circuit of a [circuit breaker](super), and protects what is no service.
///
/// Cheap to clone. It may be used from anywhere, also from an observer.
#[derive(Clone)]
pub struct CircuitBreakerHandle {
    shared: Arc<Shared>,
}

impl CircuitBreakerHandle {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// What the circuit does with calls: one atomic load.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.circuit.load().state
    }

    /// What the circuit does, and what it has measured.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.circuit.snapshot(self.shared.clock.now())
    }

    /// Returns the configuration in force.
    #[must_use]
    pub fn config(&self) -> CircuitBreakerConfig {
        self.shared.circuit.settings.read().config.clone()
    }

    /// Leave to make one call that is no service's.
    ///
    /// # Errors
    ///
    /// The refusal of a circuit that lets no call through.
    pub fn try_acquire(&self) -> Result<Permit, Rejected> {
        Permit::acquire(&self.shared).map_err(|refusal| self.shared.refuse(refusal).into())
    }

    /// Runs `call` if the circuit lets it through, and counts every error as a failure, except for a rejection by another
    /// layer. A call that is not let through is dropped without having been polled.
    ///
    /// The circuit is asked now, and not when the future is first polled.
    pub fn run<F, T, E>(&self, call: F) -> ResponseFuture<F, AnyRequest>
    where
        F: Future<Output = Result<T, E>>,
        E: CarryRejected,
    {
        self.run_by(AnyRequest, call)
    }

    /// Runs `call` if the circuit lets it through, and has `classify` return the outcome.
    pub fn run_with<F, T, E, O, C>(
        &self,
        classify: C,
        call: F,
    ) -> ResponseFuture<F, Classified<AnyRequest, C>>
    where
        F: Future<Output = Result<T, E>>,
        E: CarryRejected,
        C: Fn(Result<&T, &E>) -> O,
        O: Into<Outcome>,
    {
        self.run_by(Classified::new(AnyRequest, classify), call)
    }

    fn run_by<F, P>(&self, protocol: P, call: F) -> ResponseFuture<F, P> {
        match Permit::acquire(&self.shared) {
            Ok(permit) => ResponseFuture::calling(call, protocol, permit),
            Err(refusal) => ResponseFuture::rejected(self.shared.refuse(refusal)),
        }
    }

    /// Closes the circuit, with an empty window, as if it were new. The configuration stays.
    pub fn reset(&self) {
        self.obey(Order::Close);
    }

    /// Opens the circuit as if it had tripped: for `open_for`, longer each time, and then it probes. Not if it only
    /// observes; returns whether it did.
    #[allow(clippy::must_use_candidate, reason = "it is an order")]
    pub fn trip(&self) -> bool {
        self.obey(Order::Trip(None))
    }

    /// Opens the circuit for `wait`, and then it probes. Counts as an opening, as [`trip`](Self::trip) does. Not if the circuit only
    /// observes; returns whether it did.
    #[allow(clippy::must_use_candidate, reason = "it is an order")]
    pub fn trip_for(&self, wait: Duration) -> bool {
        self.obey(Order::Trip(Some(wait)))
    }

    /// Lets trial calls through now. Returns `false`, and does nothing, if the circuit lets calls through anyway, also because it
    /// is disabled.
    ///
    /// A half-open circuit forgets the trial calls that have ended and begins anew. Those in flight
    /// keep their slots, so that there are never more than `probes`.
    #[allow(clippy::must_use_candidate, reason = "it is an order")]
    pub fn probe(&self) -> bool {
        self.obey(Order::Probe)
    }

    /// Refuses all calls until further notice.
    pub fn force_open(&self) {
        self.obey(Order::ForceOpen(None));
    }

    /// Refuses all calls for `limit`, and then probes.
    pub fn force_open_for(&self, limit: Duration) {
        self.obey(Order::ForceOpen(Some(limit)));
    }

    /// Lets all calls through and records nothing.
    pub fn disable(&self) {
        self.obey(Order::Disable);
    }

    /// Lets all calls through, judges them, and reports what it would do.
    pub fn observe_only(&self) {
        self.obey(Order::Observe);
    }

    /// Goes on with another configuration, with the same counts and while serving. Calls that are
    /// in flight are judged by the new one. An opening that has begun keeps its length.
    ///
    /// The circuit keeps its state, unless what it has seen is reason to leave it by the new
    /// configuration: then it does so at once.
    ///
    /// # Errors
    ///
    /// If `config` is not valid; then the present one stays.
    #[allow(clippy::needless_pass_by_value, reason = "plain data")]
    pub fn reconfigure(&self, config: CircuitBreakerConfig) -> Result<(), InvalidConfig> {
        let settings = Settings::new(&config)?;
        self.shared.circuit.reconfigure(&Arc::new(settings), &self.shared.now());
        self.shared.after(true);
        Ok(())
    }

    /// The transitions from now on, in order. A receiver that falls behind by more than 64 misses the oldest.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Transition> {
        self.shared.subscribe()
    }

    /// The state as plain data, for [`restore`](Self::restore).
    #[must_use]
    pub fn save(&self) -> PersistedState {
        PersistedState::from(&self.snapshot())
    }

    /// Goes on from a saved state. Times go on from now. An opening keeps the length that it had, also one without end, and one
    /// longer than `max_open_for`. A half-open circuit probes anew: it is open until the next call. Counts that do not fit the
    /// window or each other are cut down.
    pub fn restore(&self, saved: &PersistedState) {
        self.shared.circuit.restore(saved, self.shared.clock.now());
        self.shared.after(true);
    }

    fn obey(&self, order: Order) -> bool {
        let obeyed = self.shared.circuit.obey(order, self.shared.clock.now());
        self.shared.after(obeyed);
        obeyed
    }
}

impl fmt::Debug for CircuitBreakerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerHandle")
            .field("name", &self.shared.telemetry.name())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
