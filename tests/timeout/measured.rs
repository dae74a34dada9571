//! The calls from which an adaptive limit is computed.

use super::*;

#[tokio::test(start_paused = true)]
async fn answers_to_calls_whose_deadline_is_nearer_than_the_limit_are_measured() {
    let layer = TimeoutLayer::new(adaptive(2.0)).protocol(Queries);
    let (handle, mut service) = (layer.handle(), layer.layer(Backend::default()));
    for _ in 0..150 {
        let query = Query::of(100 * MS).within(5 * SECOND);
        assert!(call(&mut service, query).await.is_ok());
    }
    assert!(is_about(handle.limit(), 200 * MS), "{:?}", handle.limit());
}
