//! Checks the prose of the documentation against `docs/STYLE.md`.
//!
//! The documentation is the `///` and `//!` comments in `src` and every Markdown file. Code and code
//! spans are skipped. Words that the glossary replaces are read from the style guide itself.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "helpers of a test")]

#[path = "prose/checker.rs"]
mod checker;
#[path = "prose/text.rs"]
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use text::{Word, documentation, fence, is_link_definition, is_row, passages};

/// Folders and files whose prose is not rewritten yet. This list is to become empty: remove an entry
/// together with its last violation, and never add one.
const UNCHECKED: &[&str] = &[
    "src/base",
    "src/classify",
    "src/config.rs",
    "src/deadline.rs",
    "src/http",
    "src/middleware/adaptive_limit",
    "src/middleware/admission",
    "src/middleware/bulkhead",
    "src/middleware/circuit_breaker",
    "src/middleware/fallback",
    "src/middleware/hedge",
    "src/middleware/rate_limit",
    "src/middleware/respond",
    "src/middleware/throttle",
    "src/primitives",
    "src/protocol",
];

/// Words that cannot start a sentence, unless it is a question.
const HEADLESS: &[&str] = &["What", "Who", "Whoever", "Whether", "How", "That which", "Those that"];
/// Words that cannot start a paragraph, a list item or the summary of an item either.
const VAGUE: &[&str] = &["So many", "Of", "Leave to", "The same", "None", "It does"];
/// Phrases without a noun or a number.
const INDEFINITE: &[&str] = &["somebody", "everybody", "nobody", "anybody", "whoever", "so many", "so long"];

const WIDTH: usize = 100;
const README_CODE_WIDTH: usize = 80;

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
