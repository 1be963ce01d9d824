//! Arrays of texts as PostgreSQL writes them, `{a,"b c",NULL}`, one dimension only.

use std::cmp::Ordering;

/// An array; an element may be empty.
pub(crate) type TextArray = Vec<Option<String>>;

/// Reads an array literal; `None` when it is none.
pub(crate) fn parse(text: &str) -> Option<TextArray> {
    let inside = text.trim().strip_prefix('{')?;
    let mut elements = TextArray::new();
    if let Some(rest) = inside.trim_start().strip_prefix('}') {
        return rest.is_empty().then_some(elements);
    }
    let mut rest = inside;
    loop {
        let (element, behind) = element(rest.trim_start())?;
        elements.push(element);
        let behind = behind.trim_start();
        if let Some(behind) = behind.strip_prefix('}') {
            return behind.is_empty().then_some(elements);
        }
        rest = behind.strip_prefix(',')?;
    }
}

/// Reads one element and gives what follows it.
fn element(text: &str) -> Option<(Option<String>, &str)> {
    let mut element = String::new();
    // How much of the element is more than blanks at its end.
    let mut kept = 0;
    let quoted = text.starts_with('"');
    let mut chars = text.char_indices().skip(usize::from(quoted));
    let mut escaped = false;
    loop {
        let (at, c) = chars.next()?;
        match c {
            '\\' => {
                element.push(chars.next()?.1);
                kept = element.len();
                escaped = true;
            }
            '"' if quoted => return Some((Some(element), text.get(at + 1..)?)),
            '"' | '{' if !quoted => return None,
            ',' | '}' if !quoted => {
                element.truncate(kept);
                let null = !escaped && element.eq_ignore_ascii_case("null");
                return match (element.is_empty(), null) {
                    (true, _) => None,
                    (_, true) => Some((None, text.get(at..)?)),
                    _ => Some((Some(element), text.get(at..)?)),
                };
            }
            c => {
                element.push(c);
                if !c.is_ascii_whitespace() {
                    kept = element.len();
                }
            }
        }
    }
}

/// Writes an array literal with the quotes that PostgreSQL writes.
pub(crate) fn text(array: &[Option<String>]) -> String {
    let mut out = String::from("{");
    for (i, element) in array.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        let Some(element) = element else {
            out.push_str("NULL");
            continue;
        };
        let special = |c: char| matches!(c, '{' | '}' | ',' | '"' | '\\') || is_blank(c);
        if !element.is_empty() && !element.eq_ignore_ascii_case("null") && !element.contains(special) {
            out.push_str(element);
            continue;
        }
        out.push('"');
        for c in element.chars() {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('"');
    }
    out.push('}');
    out
}

/// PostgreSQL's blanks: those of C's `isspace`.
pub(crate) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

/// Compares element by element by bytes, an empty one after all others; then by length.
pub(crate) fn compare(a: &[Option<String>], b: &[Option<String>]) -> Ordering {
    let order = |(a, b): (&Option<String>, &Option<String>)| match (a, b) {
        (Some(a), Some(b)) => a.cmp(b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    };
    a.iter().zip(b).map(order).find(|o| o.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
}

/// Says whether every element of the other array is in this one (`@>`); an empty one is in none.
pub(crate) fn contains(array: &[Option<String>], other: &[Option<String>]) -> bool {
    other.iter().all(|element| element.is_some() && array.contains(element))
}

/// Says whether both have an element in common (`&&`).
pub(crate) fn overlaps(a: &[Option<String>], b: &[Option<String>]) -> bool {
    a.iter().any(|element| element.is_some() && b.contains(element))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_and_written() {
        for (literal, written) in [
            ("{}", "{}"),
            (" { } ", "{}"),
            ("{a,b}", "{a,b}"),
            ("{ a b , c }", r#"{"a b",c}"#),
            (r#"{"a,b","c\"d","e\\f",""}"#, r#"{"a,b","c\"d","e\\f",""}"#),
            ("{NULL,null,\"NULL\",nul\\l}", r#"{NULL,NULL,"NULL","null"}"#),
            ("{é,\"{}\"}", "{é,\"{}\"}"),
            ("{a\\ }", "{\"a \"}"),
        ] {
            let array = parse(literal).unwrap_or_else(|| panic!("{literal}"));
            assert_eq!(text(&array), written, "{literal}");
            assert_eq!(parse(written), Some(array), "{literal}");
        }
        for literal in [
            "", "a", "{", "}", "{a", "{a,}", "{,a}", "{a}b", "{{a}}", "{a\"b\"}", "{\"a\"b}", "{a\\",
            "[\"a\"]", "{\"a}",
        ] {
            assert_eq!(parse(literal), None, "{literal}");
        }
    }

    #[test]
    fn comparisons_are_those_of_postgresql() {
        let array = |literal| parse(literal).unwrap();
        let ascending = ["{}", "{a}", "{a,b}", "{a,NULL}", "{b}", "{NULL}"];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(compare(&array(a), &array(b)), i.cmp(&j), "{a} {b}");
            }
        }
        for (a, b, holds, meets) in [
            ("{a,b}", "{b,a,a}", true, true),
            ("{a,b}", "{c}", false, false),
            ("{a,b}", "{a,c}", false, true),
            ("{a}", "{}", true, false),
            ("{NULL}", "{NULL}", false, false),
        ] {
            assert_eq!(contains(&array(a), &array(b)), holds, "{a} @> {b}");
            assert_eq!(overlaps(&array(a), &array(b)), meets, "{a} && {b}");
        }
    }
}
