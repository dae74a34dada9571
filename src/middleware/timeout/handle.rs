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

/// Inspects and changes what a [timeout](super) layer does, and limits what is no service.
#[derive(Clone)]
pub struct TimeoutHandle {
    shared: Arc<Shared>,
}

impl TimeoutHandle {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The configuration in use.
    #[must_use]
    pub fn config(&self) -> TimeoutConfig {
        self.shared.settings().config.clone()
    }

    /// The limit for a call that begins now, as it is configured or measured; `None` if only deadlines limit calls.
    #[must_use]
    pub fn limit(&self) -> Option<Duration> {
        self.shared.limit(&self.shared.settings(), instant())
    }

    /// Changes the configuration, for calls that begin from now on. What was measured stays, if the same is asked.
    ///
    /// # Errors
    ///
    /// If `config` is not valid; then the old one stays.
    pub fn reconfigure(&self, config: TimeoutConfig) -> Result<(), InvalidConfig> {
        self.shared.reconfigure(config)
    }

    /// Runs `future` for no longer than the limit: a query, a publish, anything that is no service. The time counts from
    /// now.
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
        // Without a deadline nothing is refused.
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
