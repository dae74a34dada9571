//! A circuit breaker around what is no tower service: the queries of a database.
//!
//! ```text
//! cargo run --example database
//! ```
//!
//! The database is a struct with an async method, as the usual drivers are; it is killed and started again.
//!
//! What to look for: the queries that fail before the circuit opens, the ones after it that do not reach the
//! database at all, and the one that finds it well again. The application's error type stays its own; it needs
//! one `From`.

#![allow(clippy::disallowed_methods, reason = "a program may wait")]

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use stanchion::circuit_breaker::{CircuitBreakerHandle, State};
use stanchion::classify::Class;
use stanchion::{CircuitBreakerConfig, CircuitBreakerLayer, Rejected};

/// Whatever can go wrong in this application.
#[derive(Debug)]
enum AppError {
    ConnectionRefused,
    NoSuchUser(u32),
    /// The circuit breaker did not let the query through.
    Unavailable(Rejected),
}

// The one line that the circuit breaker asks for.
stanchion::carry_rejected!(AppError, Unavailable);

/// For `?` on what `try_acquire` returns.
impl From<Rejected> for AppError {
    fn from(rejected: Rejected) -> Self {
        Self::Unavailable(rejected)
    }
}

impl fmt::Display for AppError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectionRefused => f.write_str("connection refused"),
            Self::NoSuchUser(id) => write!(f, "no user {id}"),
            Self::Unavailable(rejected) => write!(f, "{rejected}"),
        }
    }
}

impl std::error::Error for AppError {
    /// In a box, a rejection is known by this.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unavailable(rejected) => Some(rejected),
            Self::ConnectionRefused | Self::NoSuchUser(_) => None,
        }
    }
}

#[derive(Default)]
struct Database {
    is_down: AtomicBool,
    queries: AtomicU32,
}

impl Database {
    async fn user(&self, id: u32) -> Result<String, AppError> {
        self.queries.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(1)).await;
        match id {
            _ if self.is_down.load(Ordering::Relaxed) => Err(AppError::ConnectionRefused),
            1..=9 => Ok(format!("user {id}")),
            _ => Err(AppError::NoSuchUser(id)),
        }
    }
}

/// The database as the application uses it.
struct Users<'a> {
    database: &'a Database,
    circuit: CircuitBreakerHandle,
}

impl Users<'_> {
    /// `run_with` takes the query, and a classifier: that somebody is not there is no fault of the database.
    /// Where every error is a failure, `self.circuit.run(query)` does.
    async fn find(&self, id: u32) -> Result<String, AppError> {
        let classify = |result: Result<&String, &AppError>| match result {
            Ok(_) | Err(AppError::NoSuchUser(_)) => Class::Success,
            Err(_) => Class::Failure,
        };
        self.circuit.run_with(classify, self.database.user(id)).await
    }

    /// A permit is for what is not one future: here two queries that make one call. If this is dropped in
    /// between, so is the permit, and the call counts as cancelled.
    async fn find_both(&self, one: u32, other: u32) -> Result<(String, String), AppError> {
        let permit = self.circuit.try_acquire()?;
        let both = async { Ok((self.database.user(one).await?, self.database.user(other).await?)) }.await;
        permit.finish(match &both {
            Ok(_) | Err(AppError::NoSuchUser(_)) => Class::Success,
            Err(_) => Class::Failure,
        });
        both
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AppError> {
    let config =
        CircuitBreakerConfig::new().consecutive_failures(3).open_for(Duration::from_millis(100)).probes(1);
    let layer = CircuitBreakerLayer::new(config).name("users_db");
    let database = Database::default();
    let users = Users { database: &database, circuit: layer.handle() };

    println!("it works:     {}", users.find(1).await?);
    println!("two at once:  {:?}", users.find_both(1, 2).await?);
    println!("a true error: {}", users.find(77).await.expect_err("there is no such user"));

    println!("\nThe database is killed.");
    database.is_down.store(true, Ordering::Relaxed);
    let before = database.queries.load(Ordering::Relaxed);
    for _ in 0..5 {
        let error = users.find(1).await.expect_err("the database is down");
        println!("circuit {:6} {error}", users.circuit.state().as_str());
    }
    let error = users.find_both(1, 2).await.expect_err("the circuit is open");
    assert!(matches!(error, AppError::Unavailable(_)));
    let queries = database.queries.load(Ordering::Relaxed) - before;
    println!("6 calls, of which {queries} reached the database");
    assert_eq!(queries, 3);

    println!("\nThe database is started again.");
    database.is_down.store(false, Ordering::Relaxed);
    // What a caller would do with the hint: answer 503 with a Retry-After, or take the message up later.
    let AppError::Unavailable(rejected) = error else { return Err(error) };
    let wait = rejected.retry_after().expect("it opened by itself, and so knows when it probes");
    tokio::time::sleep(wait).await;
    println!("after {wait:.0?}: {}", users.find(1).await?);
    assert_eq!(users.circuit.state(), State::Closed);
    println!("the circuit is {}", users.circuit.state());
    Ok(())
}
