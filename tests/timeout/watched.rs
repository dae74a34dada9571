//! Bodies are timed, whether or not the layer needs anything else of the call.

use super::*;

/// A protocol whose wrapped response is `true` if there is a timer.
#[derive(Clone, Copy, Debug)]
struct Watching;

impl RequestContext<Duration> for Watching {}

impl<Res> WrapBody<Res> for Watching {
    type Wrapped = bool;

    fn wrap_body(&self, _: Res, watch: Option<BodyTimer>) -> bool {
        watch.is_some()
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_are_timed_if_nothing_else_is_configured() {
    let config = TimeoutConfig::new().limit(Limit::Fixed(SECOND));
    for (config, is_watched) in [
        (config.clone(), false),
        (config.clone().idle(SECOND), true),
        (config.clone().covers(stanchion::timeout::Covers::Body), true),
    ] {
        let mut service = TimeoutLayer::new(config.clone()).protocol(Watching).layer(takes());
        assert_eq!(call(&mut service, MS).await, Ok(is_watched), "{config:?}");
    }
}
