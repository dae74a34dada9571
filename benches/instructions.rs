//! Instructions of a call, counted by valgrind: the same on every run, however busy the machine is.
//!
//!     apt-get install valgrind
//!     cargo bench --bench instructions
//!     cargo bench --bench instructions -- "100 calls"      cases whose names contain this, and the bare service
//!     cargo bench --bench instructions -- --test           each case once, without valgrind
//!
//! For each case this program starts itself under callgrind, with some calls and with twice as many, and divides the
//! difference by the calls: what comes before the first call and after the last does not count. An iteration of the
//! loop around the calls does; it is what the bare service shows.
//!
//! Sixty lines instead of a library, because the one there is (gungraun) wants a runner installed in exactly its own
//! version, and raises the Rust version that the dev-dependencies need.

mod support;

use std::process::{Command, ExitCode};

use support::cases::BARE;
use support::{Case, cases, is_test};

const CHILD: &str = "--child";
/// More than the largest window holds: filling it must not count.
const CALLS: u64 = 20_000;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let _keep_up = support::record_metrics();
    let cases = cases::all();
    if let [flag, name, calls] = args.as_slice() {
        if flag == CHILD {
            return child(&cases, name, calls);
        }
    }
    if is_test() {
        let runtime = support::runtime();
        for case in &cases {
            case.lap()(&runtime, 100);
        }
        return ExitCode::SUCCESS;
    }
    let wanted = args.iter().find(|arg| !arg.starts_with('-')).map_or("", String::as_str);
    table(cases.iter().filter(|case| case.name == BARE || case.name.contains(wanted)))
}

fn child(cases: &[Case], name: &str, calls: &str) -> ExitCode {
    let (Some(case), Ok(calls)) = (cases.iter().find(|case| case.name == name), calls.parse()) else {
        return ExitCode::FAILURE;
    };
    case.lap()(&support::runtime(), calls);
    ExitCode::SUCCESS
}

fn table<'a>(cases: impl Iterator<Item = &'a Case>) -> ExitCode {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!(
            "SKIPPED: no instructions were counted, for there is no valgrind: `apt-get install valgrind`"
        );
        return ExitCode::SUCCESS;
    }
    println!("| one call{} | instructions | x bare |", support::LISTENING);
    println!("|---|---:|---:|");
    let mut bare = None;
    for case in cases {
        match instructions(case) {
            Ok(instructions) => {
                // The bare service comes first.
                let ratio = instructions as f64 / *bare.get_or_insert(instructions) as f64;
                println!("| {} | {instructions} | {ratio:.1} |", case.name);
            }
            Err(reason) => {
                println!("FAILED: {}: {reason}", case.name);
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn instructions(case: &Case) -> Result<u64, String> {
    let some = collected(case, CALLS)?;
    let twice = collected(case, 2 * CALLS)?;
    let of_calls = twice.checked_sub(some).ok_or("twice the calls take fewer instructions")?;
    Ok((of_calls + CALLS / 2) / CALLS)
}

/// All instructions of a child that makes `calls` calls.
fn collected(case: &Case, calls: u64) -> Result<u64, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this)
        .args([CHILD, case.name, &calls.to_string()])
        .output()
        .map_err(|error| error.to_string())?;
    let report = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(report.into_owned());
    }
    // ==4711== Collected : 1234567
    let collected = report.lines().find_map(|line| line.split_once("Collected : "));
    let number = collected.and_then(|(_, number)| number.trim().parse().ok());
    number.ok_or_else(|| format!("nothing was collected:\n{report}"))
}
