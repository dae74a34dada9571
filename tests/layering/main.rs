//! Who may import whom, and who may name what: read from the source, because no lint knows it.
//!
//! The layers below are the ones of the design: a module imports from the layers under its own, and the
//! middlewares never import one another. What two of them want moves down.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "helpers of a test")]

mod checker;
#[path = "../support/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use source::Source;

/// The folders and files of src from the bottom up. `lib.rs` stands above all of them.
const RANKS: &[&[&str]] = &[
    &["base"],
    &["error", "config", "deadline"],
    &["primitives"],
    &["classify", "protocol", "telemetry"],
    &["http", "grpc"],
    &["middleware"],
    &["assembly", "compat", "docs"],
];

/// The folders whose parts are modules by themselves, which do not import one another.
const FOLDERS: &[&str] = &["base", "primitives", "middleware", "assembly", "compat"];

/// The imports within a rank that are right nevertheless: of the second module by the first. A `*` stands
/// for the rest of the rank.
const WITHIN: &[(&str, &str)] = &[
    ("base::clock", "base::sync"),
    ("base::buckets", "base::clock"),
    ("config", "error"),
    ("telemetry", "classify"),
    ("protocol", "classify"),
    ("protocol", "telemetry"),
    ("middleware::bulkhead", "middleware::admission"),
    ("middleware::adaptive_limit", "middleware::admission"),
    ("*", "middleware::macros"),
    ("*", "middleware::gate"),
];

/// What decides is pure: these modules, and these files of each middleware with all files that they need,
/// know neither tokio nor tower.
const PURE_MODULES: &[&str] = &["base::epoch_count", "base::buckets", "primitives", "http::headers"];
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

/// The module that rules are about, of a path from the root of the crate: `middleware::retry`, or `telemetry`.
fn unit(path: &[String]) -> Option<String> {
    let first = path.first()?;
    let parts = if FOLDERS.contains(&first.as_str()) { 2 } else { 1 };
    Some(path[..parts.min(path.len())].join("::"))
}

fn rank(unit: &str) -> Option<usize> {
    let top = unit.split("::").next()?;
    RANKS.iter().position(|rank| rank.contains(&top))
}

fn may_import(from: &str, to: &str) -> bool {
    let (Some(upper), Some(lower)) = (rank(from), rank(to)) else { return false };
    let shared = |name| WITHIN.contains(&("*", name));
    // A folder puts its own parts together.
    let puts_together = |parts: &str| parts.strip_prefix(from).is_some_and(|rest| rest.starts_with("::"));
    from == to
        || upper > lower
        || (upper == lower
            && (puts_together(to) || WITHIN.contains(&(from, to)) || (shared(to) && !shared(from))))
}

fn imports(source: &Source, all: &[Source], found: &mut BTreeSet<String>) {
    let Some(from) = unit(&source.module) else { return };
    let file = &source.file;
    if rank(&from).is_none() {
        found.insert(format!("{file}: place the module `{from}` in a rank of tests/layering"));
        return;
    }
    for path in source.paths.iter().filter(|path| path.inside) {
        let number = path.line.number;
        let Some(to) = unit(&path.segments) else {
            found.insert(format!("{file}:{number}: `{from}` names the root of the crate, not a module"));
            continue;
        };
        if rank(&to).is_some() {
            if !may_import(&from, &to) {
                let which = if rank(&from) == rank(&to) { "beside it" } else { "above it" };
                found.insert(format!("{file}:{number}: `{from}` imports `{to}`, which is {which}"));
            }
        } else if all.iter().any(|other| unit(&other.module).as_ref() == Some(&to)) {
            found.insert(format!("{file}:{number}: place the module `{to}` in a rank of tests/layering"));
        } else if !(path.is_macro && path.segments.len() == 1) {
            found.insert(format!(
                "{file}:{number}: `{from}` imports `{to}` from the root of the crate: name the module it is from"
            ));
        }
    }
}

/// Time comes from `clock.rs`.
fn time(source: &Source, found: &mut BTreeSet<String>) {
    if source.file == "src/base/clock/mod.rs" {
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
            found.insert(format!("{file}:{number}: `{named}` belongs to src/base/clock"));
        }
    }
}

/// Atomics come from `sync.rs`, or the models do not see them.
fn atomics(source: &Source, found: &mut BTreeSet<String>) {
    if source.file == "src/base/sync.rs" {
        return;
    }
    for path in source.paths.iter().filter(|path| !path.line.test && !path.inside) {
        let names: Vec<&str> = path.segments.iter().map(String::as_str).collect();
        if matches!(names[..], ["std" | "core", "sync", "atomic" | "*", ..]) {
            let (file, number) = (&source.file, path.line.number);
            found.insert(format!(
                "{file}:{number}: atomics come from crate::base::sync, where the models see them"
            ));
        }
    }
}

/// Where `cfg(feature)` may stand besides `lib.rs` and configurations.
const HAVE_FEATURES: &[&str] =
    &["error", "classify", "protocol", "telemetry", "http", "grpc", "middleware::respond", "compat"];

/// What is compiled depends on features in few places only, and never where calls pass.
fn features(source: &Source, found: &mut BTreeSet<String>) {
    let is_config = source.module.last().is_some_and(|last| last == "config");
    let is_free = unit(&source.module).is_none_or(|unit| {
        HAVE_FEATURES.iter().any(|free| unit == *free || unit.starts_with(&format!("{free}::")))
    });
    if is_config || is_free {
        return;
    }
    for line in source.features.iter().filter(|line| !line.test) {
        let (file, number) = (&source.file, line.number);
        found.insert(format!(
            "{file}:{number}: `cfg(feature)` belongs to lib.rs, error, classify, protocol, telemetry, http, grpc, compat, respond or a config file"
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
        [_, _, file, ..] => file.starts_with("state") || PURE_FILES.contains(&file.as_str()),
        _ => false,
    };
    let is_pure = |source: &Source| {
        let module = source.module.join("::");
        PURE_MODULES.iter().any(|pure| module == *pure || module.starts_with(&format!("{pure}::")))
    };
    let mut pure: Vec<&Source> =
        sources.iter().filter(|source| is_pure(source) || is_state(source)).collect();
    let mut next = 0;
    while let Some(source) = pure.get(next).copied() {
        next += 1;
        let needed = |other: &&Source| {
            let file = unit(&other.module).map_or(0, |unit| unit.split("::").count()) + 1;
            other.module.len() >= file
                && unit(&other.module) == unit(&source.module)
                && source.paths.iter().any(|path| {
                    path.inside && !path.line.test && path.segments.get(..file) == other.module.get(..file)
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
