//! Checks the prose of the documentation against `docs/STYLE.md`.
//!
//! The documentation is the `///` and `//!` comments in `src` and every Markdown file. Code and code
//! spans are skipped. Words that the glossary replaces are read from the style guide itself.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "helpers of a test")]

use std::fs;
use std::path::{Path, PathBuf};

/// Folders and files whose prose is not rewritten yet. This list is to become empty: remove an entry
/// together with its last violation, and never add one.
const UNCHECKED: &[&str] = &[
    "src/base",
    "src/classify",
    "src/config.rs",
    "src/deadline.rs",
    "src/error",
    "src/grpc",
    "src/http",
    "src/middleware/adaptive_limit",
    "src/middleware/admission",
    "src/middleware/bulkhead",
    "src/middleware/circuit_breaker",
    "src/middleware/fallback",
    "src/middleware/hedge",
    "src/middleware/rate_limit",
    "src/middleware/respond",
    "src/middleware/retry",
    "src/middleware/throttle",
    "src/middleware/timeout",
    "src/primitives",
    "src/protocol",
    "src/telemetry",
];

/// Words that cannot start a sentence, unless it is a question.
const HEADLESS: &[&str] = &["What", "Who", "Whoever", "Whether", "How", "That which", "Those that"];
/// Words that cannot start a paragraph, a list item or the summary of an item either.
const VAGUE: &[&str] = &["So many", "Of", "Leave to", "The same", "None", "It does"];
/// Phrases without a noun or a number.
const INDEFINITE: &[&str] = &["somebody", "everybody", "nobody", "anybody", "whoever", "so many", "so long"];

const WIDTH: usize = 100;
const README_CODE_WIDTH: usize = 80;

/// A passage of prose: a paragraph, a list item, a heading or a row of a table.
struct Passage {
    /// Lines of text with their numbers.
    lines: Vec<(usize, String)>,
    /// Headings, rows and drawings have no sentences.
    has_sentences: bool,
}

struct Word {
    line: usize,
    text: String,
    /// The word is the first one of a sentence.
    opens: bool,
    /// The mark after the word, if it ends a sentence.
    ends: Option<char>,
}

impl Passage {
    /// Returns the words outside of code spans and link targets.
    fn words(&self) -> Vec<Word> {
        let mut words = Vec::new();
        let mut opens = self.has_sentences;
        let prose = self.lines.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("\n");
        let numbers = self.lines.iter().map(|(number, _)| *number);
        for (line, text) in numbers.zip(without_code(&prose).lines()) {
            for raw in text.split_whitespace() {
                let text = raw.trim_matches(|c: char| !c.is_alphanumeric() && c != CODE).to_owned();
                if text.is_empty() {
                    continue;
                }
                let last = raw.trim_end_matches(['*', '_', ')', '"', ']']).chars().next_back();
                let ends = last.filter(|mark| self.has_sentences && ".!?".contains(*mark));
                words.push(Word { line, text, opens, ends });
                opens = ends.is_some();
            }
        }
        words
    }
}

/// Stands for a code span.
const CODE: char = '\u{fffc}';

/// Replaces code spans and link targets, and keeps the line breaks.
fn without_code(prose: &str) -> String {
    let (mut kept, mut rest) = (String::new(), prose);
    let newlines = |text: &str| "\n".repeat(text.matches('\n').count());
    while let Some(at) = rest.find(['`', ']']) {
        let (before, from) = rest.split_at(at);
        kept.push_str(before);
        let ticks = from.len() - from.trim_start_matches('`').len();
        let (opening, closing) = match ticks {
            0 if from.starts_with("](") => (2, ")".to_owned()),
            0 => {
                kept.push(']');
                rest = &from[1..];
                continue;
            }
            _ => (ticks, "`".repeat(ticks)),
        };
        let inside = &from[opening..];
        let end = inside.find(&closing).unwrap_or(inside.len());
        kept.push(if ticks == 0 { ']' } else { CODE });
        kept.push_str(&newlines(&inside[..end]));
        rest = inside.get(end + closing.len()..).unwrap_or_default();
    }
    kept + rest
}

/// Returns the lines of documentation with their numbers: all lines of Markdown, the doc comments of Rust.
fn documentation<'a>(file: &str, text: &'a str) -> Vec<(usize, &'a str)> {
    let numbered = (1..).zip(text.lines());
    if file.ends_with(".md") {
        return numbered.collect();
    }
    let comment = |line: &'a str| {
        let line = line.trim_start();
        let text = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
        text.filter(|text| !text.starts_with('/')).map(|text| text.strip_prefix(' ').unwrap_or(text))
    };
    // A line of code ends a comment as an empty line does.
    numbered.map(|(number, line)| (number, comment(line).unwrap_or_default())).collect()
}

/// Returns the language of a code block that starts or ends with this line.
fn fence(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("```")
}

fn is_row(line: &str) -> bool {
    line.trim_start().starts_with('|')
}

fn is_link_definition(line: &str) -> bool {
    line.starts_with('[') && line.contains("]: ")
}

/// Returns the text after the marker of a list item.
fn list_item(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered = (number.len() < line.len()).then(|| number.strip_prefix(". ")).flatten();
    numbered.or_else(|| line.strip_prefix("- ")).or_else(|| line.strip_prefix("* "))
}

fn passages(lines: &[(usize, &str)]) -> Vec<Passage> {
    let mut found = vec![Passage { lines: vec![], has_sentences: true }];
    let mut block = None;
    for (number, line) in lines {
        let mut add = |text: &str, starts: bool, has_sentences: bool| {
            if starts {
                found.push(Passage { lines: vec![], has_sentences });
            }
            found.last_mut().unwrap().lines.push((*number, text.to_owned()));
        };
        match (block, fence(line)) {
            (None, Some(language)) => {
                block = Some(language);
                add("", true, false);
            }
            (Some(_), Some(_)) => {
                block = None;
                add("", true, true);
            }
            // Drawings are prose, too.
            (Some("text"), None) => add(line, true, false),
            (Some(_), None) => {}
            (None, None) if line.trim().is_empty() => add("", true, true),
            (None, None) if is_row(line) || line.starts_with('#') => {
                add(line, true, false);
                add("", true, true);
            }
            (None, None) if is_link_definition(line) => {}
            (None, None) => match list_item(line) {
                Some(text) => add(text, true, true),
                None => add(line, false, true),
            },
        }
    }
    found
}

/// Words of the glossary that another word replaces, as `(replaced, word)`.
fn glossary(guide: &str) -> Vec<(String, String)> {
    let section = guide.split("\n## ").find(|section| section.starts_with("2.")).unwrap();
    let mut replaced = Vec::new();
    for row in section.lines().filter(|line| is_row(line)) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let words = cells[3].split('`').skip(1).step_by(2);
        replaced.extend(words.map(|word| (word.to_owned(), cells[1].to_owned())));
    }
    replaced
}

/// Returns `true` if `word` is `lemma` or one of its regular forms.
fn is_form(word: &str, lemma: &str) -> bool {
    let word = word.strip_suffix("'s").unwrap_or(word);
    let stem = lemma.strip_suffix('e').unwrap_or(lemma);
    word == lemma
        || word
            .strip_prefix(stem)
            .is_some_and(|ending| ["s", "es", "d", "ed", "ing", "er", "ers"].contains(&ending))
}

/// Returns `true` if the words from `at` on are those of `phrase`.
fn matches(words: &[Word], at: usize, phrase: &str) -> bool {
    let mut following = words[at..].iter();
    phrase.split(' ').all(|part| {
        following.next().is_some_and(|word| is_form(&word.text.to_lowercase(), &part.to_lowercase()))
    })
}

/// Returns all violations in a file, as `file:line: rule`.
fn violations(file: &str, text: &str, glossary: &[(String, String)]) -> Vec<String> {
    let lines = documentation(file, text);
    let mut found = too_wide(file, text);
    for passage in passages(&lines) {
        let words = passage.words();
        for (at, word) in words.iter().enumerate() {
            let mut report = |rule: String| found.push((word.line, rule));
            let is_question = || words[at..].iter().find_map(|word| word.ends) == Some('?');
            let starts = |opening: &&&str| {
                word.text.starts_with(char::is_uppercase) && opens_with(&words, at, opening)
            };
            if word.opens
                && let Some(opening) = HEADLESS.iter().find(starts).filter(|_| !is_question())
            {
                report(format!("a sentence starts with \"{opening}\": name its subject"));
            }
            if at == 0
                && word.opens
                && let Some(opening) = VAGUE.iter().find(starts)
            {
                report(format!("a paragraph starts with \"{opening}\": name its subject"));
            }
            for phrase in INDEFINITE.iter().filter(|phrase| matches(&words, at, phrase)) {
                report(format!("\"{phrase}\": write the number, or the role"));
            }
            // A connection is refused, by the operating system.
            let after_connection = at > 0 && words[at - 1].text.to_lowercase().starts_with("connection");
            for (replaced, better) in glossary.iter().filter(|(replaced, _)| matches(&words, at, replaced)) {
                if !(after_connection && replaced == "refuse") {
                    report(format!("\"{replaced}\": the glossary has \"{better}\""));
                }
            }
        }
    }
    found.sort();
    found.into_iter().map(|(line, rule)| format!("{file}:{line}: {rule}")).collect()
}

fn opens_with(words: &[Word], at: usize, opening: &str) -> bool {
    let mut following = words[at..].iter();
    opening.split(' ').all(|part| following.next().is_some_and(|word| word.text == part))
}

/// Returns the lines of documentation that are too long. Rows and link definitions cannot be broken.
fn too_wide(file: &str, text: &str) -> Vec<(usize, String)> {
    let mut block = false;
    let mut found = Vec::new();
    for ((number, line), (_, prose)) in (1..).zip(text.lines()).zip(documentation(file, text)) {
        if !file.ends_with(".md") && !line.trim_start().starts_with("//") {
            continue;
        }
        block ^= fence(prose).is_some();
        let limit = if block && file == "README.md" { README_CODE_WIDTH } else { WIDTH };
        let columns = line.chars().count();
        if columns > limit && (block || !is_row(prose) && !is_link_definition(prose)) && !prose.is_empty() {
            found.push((number, format!("{columns} columns, at most {limit} are allowed")));
        }
    }
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the checked files of the package, as `(name, text)`.
fn files() -> Vec<(String, String)> {
    let mut folders = vec![root().to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
            if path.is_dir() {
                let skipped = name.starts_with('.') || path.ends_with("target");
                folders.extend((!skipped).then_some(path));
            } else if name.ends_with(".md") || name.starts_with("src/") && name.ends_with(".rs") {
                found.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn is_unchecked(file: &str) -> bool {
    UNCHECKED.iter().any(|entry| is_in(file, entry))
}

/// Returns `true` if `file` is `entry` or a file in that folder.
fn is_in(file: &str, entry: &str) -> bool {
    file.strip_prefix(entry).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn guide() -> String {
    fs::read_to_string(root().join("docs/STYLE.md")).unwrap()
}

#[test]
fn documentation_follows_the_style_guide() {
    let glossary = glossary(&guide());
    let files = files();
    let checked = files.iter().filter(|(file, _)| !is_unchecked(file));
    let found: Vec<String> = checked.flat_map(|(file, text)| violations(file, text, &glossary)).collect();
    assert!(found.is_empty(), "{} violations of docs/STYLE.md:\n{}", found.len(), found.join("\n"));
}

#[test]
fn unchecked_entries_still_have_violations() {
    let (glossary, files) = (glossary(&guide()), files());
    for entry in UNCHECKED {
        let inside = files.iter().filter(|(file, _)| is_in(file, entry));
        let count = inside.flat_map(|(file, text)| violations(file, text, &glossary)).count();
        println!("{entry}: {count} violations");
        assert!(count > 0, "{entry} follows the style guide now: remove it from UNCHECKED");
    }
}

#[test]
fn style_guide_names_every_banned_opening_and_phrase() {
    let guide = guide().split_whitespace().collect::<Vec<_>>().join(" ");
    for phrase in HEADLESS.iter().chain(VAGUE).chain(INDEFINITE) {
        assert!(guide.contains(&format!("`{phrase}`")), "docs/STYLE.md does not mention `{phrase}`");
    }
}

fn check(file: &str, text: &str) -> Vec<String> {
    let guide = "## 1. a\n## 2. b\n| rejection | c | `refuse`, `refusal`, patience |\n| in flight | d | `under way` |";
    violations(file, text, &glossary(&format!("\n{guide}")))
}

#[track_caller]
fn finds(file: &str, text: &str, expected: &[&str]) {
    let found = check(file, text);
    assert_eq!(found.len(), expected.len(), "{found:#?} in {text:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found:?} does not contain {expected:?}");
    }
}

#[test]
fn banned_openings_are_found_where_a_sentence_starts() {
    finds(
        "src/a.rs",
        "/// Whether it is open.\nfn f();",
        &["src/a.rs:1: a sentence starts with \"Whether\""],
    );
    finds("src/a.rs", "//! First.\n//!\n//! What it does is this.", &["src/a.rs:3: "]);
    finds("a.md", "It is closed. How it\nopens is secret.", &["a.md:1: a sentence starts with \"How\""]);
    finds("a.md", "**Whoever** waits.", &["\"whoever\"", "\"Whoever\""]);
    finds("a.md", "- Those that wait.\n- Those\n  that go.", &["a.md:1: ", "a.md:2: "]);
    finds("a.md", "1. Of two one is first.", &["a paragraph starts with \"Of\""]);
    finds("src/a.rs", "/// None.\nfn f();\n/// The same.\nfn g();", &["\"None\"", "\"The same\""]);
    finds("a.md", "It is open. The same rule holds then.\nWhatever happens, it is.", &[]);
}

#[test]
fn questions_headings_and_code_are_no_banned_openings() {
    finds("a.md", "# How it decides\n\nWhat is a circuit? A state machine.", &[]);
    finds("a.md", "`What` is a name.\n\n```\nWhat is this?\n```\n\n| How | What |", &[]);
    finds("src/a.rs", "/// `None` without a deadline.\n// What the code says.\nlet a = \"Who is it\";", &[]);
}

#[test]
fn indefinite_phrases_are_found_across_lines() {
    finds("a.md", "It lets so\nmany calls in.", &["a.md:1: \"so many\""]);
    finds("a.md", "| who | nobody |", &["a.md:1: \"nobody\""]);
    finds("a.md", "# Everybody waits", &["\"everybody\""]);
    finds("a.md", "The `nobody` user, [a link](so many) and ``so long``.", &[]);
    finds("a.md", "```text\nsomebody waits\n```\n\n```rust\nsomebody\n```", &["a.md:2: \"somebody\""]);
}

#[test]
fn glossary_replaces_words_in_all_their_forms() {
    finds("a.md", "It refuses.", &["\"refuse\": the glossary has \"rejection\""]);
    finds("a.md", "Refused, refusing and refusals.", &["\"refusal\"", "\"refuse\"", "\"refuse\""]);
    finds("a.md", "Calls under\nway.", &["a.md:1: \"under way\""]);
    finds("a.md", "The connection refused, REFUSED_STREAM, a diffuser, and patience.", &[]);
}

#[test]
fn long_lines_are_found_except_tables_and_links() {
    let (long, medium) = ("x".repeat(101), "x".repeat(90));
    finds("src/a.rs", &format!("/// {}\nlet a = \"{long}\";\n// {long}", &long[4..]), &["src/a.rs:1: 101"]);
    finds("a.md", &format!("{long}\n| {long} |\n[a]: {long}"), &["a.md:1: 101 columns"]);
    finds("a.md", &format!("```\n{medium}\n{long}\n```"), &["a.md:3: 101"]);
    finds("README.md", &format!("{medium}\n```\n{medium}\n```\n{medium}"), &["README.md:3: 90"]);
}

#[test]
fn plot_of_the_root_page_is_that_of_the_guides() {
    let read = |file: &str| fs::read_to_string(root().join("src/docs").join(file)).unwrap();
    let uri = read("overload.uri");
    let mut pieces = uri.trim_end().strip_prefix("data:image/svg+xml,").unwrap().split('%');
    let mut decoded = pieces.next().unwrap().to_owned();
    for piece in pieces {
        let (code, text) = piece.split_at(2);
        decoded.push(char::from(u8::from_str_radix(code, 16).unwrap()));
        decoded.push_str(text);
    }
    assert!(decoded == read("overload.svg").replace('\n', ""), "run the example `overload` with `src/docs`");
}
