//! The checker itself: that it finds what is wrong, and that it leaves alone what is right.

use super::violations;

#[track_caller]
fn passes(file: &str, text: &str) {
    assert_eq!(violations(&[(file, text)]), [""; 0], "in\n{text}");
}

/// The text has exactly one violation, which names `what`.
#[track_caller]
fn fails(file: &str, text: &str, what: &str) {
    let found = violations(&[(file, text)]);
    assert_eq!(found.len(), 1, "{found:?} in\n{text}");
    assert!(found[0].contains(what), "{found:?} does not name {what}");
}

#[test]
fn an_import_from_below_passes() {
    passes(
        "src/middleware/retry/service.rs",
        "use crate::primitives::budget::Budget;\nuse crate::classify::Classify;",
    );
    passes("src/primitives/window.rs", "use crate::base::sync::{AtomicU64, Ordering};");
    passes(
        "src/assembly/stack.rs",
        "use crate::{middleware::{retry::RetryLayer, circuit_breaker}, error::Error};",
    );
}

#[test]
fn an_import_from_above_fails() {
    fails(
        "src/primitives/window.rs",
        "\n\nuse crate::telemetry::Event;",
        "src/primitives/window.rs:3: `primitives::window` imports `telemetry`, which is above it",
    );
    fails("src/base/clock/mod.rs", "use crate::error::Rejected;", "above");
    fails("src/telemetry/mod.rs", "use crate::middleware::circuit_breaker::Transition;", "above");
    fails("src/middleware/retry/mod.rs", "use crate::assembly::stack::Stack;", "above");
}

#[test]
fn middlewares_may_not_import_one_another() {
    fails("src/middleware/retry/service.rs", "use crate::middleware::circuit_breaker::Permit;", "beside");
    fails("src/middleware/hedge.rs", "fn f(_: crate::middleware::retry::Retry<()>) {}", "beside");
}

#[test]
fn within_a_layer_only_what_is_listed_may_be_imported() {
    passes("src/primitives/window.rs", "use crate::{config::Ratio, error::Rejected};");
    passes("src/config.rs", "use crate::error::Rejected;");
    fails("src/error.rs", "use crate::config::Ratio;", "beside");
    fails("src/primitives/window.rs", "use crate::primitives::in_flight::InFlight;", "beside");
    passes("src/base/clock/mod.rs", "use crate::base::sync::lock;");
    fails("src/base/sync.rs", "use crate::base::clock::Clock;", "beside");
    passes("src/telemetry/metrics.rs", "use crate::classify::Class;");
    fails("src/classify/mod.rs", "use crate::telemetry::Event;", "beside");
    fails("src/assembly/registry.rs", "use crate::assembly::stack::Stack;", "beside");
}

#[test]
fn every_way_to_write_an_import_is_understood() {
    for import in [
        "use crate::{error::Rejected, middleware::retry::{config::RetryConfig, Retry}};",
        "use crate::{\n    error::{self, Rejected},\n    middleware::{retry},\n};",
        "use crate::middleware::retry::*;",
        "use crate::middleware::retry as again;",
        "pub(crate) use crate::middleware::retry::Retry;",
        "use ::stanchion::middleware::retry::Retry;",
        "use super::super::retry::Retry;",
        "use super::{super::retry::Retry};",
        "use crate::middleware::r#retry::Retry;",
        "fn f() -> crate::middleware::retry::Retry { todo!() }",
        "fn f() { <() as crate::middleware::retry::Policy>::f() }",
        "fn f() { let x = crate::middleware::retry::Retry::<u8>::new(); }",
        "impl super::super::retry::Policy for () {}",
        "macro_rules! m { () => { $crate::middleware::retry::f() } }",
        "mod inner { use super::super::super::retry::Retry; }",
        "mod a { mod b { use crate::middleware::retry::Retry; } }",
        "#[cfg(test)] mod tests { use crate::middleware::retry::Retry; }",
        "type A = [u8; crate::middleware::retry::SIZE];",
        "#[derive(crate::middleware::retry::Derive)] struct S;",
        "fn f() { crate::middleware::retry::retry!() }",
    ] {
        fails("src/middleware/hedge/state.rs", import, "`middleware::hedge` imports `middleware::retry`");
    }
}

#[test]
fn a_module_may_import_its_own_parts() {
    passes(
        "src/middleware/hedge/state.rs",
        "use super::config::HedgeConfig; use crate::middleware::hedge::Hedge; use self::inner::A;",
    );
    passes(
        "src/middleware/hedge/mod.rs",
        "use config::HedgeConfig; use self::retry::A; pub(in crate::middleware::hedge) fn f() {}",
    );
    // In an inline module, one `super` more is needed to leave the file.
    passes(
        "src/middleware/hedge/state.rs",
        "mod retry {} mod tests { use super::retry::A; use super::super::retry::B; }",
    );
    passes("src/primitives/window.rs", "mod tests { use super::*; }");
}

#[test]
fn what_is_not_code_is_not_an_import() {
    passes(
        "src/middleware/hedge.rs",
        r####"
        //! use crate::middleware::retry::Retry;
        /// [`Retry`](crate::middleware::retry::Retry)
        // use crate::middleware::retry::Retry;
        /* use crate::middleware::retry::Retry; /* crate::middleware::retry */ crate::middleware::retry::Retry */
        const A: &str = "use crate::middleware::retry::Retry; \" crate::middleware::retry::Retry";
        const B: &str = r#"use crate::middleware::retry::Retry; " crate::middleware::retry::Retry"#;
        const C: &[u8] = b"crate::middleware::retry::Retry";
        const D: &str = r"\";
        const E: [char; 3] = ['"', '\'', '\u{22}'];
        fn f<'a>(crate_: &'a str) -> impl Sized + use<'a> { (crate_, "crate::middleware::retry::Retry", '/', '/') }
        "####,
    );
    // What follows them is.
    for before in
        ["'\"'", "'\\''", "b'\"'", "r\"\\\"", "r##\"\"#\"##", "\"\\\\\"", "/* /* */ */ 0", "{ 'a: loop {} }"]
    {
        let text = format!("const A: X = {before};\nuse crate::middleware::retry::Retry; // \"");
        fails(
            "src/middleware/hedge.rs",
            &text,
            "src/middleware/hedge.rs:2: `middleware::hedge` imports `middleware::retry`",
        );
    }
}

#[test]
fn a_module_without_a_layer_fails() {
    fails("src/novel/mod.rs", "", "place the module `novel` in a rank");
    let found = violations(&[("src/middleware/hedge.rs", "use crate::novel::A;"), ("src/novel.rs", "")]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|found| found.contains("place the module `novel` in a rank")), "{found:?}");
}

#[test]
fn the_root_is_no_way_around_the_layers() {
    fails("src/middleware/hedge.rs", "use crate::Retry;", "name the module it is from");
    fails("src/middleware/hedge.rs", "use crate::*;", "name the module it is from");
    fails("src/middleware/hedge.rs", "use super::super::Retry;", "name the module it is from");
    fails("src/middleware/hedge.rs", "use crate as root;", "names the root");
    fails("src/middleware/hedge.rs", "use crate::{self as root};", "names the root");
    fails("src/middleware/hedge.rs", "crate::novel::accessors!(inner);", "name the module it is from");
    passes("src/middleware/hedge.rs", "crate::accessors!(inner);");
}

#[test]
fn lib_may_name_everything() {
    passes(
        "src/lib.rs",
        "pub mod retry; pub use crate::middleware::retry::Retry; #[cfg(feature = \"http\")] pub use stack::Stack;",
    );
}

#[test]
fn only_the_clock_reads_time() {
    for text in [
        "fn f() { std::time::Instant::now(); }",
        "use tokio::time::Instant; fn f() { Instant::now(); }",
        "fn f() { std::time::SystemTime::now(); }",
        "use tokio::time::{self, Instant}; fn f() { time::sleep(d); }",
        "use tokio::time::{Sleep, sleep_until};",
        "use tokio::time::*;",
        "fn f() { tokio::time::timeout(d, f); }",
        "fn f() { std::thread::sleep(d); }",
        "#[cfg(not(test))] fn f() { Instant::now(); }",
        "#[cfg(any(test, unix))] fn f() { Instant::now(); }",
        "#[cfg(test)] use x::y; fn f() { Instant::now(); }",
        "struct S { #[cfg(test)] a: u8 } fn f() { Instant::now(); }",
        "struct S { #[cfg(test)] a: u8, b: [u8; f(Instant::now)] }",
        "#[cfg(test)] mod t { fn f() { Instant::now(); } } fn f() { Instant::now(); }",
    ] {
        fails("src/middleware/hedge/service.rs", text, "belongs to src/base/clock");
        passes("src/base/clock/mod.rs", text);
    }
}

#[test]
fn using_the_clock_or_the_name_of_a_timer_is_not_reading_time() {
    passes(
        "src/middleware/hedge/future.rs",
        "use crate::base::clock::{self, Clock}; fn f(c: Clock) { c.sleep_until(clock::sleep(d)); }",
    );
    passes(
        "src/middleware/hedge/future.rs",
        "struct F { sleep: tokio::time::Sleep } fn f(this: F) { this.sleep.poll(cx); }",
    );
    passes("src/middleware/hedge/future.rs", "use std::time::{Duration, Instant};");
    passes("src/middleware/hedge/future.rs", "use std::time::*;");
}

#[test]
fn tests_may_read_time() {
    let text = "fn f() { tokio::time::sleep(Instant::now() - START); }";
    fails(
        "src/middleware/hedge/service.rs",
        &text.replace("Instant::now()", "now"),
        "belongs to src/base/clock",
    );
    passes("src/middleware/hedge/tests.rs", text);
    passes("src/middleware/hedge/model.rs", text);
    passes("src/middleware/hedge/model/slow.rs", text);
    passes("src/middleware/hedge/schedules.rs", text);
    passes("src/middleware/hedge/state.rs", "#[cfg(test)] static A: [X; 2] = [Instant::now(); 2];");
    passes("src/middleware/hedge/tests/slow.rs", &format!("#[cfg(test)] mod more {{ {text} }}"));
    for test in
        ["#[cfg(test)]", "#[cfg(all(test, not(stanchion_loom)))]", "#[cfg(test)] #[allow(a, reason = \"b\")]"]
    {
        passes("src/middleware/hedge/service.rs", &format!("{test} mod tests {{ {text} }}"));
        passes("src/middleware/hedge/service.rs", &format!("{test} fn g(a: A, b: B) {{ {text} }}"));
    }
}

#[test]
fn atomics_come_from_one_place() {
    fails("src/primitives/window.rs", "use std::sync::{Arc, atomic::AtomicU64};", "crate::base::sync");
    fails("src/primitives/window.rs", "fn f(a: &core::sync::atomic::AtomicU64) {}", "crate::base::sync");
    fails("src/primitives/window.rs", "use std::sync::*;", "crate::base::sync");
    passes("src/primitives/window.rs", "use std::sync::Arc; #[cfg(test)] use std::sync::atomic::AtomicU64;");
    passes("src/base/sync.rs", "pub(crate) use std::sync::atomic::AtomicU64;");
}

#[test]
fn features_are_asked_for_in_few_places() {
    for text in [
        "#[cfg(feature = \"http\")] fn f() {}",
        "#[cfg(all(not(feature = \"http\"), unix))] fn f() {}",
        "#[cfg_attr(feature = \"serde\", derive(Debug))] struct S;",
        "fn f() -> bool { cfg!(feature = \"http\") }",
    ] {
        fails("src/middleware/hedge/service.rs", text, "`cfg(feature)` belongs to");
        fails("src/primitives/window.rs", text, "`cfg(feature)` belongs to");
        passes("src/middleware/hedge/config.rs", text);
        passes("src/config.rs", text);
        passes("src/error/carry_rejected.rs", text);
        passes("src/http/classify.rs", text);
        passes("src/telemetry/mod.rs", text);
        passes("src/protocol/mod.rs", text);
        passes("src/middleware/respond/mod.rs", text);
    }
    passes(
        "src/middleware/hedge/mod.rs",
        "#[cfg_attr(docsrs, doc(cfg(feature = \"http\")))] fn f() { let feature = 1; }",
    );
    passes(
        "src/middleware/hedge/mod.rs",
        "// #[cfg(feature = \"http\")]\n#[cfg(test)] mod t { #[cfg(feature = \"http\")] fn f() {} }",
    );
}

#[test]
fn what_decides_knows_neither_tokio_nor_tower() {
    for file in [
        "middleware/circuit_breaker/state.rs",
        "middleware/circuit_breaker/state_word.rs",
        "middleware/hedge/trial.rs",
        "primitives/window.rs",
        "primitives/in_flight.rs",
    ] {
        let file = format!("src/{file}");
        fails(&file, "use tokio::sync::Notify;", "names `tokio`");
        fails(&file, "use tower::Service;", "names `tower`");
        fails(&file, "fn f<S: tower_service::Service<()>>() {}", "names `tower_service`");
        passes(&file, "//! tokio\n#[cfg(test)] mod tests { use tokio::sync::Notify; }");
    }
    passes("src/middleware/circuit_breaker/service.rs", "use tokio::sync::Notify;");
}

#[test]
fn what_the_deciding_files_need_is_held_to_the_same() {
    let needed = ("src/middleware/hedge/verdict.rs", "use super::cause::Cause;");
    let tokio = ("src/middleware/hedge/cause.rs", "use tokio::sync::Notify;");
    for state in [
        "use super::verdict::judge;",
        "use super::{A, verdict};",
        "fn f() { crate::middleware::hedge::verdict::judge() }",
    ] {
        let found = violations(&[("src/middleware/hedge/state.rs", state), needed, tokio]);
        assert_eq!(found.len(), 1, "{found:?} for {state}");
        assert!(found[0].starts_with("src/middleware/hedge/cause.rs:1: names `tokio`"), "{found:?}");
    }
    for other in [
        ("src/middleware/hedge/service.rs", "use super::verdict::judge;"),
        ("src/middleware/hedge/state.rs", "#[cfg(test)] mod tests { use super::super::verdict::judge; }"),
    ] {
        assert_eq!(violations(&[other, needed, tokio]), [""; 0], "{other:?}");
    }
}
