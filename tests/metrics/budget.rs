//! Gauges of budgets, several of which may have one name.

use super::*;

fn layer(name: &'static str, cap: f64) -> RetryLayer {
    exporter();
    let budget = Budget::new(BudgetConfig::new().ratio(0.0).per_second(0.0).cap(cap));
    RetryLayer::new(RetryConfig::new()).name(name).budget(budget)
}

/// Retries until this number of tokens is left.
async fn spend(layer: &RetryLayer, left: f64) {
    while layer.handle().budget().balance() > left {
        let mut attempts = 0;
        let attempt = || {
            attempts += 1;
            std::future::ready(if attempts == 1 { Err(Error::Inner(Fault("failed"))) } else { Ok(()) })
        };
        layer.handle().run(attempt).await.unwrap();
    }
}

async fn tokens_and_cap(name: &str) -> (f64, f64) {
    let series = series(name).await;
    let gauge = |noun| series[&format!("stanchion_retry_budget_{noun} ")];
    (gauge("tokens"), gauge("cap"))
}

#[tokio::test(start_paused = true)]
async fn the_budgets_of_two_layers_of_one_name_add_up() {
    const NAME: &str = "two budgets";
    let (one, other) = (layer(NAME, 10.0), layer(NAME, 30.0));
    let _handles = (one.handle(), other.handle());
    assert_eq!(tokens_and_cap(NAME).await, (40.0, 40.0));
    spend(&one, 2.0).await;
    assert_eq!(tokens_and_cap(NAME).await, (32.0, 40.0));
    spend(&other, 27.0).await;
    assert_eq!(tokens_and_cap(NAME).await, (29.0, 40.0));
    spend(&one, 1.0).await;
    assert_eq!(tokens_and_cap(NAME).await, (28.0, 40.0), "whichever was asked last");
    drop((one, _handles.0));
    assert_eq!(tokens_and_cap(NAME).await, (27.0, 30.0), "one that is gone takes its own with it");
}

#[tokio::test(start_paused = true)]
async fn a_budget_without_a_limit_adds_nothing() {
    const NAME: &str = "no budget";
    let limited = layer(NAME, 10.0);
    let unlimited = RetryLayer::new(RetryConfig::new()).name(NAME).budget(Budget::unlimited());
    let _handles = (limited.handle(), unlimited.handle());
    let mut attempts = 0;
    let attempt = || {
        attempts += 1;
        std::future::ready(if attempts == 1 { Err(Error::Inner(Fault("failed"))) } else { Ok(()) })
    };
    unlimited.handle().run(attempt).await.unwrap();
    assert_eq!(tokens_and_cap(NAME).await, (10.0, 10.0));
}
