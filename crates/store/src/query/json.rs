//! JSON values as PostgreSQL's `jsonb` has them: exact numbers, keys in order of length and bytes, one order of all values.
//!
//! SQLite keeps JSON as text; what is shown, compared and looked up goes through here, so that it is what PostgreSQL would
//! show and find.

use std::cmp::Ordering;
use std::fmt::Write;

use super::decimal::Decimal;
use super::{Key, Step};

/// Greatest depth of a value.
const MAX_DEPTH: usize = 128;

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(Decimal),
    String(String),
    Array(Vec<Json>),
    /// Each key once, in order of length and bytes.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads a text; `None` when it is no JSON, or has what `jsonb` cannot hold.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0)?;
        reader.blanks();
        (reader.at == text.len()).then_some(value)
    }

    /// Names the kind, as errors do.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) => "numeric",
            Self::String(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
        }
    }

    /// Follows a way into the value (`->`).
    pub(crate) fn get<'a>(&'a self, path: &[Step]) -> Option<&'a Self> {
        path.iter().try_fold(self, |value, step| match (value, &step.key) {
            (Self::Object(members), Key::Name(name)) => {
                members.iter().find(|(key, _)| key == name).map(|(_, value)| value)
            }
            (Self::Array(elements), Key::Index(index)) => elements.get(place(*index, elements.len())?),
            (Self::Array(_), Key::Name(_)) | (Self::Object(_), Key::Index(_)) => None,
            // A scalar counts as an array of itself.
            (scalar, Key::Index(index)) => place(*index, 1).map(|_| scalar),
            (_, Key::Name(_)) => None,
        })
    }

    /// Gives the value as text (`->>`); null is no text.
    pub(crate) fn as_text(&self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }

    /// Takes away members that are null, in objects inside objects and arrays too.
    pub(crate) fn strip_nulls(self) -> Self {
        match self {
            Self::Array(elements) => Self::Array(elements.into_iter().map(Self::strip_nulls).collect()),
            Self::Object(members) => Self::Object(
                members
                    .into_iter()
                    .filter(|(_, value)| *value != Self::Null)
                    .map(|(key, value)| (key, value.strip_nulls()))
                    .collect(),
            ),
            scalar => scalar,
        }
    }

    /// Says whether everything of the other value is in this one (`@>`).
    pub(crate) fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            // At the top, an array holds a scalar that is one of its elements.
            (Self::Array(elements), scalar) if scalar.is_scalar() => elements.contains(scalar),
            _ => self.contains_like(other),
        }
    }

    fn contains_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Object(members), Self::Object(wanted)) => wanted.iter().all(|(key, wanted)| {
                members.iter().any(|(name, value)| name == key && value.contains_like(wanted))
            }),
            (Self::Array(elements), Self::Array(wanted)) => {
                wanted.iter().all(|wanted| elements.iter().any(|element| element.contains_like(wanted)))
            }
            (one, other) => one.is_scalar() && one == other,
        }
    }

    fn is_scalar(&self) -> bool {
        !matches!(self, Self::Array(_) | Self::Object(_))
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::String(_) => 1,
            Self::Number(_) => 2,
            Self::Bool(_) => 3,
            Self::Array(_) => 4,
            Self::Object(_) => 5,
        }
    }

    /// Compares as `jsonb` does; texts by bytes.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            // An oddity of old: at the top, an empty array comes before every scalar.
            (Self::Array(elements), scalar) if elements.is_empty() && scalar.is_scalar() => Ordering::Less,
            (scalar, Self::Array(elements)) if elements.is_empty() && scalar.is_scalar() => Ordering::Greater,
            _ => self.order(other),
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Number(a), Self::Number(b)) => a.cmp(b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::Array(a), Self::Array(b)) => a.len().cmp(&b.len()).then_with(|| {
                a.iter().zip(b).map(|(a, b)| a.order(b)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
            }),
            (Self::Object(a), Self::Object(b)) => a.len().cmp(&b.len()).then_with(|| {
                let members = a.iter().zip(b);
                let order = |((a_key, a), (b_key, b)): (&(String, Self), &(String, Self))| {
                    a_key.cmp(b_key).then_with(|| a.order(b))
                };
                members.map(order).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
            }),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

/// Counts negative indexes from the end.
fn place(index: i32, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    let index = i64::from(index);
    let index = if index < 0 { index + length } else { index };
    (index < length).then(|| usize::try_from(index).ok()).flatten()
}

impl std::fmt::Display for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::String(text) => write_string(f, text),
            Self::Array(elements) => {
                f.write_char('[')?;
                for (i, element) in elements.iter().enumerate() {
                    f.write_str(if i > 0 { ", " } else { "" })?;
                    write!(f, "{element}")?;
                }
                f.write_char(']')
            }
            Self::Object(members) => {
                f.write_char('{')?;
                for (i, (key, value)) in members.iter().enumerate() {
                    f.write_str(if i > 0 { ", " } else { "" })?;
                    write_string(f, key)?;
                    write!(f, ": {value}")?;
                }
                f.write_char('}')
            }
        }
    }
}

/// Writes a text as a JSON string, with the escapes that PostgreSQL writes.
pub(crate) fn write_string(out: &mut impl Write, text: &str) -> std::fmt::Result {
    out.write_char('"')?;
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0x00..=0x1f => "",
            _ => continue,
        };
        out.write_str(&text[plain..at])?;
        if escape.is_empty() {
            write!(out, "\\u{byte:04x}")?
        } else {
            out.write_str(escape)?
        }
        plain = at + 1;
    }
    out.write_str(&text[plain..])?;
    out.write_char('"')
}

/// Reads JSON from a text.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, wanted: &str) -> Option<()> {
        self.text[self.at..].starts_with(wanted).then(|| self.at += wanted.len())
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.blanks();
        match self.peek()? {
            b'n' => self.take("null").map(|()| Json::Null),
            b't' => self.take("true").map(|()| Json::Bool(true)),
            b'f' => self.take("false").map(|()| Json::Bool(false)),
            b'"' => self.string().map(Json::String),
            b'[' => self.array(depth),
            b'{' => self.object(depth),
            _ => self.number(),
        }
    }

    fn array(&mut self, depth: usize) -> Option<Json> {
        self.at += 1;
        let mut elements = Vec::new();
        self.blanks();
        if self.take("]").is_some() {
            return Some(Json::Array(elements));
        }
        loop {
            elements.push(self.value(depth + 1)?);
            self.blanks();
            if self.take("]").is_some() {
                return Some(Json::Array(elements));
            }
            self.take(",")?;
        }
    }

    fn object(&mut self, depth: usize) -> Option<Json> {
        self.at += 1;
        let mut members: Vec<(String, Json)> = Vec::new();
        self.blanks();
        if self.take("}").is_some() {
            return Some(Json::Object(members));
        }
        loop {
            self.blanks();
            let key = self.string()?;
            self.blanks();
            self.take(":")?;
            members.push((key, self.value(depth + 1)?));
            self.blanks();
            if self.take("}").is_some() {
                return Some(Json::Object(ordered(members)));
            }
            self.take(",")?;
        }
    }

    fn number(&mut self) -> Option<Json> {
        let begun = self.at;
        let digits = |reader: &mut Self| {
            let from = reader.at;
            while matches!(reader.peek(), Some(b'0'..=b'9')) {
                reader.at += 1;
            }
            (reader.at > from).then_some(())
        };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1
        } else {
            digits(self)?
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            digits(self)?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            digits(self)?;
        }
        Decimal::parse(&self.text[begun..self.at]).ok().map(Json::Number)
    }

    fn string(&mut self) -> Option<String> {
        self.take("\"")?;
        let mut text = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.find(|c: char| c == '"' || c == '\\' || c < ' ')?;
            text.push_str(&rest[..plain]);
            self.at += plain;
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(text);
                }
                b'\\' => {
                    self.at += 1;
                    text.push(self.escaped()?);
                }
                _ => return None,
            }
        }
    }

    fn escaped(&mut self) -> Option<char> {
        let letter = self.peek()?;
        self.at += 1;
        Some(match letter {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.unit()?;
                if !(0xd800..0xdc00).contains(&first) {
                    // Neither half of a pair alone, nor NUL, which no text of the database can hold.
                    return char::from_u32(first).filter(|c| *c != '\0');
                }
                self.take("\\u")?;
                let second = self.unit().filter(|unit| (0xdc00..0xe000).contains(unit))?;
                char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))?
            }
            _ => return None,
        })
    }

    fn unit(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok()).flatten()
    }
}

/// Puts members in order; of several with one key the last counts.
fn ordered(mut members: Vec<(String, Json)>) -> Vec<(String, Json)> {
    members.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    let mut kept: Vec<(String, Json)> = Vec::with_capacity(members.len());
    for member in members {
        match kept.last_mut() {
            Some(last) if last.0 == member.0 => *last = member,
            _ => kept.push(member),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn values_are_printed_as_jsonb_is() {
        for (text, printed) in [
            (" { \"bb\" :1 , \"a\":[ 1.50,2e2, null,true ] } ", r#"{"a": [1.50, 200, null, true], "bb": 1}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a": 2}"#),
            (r#""\u00e9\ud83d\ude00\/\u001f""#, "\"é😀/\\u001f\""),
            ("[]", "[]"),
            ("{}", "{}"),
            ("-0.0", "0.0"),
            ("1e-7", "0.0000001"),
        ] {
            assert_eq!(json(text).to_string(), printed, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for text in [
            "",
            "tru",
            "nulls",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "NaN",
            "'a'",
            "\"a",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u0000\"",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\n\"",
            "[1,]",
            "[1",
            "{\"a\"}",
            "{\"a\":1,}",
            "{a:1}",
            "1 2",
            &"[".repeat(100_000),
        ] {
            assert_eq!(Json::parse(text), None, "{text:.40}");
        }
    }

    #[test]
    fn the_order_is_that_of_jsonb() {
        let ascending = [
            "[]",
            "null",
            "\"\"",
            "\"a\"",
            "\"b\"",
            "-1",
            "1",
            "1.5",
            "false",
            "true",
            "[1]",
            "[2]",
            "[[]]",
            "[{}]",
            "[1,1]",
            "{}",
            r#"{"a":1}"#,
            r#"{"a":2}"#,
            r#"{"b":1}"#,
            r#"{"a":1,"b":1}"#,
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(json(a).compare(&json(b)), i.cmp(&j), "{a} {b}");
            }
        }
        assert_eq!(json("1.0"), json("1"));
    }

    #[test]
    fn containment_is_that_of_jsonb() {
        for (one, other, contains) in [
            (r#"{"a":1,"b":2}"#, r#"{"a":1}"#, true),
            (r#"{"a":1}"#, r#"{"a":1.0}"#, true),
            (r#"{"a":{"b":[1,2]}}"#, r#"{"a":{"b":[2]}}"#, true),
            (r#"{"a":{"b":[1,2]}}"#, r#"{"a":{"b":2}}"#, false),
            (r#"{"a":1}"#, r#"{"a":1,"b":2}"#, false),
            ("[1,2,[3,4]]", "[2,1,1]", true),
            ("[1,2,[3,4]]", "[[4]]", true),
            ("[1,2,[3,4]]", "[3]", false),
            ("[1,2]", "1", true),
            ("[[1]]", "1", false),
            ("1", "[1]", false),
            ("1", "1", true),
            ("{}", "[]", false),
            ("[]", "[]", true),
            (r#"{"a":1}"#, "{}", true),
            ("null", "null", true),
        ] {
            assert_eq!(json(one).contains(&json(other)), contains, "{one} @> {other}");
        }
    }

    #[test]
    fn ways_lead_where_they_do_in_postgresql() {
        let value = json(r#"{"a":[10,{"b":"x"},null],"s":5,"1":"one"}"#);
        let name = |name: &str| Step { key: Key::Name(name.into()), as_text: false };
        let index = |index| Step { key: Key::Index(index), as_text: false };
        for (path, found) in [
            (vec![name("a"), index(0)], Some("10")),
            (vec![name("a"), index(-2), name("b")], Some("\"x\"")),
            (vec![name("a"), index(2)], Some("null")),
            (vec![name("a"), index(3)], None),
            (vec![name("a"), index(-4)], None),
            (vec![name("a"), name("0")], None),
            (vec![index(1)], None),
            (vec![name("1")], Some("\"one\"")),
            (vec![name("s"), index(0)], Some("5")),
            (vec![name("s"), index(1)], None),
            (vec![name("s"), name("x")], None),
            (vec![name("x")], None),
        ] {
            assert_eq!(value.get(&path).map(ToString::to_string).as_deref(), found, "{path:?}");
        }
        assert_eq!(json("\"x\"").as_text().as_deref(), Some("x"));
        assert_eq!(json("null").as_text(), None);
        assert_eq!(json("[1,2]").as_text().as_deref(), Some("[1, 2]"));
    }
}
