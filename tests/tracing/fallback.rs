//! The log records of a fallback.
//!
//! They have a file of their own. `tracing` decides once per callsite whether a record is wanted,
//! and the first thread that reaches the callsite decides for all, even if another thread has the
//! only subscriber. If one test of a process subscribes and others do not, a record is therefore
//! lost now and then.

use stanchion::{FallbackLayer, StaleConfig};

use super::*;

#[tokio::test(start_paused = true)]
async fn each_fallback_is_one_line_at_debug() {
    let (log, _guard) = Log::start();
    let layer = FallbackLayer::stale(StaleConfig::new(), |_: &Result<u32, &str>| Some(4));
    let service = layer.name("items").layer(service_fn(|end: Result<u32, &'static str>| async move {
        end.map_err(|text| Error::Inner(Fault(text)))
    }));
    for end in [Err("failed"), Ok(1), Err("failed")] {
        let _ = service.clone().oneshot(end).await;
        advance(SECOND).await;
    }
    let records = log.take();
    assert_eq!(records.len(), 2, "{records:?}");
    let fields = [("module", "fallback"), ("name", "items")];
    let none = [("message", "no_fallback"), ("action", "no_fallback"), ("attempt", "0"), ("wait", "0ns")];
    assert_logged(&records[0], Level::DEBUG, &[fields.as_slice(), &none].concat());
    let stale = [("message", "served_stale"), ("action", "served_stale"), ("age", "1s")];
    assert_logged(&records[1], Level::DEBUG, &[fields.as_slice(), &stale].concat());
}
