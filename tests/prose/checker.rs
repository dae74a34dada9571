//! Tests of the checker itself.

use super::{glossary, violations};

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
