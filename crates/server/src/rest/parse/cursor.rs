//! Reads a text from left to right: names, quoted values, ways into JSON.

use nudge_store::query::{Field, Key, Step};

/// Most steps into a JSON value.
const MAX_STEPS: usize = 32;

/// A place in a text.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

/// What was found instead of what was expected, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unexpected {
    /// Characters before it, plus one.
    pub(super) column: usize,
    /// In words.
    pub(super) problem: String,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest().is_empty()
    }

    pub(super) fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Takes a text if it comes next.
    pub(super) fn take(&mut self, wanted: &str) -> bool {
        let found = self.rest().starts_with(wanted);
        if found {
            self.at += wanted.len();
        }
        found
    }

    /// Takes characters as long as they are of a kind.
    pub(super) fn take_while(&mut self, of_kind: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c| !of_kind(c)).unwrap_or(rest.len());
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    pub(super) fn spaces(&mut self) {
        self.take_while(char::is_whitespace);
    }

    /// Says that something else was expected here.
    pub(super) fn unexpected(&self, expecting: &str) -> Unexpected {
        let found = match self.peek() {
            Some(c) => format!("unexpected {:?}", c.to_string()),
            None => "unexpected end of input".to_owned(),
        };
        self.problem(format!("{found} expecting {expecting}"))
    }

    /// Says what is wrong here.
    pub(super) fn problem(&self, problem: String) -> Unexpected {
        let before = self.text.get(..self.at).unwrap_or_default();
        Unexpected { column: before.chars().count() + 1, problem }
    }

    /// Takes a text that must come next.
    pub(super) fn expect(&mut self, wanted: &str, named: &str) -> Result<(), Unexpected> {
        if self.take(wanted) { Ok(()) } else { Err(self.unexpected(named)) }
    }

    /// Takes a value between double quotes; a backslash takes the next character as it is.
    pub(super) fn quoted(&mut self) -> Result<String, Unexpected> {
        self.expect("\"", "a quoted value")?;
        let mut value = String::new();
        loop {
            match self.next() {
                Some('"') => return Ok(value),
                Some('\\') => value.push(self.next().ok_or_else(|| self.unexpected("a character"))?),
                Some(c) => value.push(c),
                None => return Err(self.unexpected("\"\\\"\"")),
            }
        }
    }

    /// Takes a name: quoted, or of letters, digits, `_`, `$`, space and inner `-`.
    pub(super) fn name(&mut self, expecting: &str) -> Result<String, Unexpected> {
        if self.peek() == Some('"') {
            return self.quoted();
        }
        let begun = self.at;
        loop {
            let part = self.take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | ' '));
            if part.trim().is_empty() {
                return Err(self.unexpected(expecting));
            }
            if !self.rest().starts_with('-') || self.rest().starts_with("->") {
                break;
            }
            self.at += 1;
        }
        Ok(self.text.get(begun..self.at).unwrap_or_default().trim().to_owned())
    }

    /// Takes a column and the way into it.
    pub(super) fn field(&mut self) -> Result<Field, Unexpected> {
        let column = self.name("field name (* or [a..z0..9_$])")?;
        self.way(column)
    }

    /// Takes the way into a column that has been read.
    pub(super) fn way(&mut self, column: String) -> Result<Field, Unexpected> {
        let mut path = Vec::new();
        while self.take("->") {
            if path.len() == MAX_STEPS {
                return Err(self.problem(format!("more than {MAX_STEPS} steps")));
            }
            let as_text = self.take(">");
            path.push(Step { key: self.key()?, as_text });
        }
        Ok(Field { column, path })
    }

    /// Takes the key of a step: a whole number by itself is an index.
    fn key(&mut self) -> Result<Key, Unexpected> {
        let mut ahead = self.clone();
        let sign = if ahead.take("-") { "-" } else { "" };
        let digits = ahead.take_while(|c| c.is_ascii_digit());
        let ends = ["->", "::", ".", ","].iter().any(|end| ahead.rest().starts_with(end));
        if !digits.is_empty() && (ends || ahead.is_at_end()) {
            let index = format!("{sign}{digits}").parse();
            let index = index.map_err(|_| self.problem("the index is out of range".to_owned()))?;
            *self = ahead;
            return Ok(Key::Index(index));
        }
        self.name("a key or an index").map(Key::Name)
    }
}
