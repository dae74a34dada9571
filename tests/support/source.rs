//! Reads Rust source well enough to know which paths it names: no macros are expanded and no types resolved,
//! but comments, strings, `use` trees, `super` chains and inline modules are understood.

/// One file of the crate.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the package: `src/retry/budget.rs`.
    pub file: String,
    /// The module it is: `["retry", "budget"]`, empty for `lib.rs`.
    pub module: Vec<String>,
    pub paths: Vec<Path>,
    /// Lines with `cfg(feature = "..")` in one of its forms. What `doc(..)` says is not one.
    pub features: Vec<Line>,
    /// Every name in the code, wherever it stands.
    pub words: Vec<(Line, String)>,
}

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub number: usize,
    /// Whether it is compiled for tests only.
    pub test: bool,
}

/// A path that the code names, either in a `use` or right where it is needed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub line: Line,
    /// Whether it starts at the root of this crate, after `crate`, `self` and `super` have been followed.
    pub inside: bool,
    pub segments: Vec<String>,
    /// `path!(..)`
    pub is_macro: bool,
}

impl Source {
    pub(crate) fn parse(file: &str, text: &str) -> Self {
        let module = module(file);
        let test = module.iter().any(|part| matches!(part.as_str(), "tests" | "model" | "schedules"));
        let mut reader = Reader {
            source: Self { file: file.to_owned(), module, paths: vec![], features: vec![], words: vec![] },
            tokens: tokens(text),
            at: 0,
            scopes: vec![Scope { module: None, test }],
            nested: 0,
            test_follows: None,
        };
        reader.read();
        reader.source
    }
}

fn module(file: &str) -> Vec<String> {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs");
    let mut module: Vec<String> = path.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod") || path == "lib" {
        module.pop();
    }
    module
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Colons,
    Mark(char),
}

/// The tokens of a text and the lines they are on, without comments, literals and lifetimes.
fn tokens(text: &str) -> Vec<(usize, Token)> {
    let text: Vec<char> = text.chars().collect();
    let peek = |at: usize| text.get(at).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut at, mut line, mut found) = (0, 1, vec![]);
    while at < text.len() {
        let start = at;
        match (peek(at), peek(at + 1)) {
            ('/', '/') => {
                while at < text.len() && peek(at) != '\n' {
                    at += 1;
                }
            }
            ('/', '*') => at = after_block_comment(&text, at),
            ('"', _) => at = after_string(&text, at),
            ('\'', '\\') => {
                at += 3;
                while at < text.len() && peek(at) != '\'' {
                    at += 1;
                }
                at += 1;
            }
            ('\'', _) if peek(at + 2) == '\'' => at += 3,
            ('\'', _) => {
                at += 1;
                while is_word(peek(at)) {
                    at += 1;
                }
            }
            (':', ':') => {
                found.push((line, Token::Colons));
                at += 2;
            }
            (c, _) if is_word(c) => {
                while is_word(peek(at)) {
                    at += 1;
                }
                let word: String = text[start..at].iter().collect();
                let hashes = text[at..].iter().take_while(|c| **c == '#').count();
                match word.as_str() {
                    "r" | "br" | "cr" if peek(at + hashes) == '"' => at = after_raw_string(&text, at, hashes),
                    // `r#type` is the word that follows.
                    "r" if hashes == 1 => at += 1,
                    "b" | "c" if peek(at) == '"' => {}
                    "b" if peek(at) == '\'' => {}
                    _ => found.push((line, Token::Word(word))),
                }
            }
            (c, _) => {
                if !c.is_whitespace() {
                    found.push((line, Token::Mark(c)));
                }
                at += 1;
            }
        }
        at = at.min(text.len());
        line += text[start..at].iter().filter(|c| **c == '\n').count();
    }
    found
}

fn after_block_comment(text: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < text.len() {
        match (text[at], text.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn after_string(text: &[char], mut at: usize) -> usize {
    at += 1;
    while at < text.len() && text[at] != '"' {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn after_raw_string(text: &[char], at: usize, hashes: usize) -> usize {
    let mut at = at + hashes + 1;
    while at < text.len() {
        let closes =
            text[at] == '"' && text[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
        at += 1;
        if closes {
            return at + hashes;
        }
    }
    at
}

/// A pair of braces: of a module, or of anything else.
#[derive(Debug)]
struct Scope {
    module: Option<String>,
    test: bool,
}

#[derive(Debug)]
struct Reader {
    source: Source,
    tokens: Vec<(usize, Token)>,
    at: usize,
    scopes: Vec<Scope>,
    /// Parentheses and brackets that are open.
    nested: usize,
    /// An attribute, nested this deep, said that the item after it is for tests only.
    test_follows: Option<usize>,
}

impl Reader {
    fn read(&mut self) {
        while let Some(token) = self.token(0) {
            match token {
                Token::Word(word) => self.word(&word),
                Token::Mark('{') => self.open(None),
                Token::Mark(mark) => {
                    self.mark(mark);
                    self.at += 1;
                }
                Token::Colons => self.at += 1,
            }
        }
    }

    fn mark(&mut self, mark: char) {
        match mark {
            '}' => {
                self.scopes.pop();
                self.test_follows = None;
            }
            '(' | '[' => self.nested += 1,
            ')' | ']' => self.nested = self.nested.saturating_sub(1),
            // The item is over; a comma between parameters is nested deeper.
            ';' | ',' => self.test_follows = self.test_follows.filter(|outer| self.nested > *outer),
            _ => {}
        }
    }

    fn token(&self, ahead: usize) -> Option<Token> {
        self.tokens.get(self.at + ahead).map(|(_, token)| token.clone())
    }

    fn is(&self, ahead: usize, mark: char) -> bool {
        self.token(ahead) == Some(Token::Mark(mark))
    }

    fn before(&self) -> Option<&Token> {
        self.at.checked_sub(1).map(|before| &self.tokens[before].1)
    }

    fn line(&self) -> Line {
        let number = self.tokens.get(self.at).or(self.tokens.last()).map_or(0, |(line, _)| *line);
        Line {
            number,
            test: self.test_follows.is_some() || self.scopes.last().is_some_and(|scope| scope.test),
        }
    }

    fn open(&mut self, module: Option<String>) {
        let test = self.line().test;
        self.scopes.push(Scope { module, test });
        self.test_follows = None;
        self.at += 1;
    }

    fn word(&mut self, word: &str) {
        self.source.words.push((self.line(), word.to_owned()));
        let starts = !matches!(self.before(), Some(Token::Colons | Token::Mark('.')));
        match word {
            "cfg" | "cfg_attr" if self.is(1, '(') || (self.is(1, '!') && self.is(2, '(')) => {
                self.condition(word);
            }
            "doc" if self.is(1, '(') && self.token(2) == Some(Token::Word("cfg".to_owned())) => {
                self.at += self.behind_parentheses(1);
            }
            "mod" if self.is(2, '{') => {
                let name = match self.token(1) {
                    Some(Token::Word(name)) => Some(name),
                    _ => None,
                };
                self.at += 2;
                self.open(name);
            }
            // `use<'a, T>` says what a type captures.
            "use" if !self.is(1, '<') => {
                self.at += 1;
                self.tree(&[]);
            }
            _ if starts && self.token(1) == Some(Token::Colons) => self.path(),
            _ => self.at += 1,
        }
    }

    /// `cfg(..)`, `cfg!(..)` and `cfg_attr(..)`.
    fn condition(&mut self, word: &str) {
        let is_attribute = word == "cfg" && self.is(1, '(');
        let end = self.behind_parentheses(if self.is(1, '!') { 2 } else { 1 });
        let (mut feature, mut test) = (false, false);
        let mut ahead = 1;
        while ahead < end {
            let Some(Token::Word(word)) = self.token(ahead) else {
                ahead += 1;
                continue;
            };
            match word.as_str() {
                "doc" => ahead = self.behind_parentheses(ahead + 1),
                // What must not be, or is not the only way, says nothing about tests.
                "not" | "any" => {
                    let inner = self.behind_parentheses(ahead + 1);
                    feature |= (ahead..inner).any(|at| self.is_feature(at));
                    ahead = inner;
                }
                word => {
                    test |= word == "test";
                    feature |= self.is_feature(ahead);
                    ahead += 1;
                }
            }
        }
        if feature {
            let line = self.line();
            self.source.features.push(line);
        }
        if is_attribute && test {
            self.test_follows = Some(self.nested.saturating_sub(1));
        }
        // There may be paths in a `cfg_attr`.
        self.at += if word == "cfg" { end } else { 1 };
    }

    fn is_feature(&self, ahead: usize) -> bool {
        self.token(ahead) == Some(Token::Word("feature".to_owned())) && self.is(ahead + 1, '=')
    }

    /// How far ahead the reader is behind the parentheses that open `ahead`.
    fn behind_parentheses(&self, mut ahead: usize) -> usize {
        let mut depth = 0_usize;
        while let Some(token) = self.token(ahead) {
            match token {
                Token::Mark('(') => depth += 1,
                Token::Mark(')') => depth = depth.saturating_sub(1),
                _ => {}
            }
            ahead += 1;
            if depth == 0 {
                break;
            }
        }
        ahead
    }

    /// A path outside a `use`.
    fn path(&mut self) {
        let line = self.line();
        let mut segments = vec![];
        while let Some(Token::Word(word)) = self.token(0) {
            self.at += 1;
            if !segments.is_empty() {
                self.source.words.push((line, word.clone()));
            }
            segments.push(word);
            if self.token(0) != Some(Token::Colons) {
                break;
            }
            self.at += 1;
        }
        let is_macro = self.is(0, '!');
        self.add(line, &segments, is_macro);
    }

    /// What follows `use`, or a part of it in braces.
    fn tree(&mut self, prefix: &[String]) {
        let mut segments = prefix.to_vec();
        let mut complete = false;
        while let Some(token) = self.token(0) {
            let line = self.line();
            match token {
                Token::Word(word) if word == "as" => self.at += 2,
                Token::Word(word) => {
                    self.source.words.push((line, word.clone()));
                    segments.push(word);
                    self.at += 1;
                }
                Token::Mark('*') => {
                    segments.push("*".to_owned());
                    self.at += 1;
                }
                Token::Colons => self.at += 1,
                Token::Mark('{') => {
                    self.at += 1;
                    while !self.is(0, '}') && self.token(0).is_some() {
                        self.tree(&segments);
                        if self.is(0, ',') {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    complete = true;
                }
                Token::Mark(',' | '}' | ';') => break,
                Token::Mark(_) => self.at += 1,
            }
        }
        if !complete {
            let line = self.line();
            self.add(line, &segments, false);
        }
    }

    fn add(&mut self, line: Line, segments: &[String], is_macro: bool) {
        let mut here = self.source.module.clone();
        here.extend(self.scopes.iter().filter_map(|scope| scope.module.clone()));
        let mut inside = true;
        let mut absolute = vec![];
        for (place, segment) in segments.iter().enumerate() {
            match (place, segment.as_str()) {
                // The crate may also be named as its users name it.
                (0, "crate" | "stanchion") => {}
                (0, "self") => absolute.clone_from(&here),
                (0, "super") => {
                    here.pop();
                    absolute.clone_from(&here);
                }
                (_, "super") => {
                    absolute.pop();
                }
                // `a::{self}` is `a`.
                (_, "self") => {}
                (0, _) => {
                    inside = false;
                    absolute.push(segment.clone());
                }
                _ => absolute.push(segment.clone()),
            }
        }
        self.source.paths.push(Path { line, inside, segments: absolute, is_macro });
    }
}
