use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::config::TimeoutConfig;
use super::future::{Call, ResponseFuture};
use super::shared::Shared;
use super::state::bind;
use crate::base::clock::{instant, nanos};
use crate::config::InvalidConfig;
use crate::protocol::AnyRequest;

/// A handle to inspect and reconfigure a [timeout](super) layer, and to limit work that is not a
/// `Service`.
#[derive(Clone)]
pub struct TimeoutHandle {
    shared: Arc<Shared>,
}

impl TimeoutHandle {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Returns the current configuration.
    #[must_use]
    pub fn config(&self) -> TimeoutConfig {
        self.shared.settings().config.clone()
    }

    /// Returns the limit, configured or measured, for a call that starts now. Returns `None` if
    /// only deadlines limit calls.
    #[must_use]
    pub fn limit(&self) -> Option<Duration> {
        self.shared.limit(&self.shared.settings(), instant())
    }

    /// Replaces the configuration. A call in flight keeps its limit. The scope of the limit and the
    /// idle limit of the body are those in force when the headers of the response arrive. Measured
    /// latencies are kept if they are measured in the same way.
    ///
    /// # Errors
    ///
    /// If `config` is not valid. The old configuration then stays in place.
    pub fn reconfigure(&self, config: TimeoutConfig) -> Result<(), InvalidConfig> {
        self.shared.reconfigure(config)
    }

    /// Runs `future`, such as a query or a publish, for at most the limit. The time counts from
    /// this call.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use stanchion::{Error, Reason, TimeoutLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
    /// let timeout = TimeoutLayer::after(Duration::from_secs(2)).name("orders").handle();
    /// let query = async {
    ///     tokio::time::sleep(Duration::from_secs(60)).await;
    ///     Ok::<_, Error<std::io::Error>>(42)
    /// };
    /// let error = timeout.run(query).await.unwrap_err();
    /// assert_eq!(error.rejected().unwrap().reason(), Reason::TotalTimeout);
    /// # }
    /// ```
    pub fn run<F: Future>(&self, future: F) -> ResponseFuture<F, AnyRequest> {
        let settings = self.shared.settings();
        let now = instant();
        // Without a deadline, no call is rejected.
        let own = self.shared.limit(&settings, now).map(nanos);
        let bound = bind(settings.config.scope, own, 0, None, 0).ok().flatten();
        let call = bound.map_or_else(|| Call::unlimited(now), |bound| Call::new(now, bound));
        let shared = self.shared.wants_ends(&settings).then(|| Arc::clone(&self.shared));
        ResponseFuture::new(Some(future), AnyRequest, Some(call), shared, self.shared.telemetry.name())
    }
}

impl fmt::Debug for TimeoutHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutHandle")
            .field("name", &self.shared.telemetry.name())
            .field("config", &self.shared.settings().config)
            .finish_non_exhaustive()
    }
}
