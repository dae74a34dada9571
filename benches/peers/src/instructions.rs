//! Instructions of a call, counted by valgrind: a process for each row, once with some calls and once with twice as many.

use std::process::Command;

use crate::row::Row;

pub const CHILD: &str = "--child";
/// More than the largest window holds.
const CALLS: u64 = 20_000;

/// Makes the calls of a child.
pub fn child(rows: &[Row], name: &str, calls: &str) -> Option<()> {
    let row = rows.iter().find(|row| row.name == name)?;
    counted(row, calls.parse().ok()?);
    Some(())
}

/// All that valgrind counts: making the rows takes longer, and not always as long.
#[inline(never)]
fn counted(row: &Row, calls: u64) {
    (row.run)(calls);
}

pub fn table(rows: &[Row]) -> Result<(), String> {
    println!("| a call | instructions | x ours |\n|---|---:|---:|");
    let mut counted: Vec<(&str, u64)> = Vec::new();
    // A row whose calls do more before each chunk of them has no figure of this kind.
    for row in rows.iter().filter(|row| row.shared) {
        let instructions =
            (collected(row, 2 * CALLS)?.saturating_sub(collected(row, CALLS)?) + CALLS / 2) / CALLS;
        counted.push((row.name, instructions));
        let ours = row.ours.and_then(|name| counted.iter().find(|(ours, _)| *ours == name));
        let ratio = ours.map(|(_, ours)| format!("{:.2}", instructions as f64 / *ours as f64));
        println!("| {} | {instructions} | {} |", row.name, ratio.unwrap_or_else(|| "-".to_owned()));
    }
    Ok(())
}

fn collected(row: &Row, calls: u64) -> Result<u64, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--toggle-collect=peers::instructions::counted")
        .arg(this)
        .args([CHILD, row.name, &calls.to_string()])
        .output()
        .map_err(|error| format!("no valgrind: {error}"))?;
    let report = String::from_utf8_lossy(&output.stderr);
    let collected = report.lines().find_map(|line| line.split_once("Collected : "));
    let number = collected.and_then(|(_, number)| number.trim().parse().ok());
    number.filter(|_| output.status.success()).ok_or_else(|| report.into_owned())
}
