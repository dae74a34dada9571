//! The recorded Resilience4j scenarios of `tests/data/resilience4j`; its README explains every field.
//!
//! Included by `#[path]` from tests inside and outside the crate, so it knows nothing but the files. Every type is
//! `PartialEq`, which also counts as a reader of the fields one includer or the other has no use for.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::GzDecoder;
use serde::Deserialize;

const FILES: [&str; 3] =
    ["circuitbreaker.jsonl.gz", "circuitbreaker-didactic.jsonl", "circuitbreaker-extra.jsonl.gz"];

/// One breaker's recorded life.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) id: String,
    pub(crate) profile: String,
    pub(crate) tags: Vec<String>,
    pub(crate) description: Option<String>,
    pub(crate) config: Config,
    pub(crate) steps: Vec<Step>,
}

/// Times in milliseconds, thresholds in percent. The optional half appears in the extra file only.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) window: WindowKind,
    /// Calls, or seconds.
    pub(crate) size: u32,
    pub(crate) minimum_calls: u32,
    pub(crate) failure_rate_threshold: f64,
    pub(crate) slow_call_rate_threshold: f64,
    pub(crate) slow_call_duration_ms: u64,
    pub(crate) permitted_half_open: u32,
    pub(crate) wait_open_ms: u64,
    /// 0 means no limit.
    pub(crate) max_wait_half_open_ms: u64,
    pub(crate) start_ms: u64,
    #[serde(default)]
    pub(crate) auto_half_open: bool,
    pub(crate) after_half_open_wait: Option<StateName>,
    pub(crate) wait_open_multiplier: Option<f64>,
    pub(crate) wait_open_max_ms: Option<u64>,
    pub(crate) initial_state: Option<StateName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WindowKind {
    Count,
    Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StateName {
    Closed,
    Open,
    HalfOpen,
    Disabled,
    ForcedOpen,
    MetricsOnly,
}

/// One operation and what was seen right after it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Step {
    #[serde(flatten)]
    pub(crate) op: Op,
    /// Present when a manual transition was refused.
    pub(crate) error: Option<Refusal>,
    #[serde(flatten)]
    pub(crate) seen: Seen,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub(crate) enum Op {
    /// `call` names the admitted call; there is none if `ok` is false.
    Acquire {
        ok: bool,
        call: Option<u32>,
    },
    Success {
        call: u32,
        ms: u64,
    },
    Failure {
        call: u32,
        ms: u64,
    },
    Ignore {
        call: u32,
    },
    IgnoredError {
        call: u32,
        ms: u64,
    },
    Advance {
        ms: u64,
    },
    ForceOpen,
    Disable,
    Close,
    Open,
    HalfOpen,
    Reset,
    MetricsOnly,
    OpenFor {
        ms: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Refusal {
    IllegalTransition,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Seen {
    /// Milliseconds since the breaker was created.
    pub(crate) t: u64,
    pub(crate) state: StateName,
    /// Percent as a 32-bit float; -1 while there are not enough calls.
    pub(crate) failure_rate: f32,
    pub(crate) slow_rate: f32,
    pub(crate) buffered: u32,
    pub(crate) failed: u32,
    pub(crate) slow: u32,
    pub(crate) slow_failed: u32,
    pub(crate) not_permitted: u32,
    #[serde(default)]
    pub(crate) events: Vec<String>,
}

/// All scenarios of all files, in the order of the files.
pub(crate) fn load() -> Vec<Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/resilience4j");
    FILES.iter().flat_map(|name| read(&folder.join(name))).collect()
}

fn read(path: &Path) -> Vec<Scenario> {
    let file = File::open(path).expect("the recordings are checked in");
    let text: Box<dyn Read> = match path.extension() {
        Some(extension) if extension == "gz" => Box::new(GzDecoder::new(file)),
        _ => Box::new(file),
    };
    BufReader::new(text)
        .lines()
        .map(|line| line.expect("the recordings are complete UTF-8 files"))
        .map(|line| serde_json::from_str(&line).expect("a line of the recordings is one scenario"))
        .collect()
}
