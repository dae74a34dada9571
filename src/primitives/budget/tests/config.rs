//! What may be configured, and what a budget says of it.

use super::*;

#[test]
fn a_setting_that_cannot_be_used_is_named() {
    let config = BudgetConfig::new;
    let field = |config: BudgetConfig| config.validate().err().map(|error| error.field());
    for (name, invalid) in [
        ("ratio", config().ratio(-0.1)),
        ("ratio", config().ratio(1_000.1)),
        ("ratio", config().ratio(f64::NAN)),
        ("per_second", config().per_second(-1.0)),
        ("per_second", config().per_second(f64::INFINITY)),
        ("cap", config().cap(0.0)),
        ("cap", config().cap(1e10)),
        ("retry_cost", config().retry_cost(0.0)),
        ("retry_cost", config().retry_cost(10.5)),
        ("timeout_cost", config().cap(1.5)),
    ] {
        assert_eq!(field(invalid.clone()), Some(name), "{invalid:?}");
        assert_eq!(Budget::try_new(invalid).err().map(|error| error.field()), Some(name));
    }
    for valid in [
        config(),
        BudgetConfig::default(),
        config().ratio(0.0).per_second(0.0),
        config().ratio(1_000.0).per_second(1e9).cap(1e9).retry_cost(1e9).timeout_cost(0.001),
        config().cap(0.001).retry_cost(0.001).timeout_cost(0.001),
    ] {
        assert_eq!(field(valid.clone()), None, "{valid:?}");
    }
}

#[test]
fn a_budget_tells_its_configuration() {
    let config = ratio(0.25).cap(4.0);
    assert_eq!(Budget::new(config.clone()).config(), Some(config));
    assert_eq!(Budget::default().clone().config(), Some(BudgetConfig::new()));
    assert_eq!(Budget::unlimited().config(), None);
}
