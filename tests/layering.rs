//! Who may import whom, and who may name what: read from the source, because no lint knows it.
//!
//! The layers below are the ones of the design: a module imports from the layers under its own, and the
//! middlewares never import one another. What two of them want moves down.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "helpers of a test")]

#[path = "support/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use source::Source;

/// From the bottom up. `lib.rs` stands above all of them.
const LAYERS: &[&[&str]] = &[
    &["sync", "clock", "numbered", "buckets"],
    &[
        "error",
        "config",
        "macros",
        "deadline",
        "window",
        "in_flight",
        "latency",
        "permits",
        "backoff",
        "budget",
        "headers",
        "replay_body",
    ],
    &["classify", "telemetry", "protocol"],
    &["admission"],
    &[
        "circuit_breaker",
        "retry",
        "timeout",
        "bulkhead",
        "adaptive_limit",
        "rate_limit",
        "throttle",
        "fallback",
        "hedge",
        "chaos",
        "outlier",
        "respond",
    ],
    &["registry", "stack", "balance", "tower_policy", "docs"],
];

/// The imports within a layer that are right nevertheless: of the second module by the first. A `*` stands
/// for the rest of the layer.
const WITHIN: &[(&str, &str)] = &[
    ("clock", "sync"),
    ("buckets", "clock"),
    ("*", "error"),
    ("*", "config"),
    ("config", "error"),
    ("telemetry", "classify"),
    ("protocol", "classify"),
    ("protocol", "telemetry"),
];

/// What decides is pure: these modules, and these files of each middleware with all files that they need,
/// know neither tokio nor tower.
const PURE_MODULES: &[&str] =
    &["numbered", "buckets", "window", "in_flight", "permits", "backoff", "budget", "latency", "headers"];
const PURE_FILES: &[&str] = &["state", "orders", "trial", "store", "when", "word", "meter", "algorithm"];

/// The functions of `tokio::time` that arm a timer.
const TIMERS: &[&str] = &["sleep", "sleep_until", "timeout", "timeout_at", "interval", "interval_at", "*"];

/// Everything that is wrong with these files, as `(name, text)`.
fn violations(files: &[(&str, &str)]) -> Vec<String> {
    let sources: Vec<Source> = files.iter().map(|(file, text)| Source::parse(file, text)).collect();
    let mut found = BTreeSet::new();
    for source in &sources {
        imports(source, &sources, &mut found);
        time(source, &mut found);
        atomics(source, &mut found);
        features(source, &mut found);
    }
    purity(&sources, &mut found);
    found.into_iter().collect()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn may_import(from: &str, to: &str) -> bool {
    let (Some(upper), Some(lower)) = (layer(from), layer(to)) else { return false };
    let shared = |name| WITHIN.contains(&("*", name));
    from == to
        || upper > lower
        || (upper == lower && (WITHIN.contains(&(from, to)) || (shared(to) && !shared(from))))
}

fn imports(source: &Source, all: &[Source], found: &mut BTreeSet<String>) {
    let Some(from) = source.top() else { return };
    let file = &source.file;
    if layer(from).is_none() {
        found.insert(format!("{file}: place the module `{from}` in a layer of tests/layering.rs"));
        return;
    }
    for path in source.paths.iter().filter(|path| path.inside) {
        let number = path.line.number;
        let Some(to) = path.segments.first() else {
            found.insert(format!("{file}:{number}: `{from}` names the root of the crate, not a module"));
            continue;
        };
        if layer(to).is_some() {
            if !may_import(from, to) {
                let which = if layer(from) == layer(to) { "beside it" } else { "above it" };
                found.insert(format!("{file}:{number}: `{from}` imports `{to}`, which is {which}"));
            }
        } else if all.iter().any(|other| other.top() == Some(to)) {
            found.insert(format!("{file}:{number}: place the module `{to}` in a layer of tests/layering.rs"));
        } else if !(path.is_macro && path.segments.len() == 1) {
            found.insert(format!(
                "{file}:{number}: `{from}` imports `{to}` from the root of the crate: name the module it is from"
            ));
        }
    }
}

/// Time comes from `clock.rs`.
fn time(source: &Source, found: &mut BTreeSet<String>) {
    if source.file == "src/clock.rs" {
        return;
    }
    for path in source.paths.iter().filter(|path| !path.line.test && !path.inside) {
        let reads = path.segments.windows(2).any(|pair| {
            let (of, what) = (pair[0].as_str(), pair[1].as_str());
            matches!((of, what), ("Instant" | "SystemTime", "now") | ("thread", "sleep"))
                || (of == "time" && TIMERS.contains(&what) && path.segments[0] != "std")
        });
        if reads {
            let (file, number, named) = (&source.file, path.line.number, path.segments.join("::"));
            found.insert(format!("{file}:{number}: `{named}` belongs to src/clock.rs"));
        }
    }
}

/// Atomics come from `sync.rs`, or the models do not see them.
fn atomics(source: &Source, found: &mut BTreeSet<String>) {
    if source.file == "src/sync.rs" {
        return;
    }
    for path in source.paths.iter().filter(|path| !path.line.test && !path.inside) {
        let names: Vec<&str> = path.segments.iter().map(String::as_str).collect();
        if matches!(names[..], ["std" | "core", "sync", "atomic" | "*", ..]) {
            let (file, number) = (&source.file, path.line.number);
            found
                .insert(format!("{file}:{number}: atomics come from crate::sync, where the models see them"));
        }
    }
}

/// What is compiled depends on features in few places only, and never where calls pass.
fn features(source: &Source, found: &mut BTreeSet<String>) {
    let is_config = source.module.last().is_some_and(|last| last == "config");
    if is_config
        || matches!(source.top(), None | Some("error" | "classify" | "protocol" | "telemetry" | "respond"))
    {
        return;
    }
    for line in source.features.iter().filter(|line| !line.test) {
        let (file, number) = (&source.file, line.number);
        found.insert(format!(
            "{file}:{number}: `cfg(feature)` belongs to lib.rs, error, classify, protocol, telemetry, respond or a config file"
        ));
    }
}

fn purity(sources: &[Source], found: &mut BTreeSet<String>) {
    for source in pure(sources) {
        for (line, word) in source.words.iter().filter(|(line, _)| !line.test) {
            if word == "tokio" || word == "tower" || word.starts_with("tower_") {
                let (file, number) = (&source.file, line.number);
                found
                    .insert(format!("{file}:{number}: names `{word}`, but what decides knows nothing of it"));
            }
        }
    }
}

/// The files that decide, and the files beside them that they need.
fn pure(sources: &[Source]) -> Vec<&Source> {
    let is_state = |source: &Source| match &source.module[..] {
        [_, file, ..] => file.starts_with("state") || PURE_FILES.contains(&file.as_str()),
        _ => false,
    };
    let is_pure = |source: &Source| source.top().is_some_and(|top| PURE_MODULES.contains(&top));
    let mut pure: Vec<&Source> =
        sources.iter().filter(|source| is_pure(source) || is_state(source)).collect();
    let mut next = 0;
    while let Some(source) = pure.get(next).copied() {
        next += 1;
        let needed = |other: &&Source| {
            other.module.len() > 1
                && other.top() == source.top()
                && source.paths.iter().any(|path| {
                    path.inside && !path.line.test && path.segments.get(..2) == other.module.get(..2)
                })
        };
        for other in sources.iter().filter(needed) {
            if !pure.iter().any(|known| known.file == other.file) {
                pure.push(other);
            }
        }
    }
    pure
}

#[test]
fn the_crate_keeps_its_layers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![];
    read(root, &root.join("src"), &mut files);
    assert!(files.iter().any(|(file, _)| file == "src/lib.rs"), "the source was not found");
    assert!(files.len() > 5, "only {} files were found", files.len());
    let files: Vec<(&str, &str)> = files.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
    let found = violations(&files);
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
}

fn read(root: &Path, directory: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let parts: Vec<_> =
                path.strip_prefix(root).unwrap().iter().map(|part| part.to_str().unwrap()).collect();
            files.push((parts.join("/"), fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The checker itself: that it finds what is wrong, and that it leaves alone what is right.
mod checker {
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
        passes("src/retry/service.rs", "use crate::budget::Budget;\nuse crate::classify::Classify;");
        passes("src/window.rs", "use crate::sync::{AtomicU64, Ordering};");
        passes("src/stack.rs", "use crate::{retry::RetryLayer, circuit_breaker, error::Error};");
    }

    #[test]
    fn an_import_from_above_fails() {
        fails(
            "src/window.rs",
            "\n\nuse crate::telemetry::Event;",
            "src/window.rs:3: `window` imports `telemetry`, which is above it",
        );
        fails("src/clock.rs", "use crate::error::Rejected;", "above");
        fails("src/telemetry/mod.rs", "use crate::circuit_breaker::Transition;", "above");
        fails("src/retry/mod.rs", "use crate::stack::Stack;", "above");
    }

    #[test]
    fn middlewares_may_not_import_one_another() {
        fails("src/retry/service.rs", "use crate::circuit_breaker::Permit;", "beside");
        fails("src/hedge.rs", "fn f(_: crate::retry::Retry<()>) {}", "beside");
    }

    #[test]
    fn within_a_layer_only_what_is_listed_may_be_imported() {
        passes("src/window.rs", "use crate::{config::Ratio, error::Rejected};");
        passes("src/config.rs", "use crate::error::Rejected;");
        fails("src/error.rs", "use crate::config::Ratio;", "beside");
        fails("src/window.rs", "use crate::in_flight::InFlight;", "beside");
        passes("src/clock.rs", "use crate::sync::lock;");
        fails("src/sync.rs", "use crate::clock::Clock;", "beside");
        passes("src/telemetry/metrics.rs", "use crate::classify::Class;");
        fails("src/classify/mod.rs", "use crate::telemetry::Event;", "beside");
        fails("src/registry.rs", "use crate::stack::Stack;", "beside");
    }

    #[test]
    fn every_way_to_write_an_import_is_understood() {
        for import in [
            "use crate::{error::Rejected, retry::{config::RetryConfig, Retry}};",
            "use crate::{\n    error::{self, Rejected},\n    retry,\n};",
            "use crate::retry::*;",
            "use crate::retry as again;",
            "pub(crate) use crate::retry::Retry;",
            "use ::stanchion::retry::Retry;",
            "use super::super::retry::Retry;",
            "use super::{super::retry::Retry};",
            "use crate::r#retry::Retry;",
            "fn f() -> crate::retry::Retry { todo!() }",
            "fn f() { <() as crate::retry::Policy>::f() }",
            "fn f() { let x = crate::retry::Retry::<u8>::new(); }",
            "impl super::super::retry::Policy for () {}",
            "macro_rules! m { () => { $crate::retry::f() } }",
            "mod inner { use super::super::super::retry::Retry; }",
            "mod a { mod b { use crate::retry::Retry; } }",
            "#[cfg(test)] mod tests { use crate::retry::Retry; }",
            "type A = [u8; crate::retry::SIZE];",
            "#[derive(crate::retry::Derive)] struct S;",
            "fn f() { crate::retry::retry!() }",
        ] {
            fails("src/hedge/state.rs", import, "`hedge` imports `retry`");
        }
    }

    #[test]
    fn a_module_may_import_its_own_parts() {
        passes(
            "src/hedge/state.rs",
            "use super::config::HedgeConfig; use crate::hedge::Hedge; use self::inner::A;",
        );
        passes(
            "src/hedge/mod.rs",
            "use config::HedgeConfig; use self::retry::A; pub(in crate::hedge) fn f() {}",
        );
        // In an inline module, one `super` more is needed to leave the file.
        passes(
            "src/hedge/state.rs",
            "mod retry {} mod tests { use super::retry::A; use super::super::retry::B; }",
        );
        passes("src/window.rs", "mod tests { use super::*; }");
    }

    #[test]
    fn what_is_not_code_is_not_an_import() {
        passes(
            "src/hedge.rs",
            r####"
            //! use crate::retry::Retry;
            /// [`Retry`](crate::retry::Retry)
            // use crate::retry::Retry;
            /* use crate::retry::Retry; /* crate::retry */ crate::retry::Retry */
            const A: &str = "use crate::retry::Retry; \" crate::retry::Retry";
            const B: &str = r#"use crate::retry::Retry; " crate::retry::Retry"#;
            const C: &[u8] = b"crate::retry::Retry";
            const D: &str = r"\";
            const E: [char; 3] = ['"', '\'', '\u{22}'];
            fn f<'a>(crate_: &'a str) -> impl Sized + use<'a> { (crate_, "crate::retry::Retry", '/', '/') }
            "####,
        );
        // What follows them is.
        for before in [
            "'\"'",
            "'\\''",
            "b'\"'",
            "r\"\\\"",
            "r##\"\"#\"##",
            "\"\\\\\"",
            "/* /* */ */ 0",
            "{ 'a: loop {} }",
        ] {
            let text = format!("const A: X = {before};\nuse crate::retry::Retry; // \"");
            fails("src/hedge.rs", &text, "src/hedge.rs:2: `hedge` imports `retry`");
        }
    }

    #[test]
    fn a_module_without_a_layer_fails() {
        fails("src/novel/mod.rs", "", "place the module `novel` in a layer");
        let found = violations(&[("src/hedge.rs", "use crate::novel::A;"), ("src/novel.rs", "")]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|found| found.contains("place the module `novel` in a layer")), "{found:?}");
    }

    #[test]
    fn the_root_is_no_way_around_the_layers() {
        fails("src/hedge.rs", "use crate::Retry;", "name the module it is from");
        fails("src/hedge.rs", "use crate::*;", "name the module it is from");
        fails("src/hedge.rs", "use super::Retry;", "name the module it is from");
        fails("src/hedge.rs", "use crate as root;", "names the root");
        fails("src/hedge.rs", "use crate::{self as root};", "names the root");
        fails("src/hedge.rs", "crate::novel::accessors!(inner);", "name the module it is from");
        passes("src/hedge.rs", "crate::accessors!(inner);");
    }

    #[test]
    fn lib_may_name_everything() {
        passes(
            "src/lib.rs",
            "pub mod retry; pub use crate::retry::Retry; #[cfg(feature = \"http\")] pub use stack::Stack;",
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
            fails("src/hedge/service.rs", text, "belongs to src/clock.rs");
            passes("src/clock.rs", text);
        }
    }

    #[test]
    fn using_the_clock_or_the_name_of_a_timer_is_not_reading_time() {
        passes(
            "src/hedge/future.rs",
            "use crate::clock::{self, Clock}; fn f(c: Clock) { c.sleep_until(clock::sleep(d)); }",
        );
        passes(
            "src/hedge/future.rs",
            "struct F { sleep: tokio::time::Sleep } fn f(this: F) { this.sleep.poll(cx); }",
        );
        passes("src/hedge/future.rs", "use std::time::{Duration, Instant};");
        passes("src/hedge/future.rs", "use std::time::*;");
    }

    #[test]
    fn tests_may_read_time() {
        let text = "fn f() { tokio::time::sleep(Instant::now() - START); }";
        fails("src/hedge/service.rs", &text.replace("Instant::now()", "now"), "belongs to src/clock.rs");
        passes("src/hedge/tests.rs", text);
        passes("src/hedge/model.rs", text);
        passes("src/hedge/model/slow.rs", text);
        passes("src/hedge/schedules.rs", text);
        passes("src/hedge/state.rs", "#[cfg(test)] static A: [X; 2] = [Instant::now(); 2];");
        passes("src/hedge/tests/slow.rs", &format!("#[cfg(test)] mod more {{ {text} }}"));
        for test in [
            "#[cfg(test)]",
            "#[cfg(all(test, not(stanchion_loom)))]",
            "#[cfg(test)] #[allow(a, reason = \"b\")]",
        ] {
            passes("src/hedge/service.rs", &format!("{test} mod tests {{ {text} }}"));
            passes("src/hedge/service.rs", &format!("{test} fn g(a: A, b: B) {{ {text} }}"));
        }
    }

    #[test]
    fn atomics_come_from_one_place() {
        fails("src/window.rs", "use std::sync::{Arc, atomic::AtomicU64};", "crate::sync");
        fails("src/window.rs", "fn f(a: &core::sync::atomic::AtomicU64) {}", "crate::sync");
        fails("src/window.rs", "use std::sync::*;", "crate::sync");
        passes("src/window.rs", "use std::sync::Arc; #[cfg(test)] use std::sync::atomic::AtomicU64;");
        passes("src/sync.rs", "pub(crate) use std::sync::atomic::AtomicU64;");
    }

    #[test]
    fn features_are_asked_for_in_few_places() {
        for text in [
            "#[cfg(feature = \"http\")] fn f() {}",
            "#[cfg(all(not(feature = \"http\"), unix))] fn f() {}",
            "#[cfg_attr(feature = \"serde\", derive(Debug))] struct S;",
            "fn f() -> bool { cfg!(feature = \"http\") }",
        ] {
            fails("src/hedge/service.rs", text, "`cfg(feature)` belongs to");
            fails("src/window.rs", text, "`cfg(feature)` belongs to");
            passes("src/hedge/config.rs", text);
            passes("src/config.rs", text);
            passes("src/error/carry_rejected.rs", text);
            passes("src/classify/http.rs", text);
            passes("src/telemetry/mod.rs", text);
            passes("src/protocol/mod.rs", text);
            passes("src/respond.rs", text);
        }
        passes(
            "src/hedge/mod.rs",
            "#[cfg_attr(docsrs, doc(cfg(feature = \"http\")))] fn f() { let feature = 1; }",
        );
        passes(
            "src/hedge/mod.rs",
            "// #[cfg(feature = \"http\")]\n#[cfg(test)] mod t { #[cfg(feature = \"http\")] fn f() {} }",
        );
    }

    #[test]
    fn what_decides_knows_neither_tokio_nor_tower() {
        for file in [
            "circuit_breaker/state.rs",
            "circuit_breaker/state_word.rs",
            "hedge/trial.rs",
            "window.rs",
            "in_flight.rs",
        ] {
            let file = format!("src/{file}");
            fails(&file, "use tokio::sync::Notify;", "names `tokio`");
            fails(&file, "use tower::Service;", "names `tower`");
            fails(&file, "fn f<S: tower_service::Service<()>>() {}", "names `tower_service`");
            passes(&file, "//! tokio\n#[cfg(test)] mod tests { use tokio::sync::Notify; }");
        }
        passes("src/circuit_breaker/service.rs", "use tokio::sync::Notify;");
    }

    #[test]
    fn what_the_deciding_files_need_is_held_to_the_same() {
        let needed = ("src/hedge/verdict.rs", "use super::cause::Cause;");
        let tokio = ("src/hedge/cause.rs", "use tokio::sync::Notify;");
        for state in [
            "use super::verdict::judge;",
            "use super::{A, verdict};",
            "fn f() { crate::hedge::verdict::judge() }",
        ] {
            let found = violations(&[("src/hedge/state.rs", state), needed, tokio]);
            assert_eq!(found.len(), 1, "{found:?} for {state}");
            assert!(found[0].starts_with("src/hedge/cause.rs:1: names `tokio`"), "{found:?}");
        }
        for other in [
            ("src/hedge/service.rs", "use super::verdict::judge;"),
            ("src/hedge/state.rs", "#[cfg(test)] mod tests { use super::super::verdict::judge; }"),
        ] {
            assert_eq!(violations(&[other, needed, tokio]), [""; 0], "{other:?}");
        }
    }
}
