//! A retry storm, and what tames it: five clients call a service that gets slow for ten seconds.
//!
//! ```text
//! cargo run --example storm
//! ```
//!
//! Takes some ten seconds, and one with `--release`, in which the clients go through some minutes. The service is a
//! simulation, the layers are the real ones. What is random follows from a seed: `STANCHION_SEED=7` sets another.
//!
//! Ten workers can serve 1,000 requests per second, and are asked for 700. Then each request takes five times as long for
//! ten seconds, and after that all is well again: or should be. Every client gives up on an attempt after 100 ms.
//!
//! What to look for: **how long the trouble lasts once its cause is gone**. Retries without a limit keep it going, with
//! backoff and jitter as well as without. A budget ends that with one line.
//!
//! It ends with an exit status that is not zero if any of this is not so.

#[path = "../../tests/support/fault.rs"]
mod fault;
#[path = "../../tests/support/virtual_server.rs"]
mod virtual_server;

mod report;

use std::ops::Range;
use std::process::ExitCode;
use std::time::Duration;

use stanchion::{
    Backoff, Budget, BudgetConfig, CircuitBreakerConfig, CircuitBreakerLayer, RetryConfig, RetryLayer,
    TimeoutLayer, Window,
};
use tower::{Service, ServiceBuilder};
use virtual_server::{
    Answer, Calls, Event, Failed, MILLISECOND, Mode, Orphans, Request, SECOND, Server, Traffic, seed,
    simulate,
};

use crate::report::Report;

/// The clients. They differ in nothing but what is said here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    WithoutRetries,
    AtOnce,
    WithJitter,
    WithBudget,
    WithBreaker,
}

impl Client {
    const ALL: [Self; 5] =
        [Self::WithoutRetries, Self::AtOnce, Self::WithJitter, Self::WithBudget, Self::WithBreaker];

    /// All five are made like this.
    fn over(self, server: Server) -> impl Service<Request, Response = Answer, Error = Failed> + Clone {
        ServiceBuilder::new()
            // So long the caller waits, for all attempts together.
            .layer(TimeoutLayer::after(SECOND))
            .layer(self.retry())
            // Inside of the retries: it judges each attempt, and when it refuses none is made.
            .option_layer(self.circuit_breaker())
            .layer(TimeoutLayer::per_attempt(100 * MILLISECOND))
            .service(server)
    }

    fn retry(self) -> RetryLayer {
        let three_times = RetryConfig::new().max_attempts(4);
        // Any time up to 50 ms, then up to 100 ms, then up to 200 ms.
        let with_jitter = three_times.clone().backoff(Backoff::exponential(50 * MILLISECOND));
        match self {
            Self::WithoutRetries => RetryLayer::new(RetryConfig::new().max_attempts(1)),
            Self::AtOnce => {
                let at_once = three_times.backoff(Backoff::constant(Duration::ZERO));
                RetryLayer::new(at_once).budget(Budget::unlimited())
            }
            Self::WithJitter => RetryLayer::new(with_jitter).budget(Budget::unlimited()),
            // This is the one to copy. It could be left out: every layer has a budget, by default this one.
            Self::WithBudget | Self::WithBreaker => {
                RetryLayer::new(with_jitter).budget(Budget::new(BudgetConfig::new().ratio(0.1)))
            }
        }
    }

    fn circuit_breaker(self) -> Option<CircuitBreakerLayer> {
        (self == Self::WithBreaker).then(|| {
            CircuitBreakerLayer::new(
                CircuitBreakerConfig::new()
                    .window(Window::time(2 * SECOND))
                    .open_for(SECOND / 2)
                    .max_open_for(SECOND),
            )
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::WithoutRetries => "no retries",
            Self::AtOnce => "3 retries, at once",
            Self::WithJitter => "3, backoff and jitter",
            Self::WithBudget => "3, within a budget",
            Self::WithBreaker => "budget and breaker",
        }
    }
}

/// Calls per second, of a service that can serve 1,000.
const RATE: u32 = 700;
const SLOW: Range<Duration> = Duration::from_secs(5)..Duration::from_secs(15);
/// In all.
const SECONDS: u32 = 40;
/// Whoever recovers has done so by then.
const LAST: Range<Duration> = Duration::from_secs(30)..Duration::from_secs(40);

/// What happened.
struct Run {
    server: Server,
    calls: Calls<Failed>,
}

impl Run {
    fn of(client: Client, lasting: Duration, server: impl FnOnce(Server) -> Server) -> Self {
        // For the jitter of the layers.
        fastrand::seed(seed());
        simulate(async {
            let server = server(Server::of_ten_workers());
            let calls = Traffic::random(RATE, lasting).drive(&server, &[client.over(server.clone())]).await;
            Self { server, calls }
        })
    }

    fn slow(client: Client, orphans: Orphans) -> Self {
        let weather = [(SLOW.start, Mode::Slow(5.0)), (SLOW.end, Mode::Well)];
        Self::of(client, LAST.end, |server| server.orphans(orphans).weather(weather))
    }

    /// Until 95 % of the calls of each second are answered; from when the service is well again.
    fn recovery(&self) -> Option<Duration> {
        self.calls.recovery(SLOW.end, LAST.end, 0.95)
    }

    /// How much of what the service did in the end was for clients that had gone.
    fn wasted(&self) -> f64 {
        let [served, wasted] = [Event::Served, Event::Wasted].map(|event| self.per_second(event, LAST));
        wasted / (served + wasted)
    }

    /// The most attempts per call.
    fn worst_second(&self) -> f64 {
        self.calls.worst(&self.server, Duration::ZERO..LAST.end, 1)
    }

    #[allow(clippy::cast_precision_loss, reason = "some thousand requests")]
    fn per_second(&self, event: Event, during: Range<Duration>) -> f64 {
        self.server.count(event, during.clone()) as f64 / (during.end - during.start).as_secs_f64()
    }
}

/// What one client went through.
struct Lane {
    client: Client,
    /// With a service that does not begin a request whose client has gone.
    slow: Run,
    /// With one that does: until the queue is worked off, each of its answers is too late.
    behind_orphans: Run,
    /// The share of calls that are answered when one request of twenty fails, which is what retries are for.
    hidden: f64,
}

impl Lane {
    fn of(client: Client) -> Self {
        let failing = [(Duration::ZERO, Mode::Fails(0.05))];
        let failing = Run::of(client, SLOW.start, |server| server.weather(failing));
        Self {
            client,
            slow: Run::slow(client, Orphans::Skipped),
            behind_orphans: Run::slow(client, Orphans::Served),
            hidden: failing.calls.success(Duration::ZERO..SLOW.start),
        }
    }
}

fn main() -> ExitCode {
    report::introduce();
    let lanes = Client::ALL.map(|client| {
        let lane = Lane::of(client);
        report::show(&lane);
        lane
    });
    let report = Report { lanes, cancelled: Run::slow(Client::AtOnce, Orphans::Stopped) };
    report.explain();
    report.summarise();
    if report.check() {
        return ExitCode::SUCCESS;
    }
    eprintln!("\nIt is not as this example says: see the lines above that begin with FAILED.");
    ExitCode::FAILURE
}
