//! Takes SQL text apart into statements, as the Supabase CLI does: both write what they ran into the same history.

/// Where in the text a scan is.
enum Within {
    Statement,
    /// Until the end of the line.
    Line,
    /// As deep as comments are nested.
    Block(usize),
    /// Until this character; a doubled one goes on. With `escapes`, a backslash takes the next character along.
    Quote {
        end: char,
        escapes: bool,
    },
    /// Until this tag, dollars included.
    Dollar(String),
}

/// Splits a text at the semicolons between statements. Each keeps the comments before it; the semicolon and white space
/// around go, and what holds nothing but comments is left out.
pub fn statements(sql: &str) -> Vec<&str> {
    let mut statements = Vec::new();
    let mut within = Within::Statement;
    // The start of the statement, and whether it says anything yet.
    let (mut begin, mut says) = (0, false);
    // Depth of BEGIN ATOMIC … END and the CASE … END within, as PostgreSQL itself counts them.
    let mut atomic = 0_usize;
    let mut word = String::new();
    let mut before = String::new();
    let mut chars = sql.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        match &mut within {
            Within::Line => {
                if c == '\n' {
                    within = Within::Statement;
                }
            }
            Within::Block(depth) => match (c, next) {
                ('/', Some('*')) => {
                    *depth += 1;
                    chars.next();
                }
                ('*', Some('/')) => {
                    chars.next();
                    *depth -= 1;
                    if *depth == 0 {
                        within = Within::Statement;
                    }
                }
                _ => {}
            },
            Within::Quote { end, escapes } => {
                if c == *end && next == Some(*end) || *escapes && c == '\\' {
                    chars.next();
                } else if c == *end {
                    within = Within::Statement;
                }
            }
            Within::Dollar(tag) => {
                if c == '$' && sql[at..].starts_with(tag.as_str()) {
                    for _ in 1..tag.len() {
                        chars.next();
                    }
                    within = Within::Statement;
                }
            }
            Within::Statement => {
                let in_word = c.is_alphanumeric() || c == '_' || (c == '$' && !word.is_empty());
                if in_word {
                    word.extend(c.to_lowercase());
                    says = true;
                    continue;
                }
                let ended = std::mem::take(&mut word);
                if !ended.is_empty() {
                    match (before.as_str(), ended.as_str()) {
                        ("begin", "atomic") => atomic = 1,
                        (_, "case") if atomic > 0 => atomic += 1,
                        (_, "end") if atomic > 0 => atomic -= 1,
                        _ => {}
                    }
                }
                match (c, next) {
                    ('-', Some('-')) => within = Within::Line,
                    ('/', Some('*')) => {
                        chars.next();
                        within = Within::Block(1);
                    }
                    ('\'' | '"', _) => {
                        within = Within::Quote { end: c, escapes: c == '\'' && ended == "e" };
                        says = true;
                    }
                    ('$', _) => {
                        says = true;
                        if let Some(tag) = dollar_tag(&sql[at..]) {
                            for _ in 1..tag.len() {
                                chars.next();
                            }
                            within = Within::Dollar(tag.to_owned());
                        }
                    }
                    (';', _) if atomic == 0 => {
                        if says {
                            statements.push(sql[begin..at].trim());
                        }
                        (begin, says) = (at + 1, false);
                    }
                    _ => says |= !c.is_whitespace(),
                }
                if !ended.is_empty() {
                    before = ended;
                }
            }
        }
    }
    if says {
        statements.push(sql[begin..].trim());
    }
    statements
}

/// Gives `$tag$` at the start of a text; a `$1` is none.
fn dollar_tag(text: &str) -> Option<&str> {
    let name = text[1..].split('$').next()?;
    let fits = name.chars().all(|c| c.is_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && text[1 + name.len()..].starts_with('$');
    fits.then(|| &text[..name.len() + 2])
}

#[cfg(test)]
mod tests {
    use super::statements;

    #[test]
    fn semicolons_split_but_for_those_in_texts_names_comments_and_bodies() {
        for (sql, expected) in [
            ("", vec![]),
            (" ;; -- nothing\n;/* nothing */", vec![]),
            ("SELECT 1; SELECT 2", vec!["SELECT 1", "SELECT 2"]),
            ("SELECT ';' ; SELECT 'it''s;'", vec!["SELECT ';'", "SELECT 'it''s;'"]),
            (r"SELECT E'\';'; SELECT 'a\'; SELECT 2", vec![r"SELECT E'\';'", r"SELECT 'a\'", "SELECT 2"]),
            (r#"SELECT "a;""b;"; SELECT 2"#, vec![r#"SELECT "a;""b;""#, "SELECT 2"]),
            (
                "-- why; how\nSELECT 1; -- done;\nSELECT 2",
                vec!["-- why; how\nSELECT 1", "-- done;\nSELECT 2"],
            ),
            ("/* a; /* b; */ c; */ SELECT 1;", vec!["/* a; /* b; */ c; */ SELECT 1"]),
            ("DO $$ BEGIN x; END $$; SELECT 2", vec!["DO $$ BEGIN x; END $$", "SELECT 2"]),
            ("DO $a$ $$;$b$ $a$; SELECT $1; x", vec!["DO $a$ $$;$b$ $a$", "SELECT $1", "x"]),
            ("SELECT a$b; SELECT c$d$; x", vec!["SELECT a$b", "SELECT c$d$", "x"]),
            (
                "CREATE FUNCTION f() BEGIN ATOMIC SELECT CASE WHEN 1 THEN 2 END; SELECT 2; END; SELECT 3",
                vec![
                    "CREATE FUNCTION f() BEGIN ATOMIC SELECT CASE WHEN 1 THEN 2 END; SELECT 2; END",
                    "SELECT 3",
                ],
            ),
            ("SELECT 'ü;→' ; SELECT 2", vec!["SELECT 'ü;→'", "SELECT 2"]),
            ("SELECT 'open; SELECT 2", vec!["SELECT 'open; SELECT 2"]),
        ] {
            assert_eq!(statements(sql), expected, "{sql}");
        }
    }
}
