//! `LIKE` patterns as PostgreSQL reads them: `%` any text, `_` one character, `\` the next one as it is.

/// A pattern, ready to be matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    parts: Vec<Part>,
    fold: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Any,
    One,
    This(char),
}

impl Pattern {
    /// Reads a pattern; with `fold` the case of ASCII letters does not count. `None` when it ends with a lone `\`.
    pub(crate) fn parse(text: &str, fold: bool) -> Option<Self> {
        let mut parts = Vec::with_capacity(text.len());
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '%' if parts.last() == Some(&Part::Any) => continue,
                '%' => Part::Any,
                '_' => Part::One,
                '\\' => Part::This(folded(chars.next()?, fold)),
                c => Part::This(folded(c, fold)),
            });
        }
        Some(Self { parts, fold })
    }

    /// Says whether a whole text is of the pattern. Takes at most time in proportion to the product of both lengths.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let mut text = text.chars();
        let mut at = 0;
        // Where to go on after the last `%`, and the text that it has not swallowed yet.
        let mut last_any: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            if self.parts.get(at) == Some(&Part::Any) {
                at += 1;
                if at == self.parts.len() {
                    return true;
                }
                last_any = Some((at, text.clone()));
                continue;
            }
            match (text.next(), self.parts.get(at)) {
                (None, None) => return true,
                (Some(_), Some(Part::One)) => at += 1,
                (Some(c), Some(Part::This(wanted))) if folded(c, self.fold) == *wanted => at += 1,
                (None, Some(_)) => return false,
                _ => {
                    let Some((behind, rest)) = &mut last_any else { return false };
                    if rest.next().is_none() {
                        return false;
                    }
                    (at, text) = (*behind, rest.clone());
                }
            }
        }
    }
}

fn folded(c: char, fold: bool) -> char {
    if fold { c.to_ascii_lowercase() } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_postgresql() {
        for (pattern, text, matches) in [
            ("", "", true),
            ("", "a", false),
            ("%", "", true),
            ("%%", "abc", true),
            ("a%", "abc", true),
            ("%c", "abc", true),
            ("%b%", "abc", true),
            ("a_c", "abc", true),
            ("a_c", "ac", false),
            ("_", "é", true),
            ("%a%b%", "xaxxbx", true),
            ("%ab", "aab", true),
            ("%aab", "aaab", true),
            ("a\\%", "a%", true),
            ("a\\%", "ab", false),
            ("a\\\\", "a\\", true),
            ("\\a", "a", true),
            ("%_", "", false),
            ("_%_", "a", false),
            ("A", "a", false),
        ] {
            assert_eq!(Pattern::parse(pattern, false).unwrap().matches(text), matches, "{pattern} {text}");
        }
        assert!(Pattern::parse("aB%", true).unwrap().matches("AbC"));
        assert!(!Pattern::parse("É", true).unwrap().matches("é"));
        assert_eq!(Pattern::parse("a\\", false), None);
        let long = Pattern::parse(&"%a".repeat(2_000), false).unwrap();
        assert!(!long.matches(&"a".repeat(1_999)));
    }
}
