//! An outage, with and without a circuit breaker: a server fails, hangs, cuts its answers off, and heals.
//!
//! ```text
//! cargo run --example outage --all-features
//! ```
//!
//! Takes 23 seconds, and needs nothing but the loopback device. Two clients make 200 calls per second each, over
//! real HTTP/1, to a server each; the two servers are sick in the same way at the same time. One client has a
//! timeout of a second, the other one has that and a circuit breaker.
//!
//! What to look for:
//!
//! - The **circuit's timeline**: it opens (`#`) a moment after each fault begins, also where the server just
//!   hangs and no call has failed yet, and where each call began with a `200 OK`. It asks (`?`) now and
//!   then, and once the answers are good it lets the traffic return step by step (`/`).
//! - **In flight** and **p99** while the server hangs: the bare client's calls pile up and wait for a second
//!   each; the protected client's callers are answered at once.
//! - **To server**: a sick server that is left alone.
//! - The `/metrics` page, for which the address is printed: it can be looked at while this runs.
//!
//! In a terminal there is a panel, elsewhere a line per second. It ends with a summary, and with an exit status
//! that is not zero if the circuit breaker did not do its job.
//!
//! Times are those of a film: windows and waits are a tenth of what a service in production would have.

#![allow(clippy::disallowed_methods, reason = "a program may read the clock and spawn")]

mod exporter;
mod history;
mod lane;
mod report;
mod screen;
mod script;
mod server;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use stanchion::http::Http;
use stanchion::{CircuitBreakerConfig, CircuitBreakerLayer, Window};
use tower::ServiceBuilder;
use tower::timeout::TimeoutLayer;

use crate::exporter::Exporter;
use crate::history::History;
use crate::lane::Lane;
use crate::report::Report;
use crate::screen::Screen;
use crate::script::Script;

/// How long both clients wait for the head of an answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The end of the run, in which all must be well.
const LAST: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    // Before the layer is built, which takes its handles once.
    let exporter = Exporter::start().await?;
    println!("metrics at {} while this runs\n", exporter.url());

    let breaker = CircuitBreakerLayer::new(config()).name("payments").protocol(Http::new());
    let script = Script::begin();
    let history = History::listen(&breaker.handle(), script);
    let bare = Lane::new("bare client", script).await?;
    let protected = Lane::new("with stanchion", script).await?;

    let bare_stack = ServiceBuilder::new().layer(TimeoutLayer::new(TIMEOUT)).service(http_client());
    let protected_stack =
        ServiceBuilder::new().layer(breaker).layer(TimeoutLayer::new(TIMEOUT)).service(http_client());
    let drivers = [
        tokio::spawn(Arc::clone(&bare).drive(bare_stack)),
        tokio::spawn(Arc::clone(&protected).drive(protected_stack)),
    ];

    let mut screen = Screen::new(script, history.clone(), [Arc::clone(&protected), Arc::clone(&bare)]);
    while !script.is_over() {
        tokio::time::sleep(screen.period().min(script.left())).await;
        screen.show()?;
        exporter.upkeep();
    }
    for driver in drivers {
        driver.await??;
    }

    let metrics = exporter.scrape().await?;
    println!("\nFrom {}, without buckets and zeros:", exporter.url());
    let is_told =
        |line: &&str| line.starts_with("stanchion_") && !line.contains("_bucket{") && !line.ends_with(" 0");
    let mut lines: Vec<_> = metrics.lines().filter(is_told).collect();
    lines.sort_unstable();
    for line in lines {
        println!("  {line}");
    }

    let report = Report::new(&history, &bare, &protected);
    report.print();
    if report.check(&metrics) {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("\nThe circuit breaker did not do its job: see the lines above that begin with FAILED.");
    Ok(ExitCode::FAILURE)
}

fn config() -> CircuitBreakerConfig {
    CircuitBreakerConfig::new()
        .window(Window::time(Duration::from_secs(1)))
        .min_calls(20)
        // A server with three failures in ten calls had better be left alone ...
        .failure_ratio(0.3)
        // ... and so had one that is slow half of the time, also if its calls have not come back yet.
        .slow_after(TIMEOUT / 4)
        .slow_ratio(0.5)
        // It probes soon, then less often.
        .open_for(Duration::from_millis(300))
        .max_open_for(Duration::from_millis(800))
        .probes(2)
        // Traffic returns over this long.
        .ramp(Duration::from_millis(500))
}

fn http_client() -> Client<HttpConnector, Empty<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}
