//! What is seen while it runs: a panel redrawn in place below the list of transitions or, where nobody could
//! see that, a line per second.

use std::env;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::sync::Arc;
use std::time::Duration;

use stanchion::circuit_breaker::State;

use crate::history::History;
use crate::lane::{Lane, Tally};
use crate::script::{Condition, Script};

/// Characters of a timeline. With its label it fits into 80 columns.
const CELLS: u32 = 70;
/// Back to the first column; erase to the end of the line; erase all below.
const ERASE_LINE: &str = "\x1b[K";
const ERASE_BELOW: &str = "\x1b[J";
/// A line that does not fit is cut off instead of wrapped, or the panel's height would not be what we think.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

pub(crate) struct Screen {
    script: Script,
    history: History,
    lanes: [Arc<Lane>; 2],
    is_terminal: bool,
    is_coloured: bool,
    /// Transitions that have been printed.
    told: usize,
    /// Lines of the panel that is on the screen.
    height: usize,
}

impl Screen {
    pub(crate) fn new(script: Script, history: History, lanes: [Arc<Lane>; 2]) -> Self {
        let is_terminal = io::stdout().is_terminal() && env::var_os("TERM").is_none_or(|term| term != "dumb");
        let is_coloured = is_terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { script, history, lanes, is_terminal, is_coloured, told: 0, height: 0 }
    }

    /// How often to call [`show`](Self::show).
    pub(crate) const fn period(&self) -> Duration {
        if self.is_terminal { Duration::from_millis(100) } else { Duration::from_secs(1) }
    }

    pub(crate) fn show(&mut self) -> io::Result<()> {
        // In one piece, or it flickers.
        let mut page = String::new();
        if self.height > 0 {
            let _ = write!(page, "\x1b[{}A\r", self.height);
        }
        let erase = if self.is_terminal { ERASE_LINE } else { "" };
        let transitions = self.history.all();
        for (at, transition) in transitions.iter().skip(self.told) {
            let _ = writeln!(page, "{:6.2} s  {transition}{erase}", at.as_secs_f64());
        }
        self.told = transitions.len();
        if self.is_terminal {
            let panel = self.panel();
            self.height = panel.len();
            page.push_str(NO_WRAP);
            for line in panel {
                let _ = writeln!(page, "{line}{ERASE_LINE}");
            }
            page.push_str(ERASE_BELOW);
            page.push_str(WRAP);
        } else {
            page.push_str(&self.line());
        }
        let mut out = io::stdout().lock();
        out.write_all(page.as_bytes())?;
        out.flush()
    }

    fn panel(&self) -> Vec<String> {
        let now = self.script.now().min(Script::length());
        let length = Script::length();
        let mut lines = vec![
            String::new(),
            format!(
                "{:4.1} s of {:.1} s   the server {}",
                now.as_secs_f64(),
                length.as_secs_f64(),
                Script::condition_at(now).describe()
            ),
        ];
        lines.extend(self.timelines(now));
        lines.push(String::new());
        lines.push(format!("{:14}{HEADINGS}", ""));
        lines.extend(self.lanes.iter().map(|lane| row(lane)));
        lines
    }

    /// The circuit's states so far above the server's conditions, and the legend.
    fn timelines(&self, now: Duration) -> [String; 4] {
        let cell = Script::length() / CELLS;
        let (mut bar, mut circuit, mut server) = (String::new(), String::new(), String::new());
        for from in (0..CELLS).map(|index| cell * index) {
            let is_past = from <= now;
            bar.push(if is_past { '=' } else { ' ' });
            if is_past {
                circuit.push_str(&self.painted(symbol(self.history.most_notable(from..from + cell))));
            }
            server.push(letter(Script::condition_at(from + cell / 2)));
        }
        [
            format!("        [{bar}]"),
            format!("circuit  {circuit}"),
            format!("server   {server}"),
            "         . closed  # open  ? half-open  / recovering    F H C: fails hangs cuts".to_owned(),
        ]
    }

    fn painted(&self, symbol: char) -> String {
        let colour = match symbol {
            '#' => 31,
            '?' => 33,
            '/' => 36,
            _ => 32,
        };
        if self.is_coloured { format!("\x1b[{colour}m{symbol}\x1b[0m") } else { symbol.to_string() }
    }

    /// The last second.
    fn line(&self) -> String {
        let now = self.script.now();
        let mut line = format!(
            "{:6.2} s  server {:5}  circuit {:10}",
            now.as_secs_f64(),
            Script::condition_at(now).word(),
            self.history.state_at(now).as_str()
        );
        for lane in &self.lanes {
            let Tally { passed, refused, failed, p99, .. } = lane.last_second();
            let reached = lane.server.reached(|at| at + Duration::from_secs(1) >= now);
            let _ = write!(
                line,
                "  | {}: {passed:3} passed {refused:3} refused {failed:3} failed, p99 {}, {reached:3} to the server",
                lane.name,
                millis(p99)
            );
        }
        line.push('\n');
        line
    }
}

const HEADINGS: &str = " passed refused failed in flight   p50 1 s   p99 1 s to server";

fn row(lane: &Lane) -> String {
    let Tally { passed, refused, failed, .. } = lane.tally(|_| true);
    let Tally { p50, p99, .. } = lane.last_second();
    format!(
        "{:14} {passed:6} {refused:7} {failed:6} {:9} {} {} {:9}",
        lane.name,
        lane.in_flight(),
        millis(p50),
        millis(p99),
        lane.server.reached(|_| true)
    )
}

/// Milliseconds in nine characters.
pub(crate) fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1e3;
    let decimals = if millis < 10.0 { 2 } else { 0 };
    format!("{millis:6.decimals$} ms")
}

const fn symbol(state: State) -> char {
    match state {
        State::Open | State::ForcedOpen => '#',
        State::HalfOpen => '?',
        State::Recovering => '/',
        _ => '.',
    }
}

const fn letter(condition: Condition) -> char {
    match condition {
        Condition::Well => '-',
        Condition::Fails => 'F',
        Condition::Hangs => 'H',
        Condition::Cuts => 'C',
    }
}
