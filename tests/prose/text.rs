//! The prose of a file: its passages and words, without code.

/// A passage of prose: a paragraph, a list item, a heading or a row of a table.
pub(crate) struct Passage {
    /// Lines of text with their numbers.
    lines: Vec<(usize, String)>,
    /// Headings, rows and drawings have no sentences.
    has_sentences: bool,
}

pub(crate) struct Word {
    pub(crate) line: usize,
    pub(crate) text: String,
    /// The word is the first one of a sentence.
    pub(crate) opens: bool,
    /// The mark after the word, if it ends a sentence.
    pub(crate) ends: Option<char>,
}

impl Passage {
    /// Returns the words outside of code spans and link targets.
    pub(crate) fn words(&self) -> Vec<Word> {
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
pub(crate) fn documentation<'a>(file: &str, text: &'a str) -> Vec<(usize, &'a str)> {
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
pub(crate) fn fence(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("```")
}

pub(crate) fn is_row(line: &str) -> bool {
    line.trim_start().starts_with('|')
}

pub(crate) fn is_link_definition(line: &str) -> bool {
    line.starts_with('[') && line.contains("]: ")
}

/// Returns the text after the marker of a list item.
fn list_item(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered = (number.len() < line.len()).then(|| number.strip_prefix(". ")).flatten();
    numbered.or_else(|| line.strip_prefix("- ")).or_else(|| line.strip_prefix("* "))
}

pub(crate) fn passages(lines: &[(usize, &str)]) -> Vec<Passage> {
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
