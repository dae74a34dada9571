# Shortcuts; `just` lists them. CI runs `.ci/run`, which needs no `just`.

_list:
    @just --list --unsorted

# All tests; arguments are passed on: `just test circuit_breaker`
test *args:
    cargo test --all-features {{ args }}

# Format, then the lints as CI runs them
lint:
    cargo fmt
    .ci/run clippy

# The documentation, with warnings as errors
docs:
    .ci/run docs

# Each feature alone
features:
    .ci/run features

# The models of loom, in both modes, and of shuttle, then every planted bug
loom:
    .ci/models

# The loom models without a bound on preemptions: before a release
loom-unbounded:
    LOOM_MAX_PREEMPTIONS=unbounded .ci/models check

# Shuttle's models under a hundred thousand schedules each: before a release
schedules:
    STANCHION_SCHEDULES=100000 .ci/models schedules

# Fuzz all targets, or those named; needs cargo-fuzz
fuzz *targets:
    .ci/fuzz {{ targets }}

# Time per call
bench *args:
    cargo bench --bench overhead --bench contention -- {{ args }}

# The same work with other crates, side by side
peers:
    cargo run --release --locked --manifest-path benches/peers/Cargo.toml

# Machine instructions per call; needs valgrind
instructions:
    cargo bench --bench instructions

# A dependency fails and recovers, with and without a breaker
outage:
    cargo run --release --all-features --example outage

# A retry storm and its remedies
storm:
    cargo run --all-features --example storm

# Every layer under random calls, drops, panics and commands, for ten seconds or the given number
stress seconds="10":
    cargo run --release --all-features --example stress -- {{ seconds }}

# Licences, sources, duplicates and advisories; needs cargo-deny
deny:
    cargo deny check

# All steps of CI
ci:
    bash .ci/run
