//! What counts as a failure is yours to say: with a closure, or with a type of your own.
//!
//! ```text
//! cargo run --example classifier
//! ```
//!
//! What to look for: two hundred errors that are no fault of the shop leave its circuit closed, ten that are open
//! it; and answers that are no errors at all, but old prices, open the circuit of a caller who cannot use those.

use std::fmt;

use stanchion::circuit_breaker::{CircuitBreakerConfig, CircuitBreakerLayer, State};
use stanchion::classify::{CarryGuard, Class, Classify, Guard, Outcome};
use stanchion::{Error, Window};
use tower::{Layer, ServiceExt, service_fn};

#[derive(Debug)]
struct Price {
    is_outdated: bool,
}

#[derive(Debug)]
enum ShopError {
    NoSuchItem,
    MayNotBuy,
    Broken,
}

impl fmt::Display for ShopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchItem => "no such item",
            Self::MayNotBuy => "may not buy",
            Self::Broken => "broken",
        })
    }
}

impl std::error::Error for ShopError {}

type Answer = Result<Price, Error<ShopError>>;

/// A shop that answers as it is asked to.
async fn shop(answer: Answer) -> Answer {
    answer
}

/// A type is for what a closure cannot do: it has settings, and a name to write into a struct.
#[derive(Clone, Debug)]
struct PriceProtocol {
    outdated: Class,
}

impl Classify<Price, Error<ShopError>> for PriceProtocol {
    fn classify(&self, result: Result<&Price, &Error<ShopError>>) -> Outcome {
        match result {
            Ok(price) if price.is_outdated => self.outdated.into(),
            Ok(_) => Outcome::success(),
            Err(_) => Outcome::failure(),
        }
    }
}

/// A price is all there is to a response. For a call that goes on after it, a stream or a transaction, this would put the
/// guard into the response, which would be of another type then.
impl CarryGuard<Price> for PriceProtocol {
    type Response<G: Guard> = Price;

    fn carry<G: Guard>(&self, price: Price, guard: Option<(G, Outcome)>) -> Price {
        if let Some((guard, outcome)) = guard {
            guard.finish(outcome);
        }
        price
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // Opens when half of the last ten calls failed.
    let config = CircuitBreakerConfig::new().window(Window::calls(10));

    let layer =
        CircuitBreakerLayer::new(config.clone()).name("shop").classify(
            |result: Result<&_, &_>| match result {
                // It did its job: it knows that there is no such thing.
                Ok(_) | Err(Error::Inner(ShopError::NoSuchItem)) => Class::Success,
                // This says something about the caller, and nothing about the shop.
                Err(Error::Inner(ShopError::MayNotBuy) | Error::Rejected(_)) => Class::Ignored,
                Err(Error::Inner(ShopError::Broken)) => Class::Failure,
            },
        );
    let (circuit, service) = (layer.handle(), layer.layer(service_fn(shop)));
    for _ in 0..100 {
        for harmless in [ShopError::NoSuchItem, ShopError::MayNotBuy] {
            let answer = service.clone().oneshot(Err(Error::Inner(harmless))).await;
            assert!(matches!(answer, Err(Error::Inner(_))));
        }
    }
    println!("200 errors of callers: {}", circuit.state());
    assert_eq!(circuit.state(), State::Closed);

    for _ in 0..10 {
        let _ = service.clone().oneshot(Err(Error::Inner(ShopError::Broken))).await;
    }
    println!("10 errors of the shop: {}", circuit.state());
    assert_eq!(circuit.state(), State::Open);

    let answer = service.oneshot(Ok(Price { is_outdated: false })).await;
    println!("and then:              {answer:?}");
    assert!(matches!(answer, Err(Error::Rejected(_))));

    for (outdated, state) in [(Class::Success, State::Closed), (Class::Failure, State::Open)] {
        let layer = CircuitBreakerLayer::new(config.clone()).protocol(PriceProtocol { outdated });
        let (circuit, service) = (layer.handle(), layer.layer(service_fn(shop)));
        for _ in 0..10 {
            let _ = service.clone().oneshot(Ok(Price { is_outdated: true })).await;
        }
        println!("10 old prices, each a {outdated:?}: {}", circuit.state());
        assert_eq!(circuit.state(), state);
    }
}
