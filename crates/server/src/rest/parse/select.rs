//! `select=a,b:c,d->>e::text`: what each row shows.

use nudge_store::query::SelectItem;

use super::cursor::{Cursor, Unexpected};

/// Most items.
const MAX_ITEMS: usize = 128;

/// Why a list is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It cannot be read.
    Unexpected(Unexpected),
    /// It asks for rows of another table.
    Embedding(String),
    /// It asks for an aggregate.
    Aggregate,
}

impl From<Unexpected> for Refusal {
    fn from(unexpected: Unexpected) -> Self {
        Self::Unexpected(unexpected)
    }
}

/// Reads the list.
pub(super) fn select(text: &str) -> Result<Vec<SelectItem>, Refusal> {
    let mut cursor = Cursor::new(text);
    let mut items = Vec::new();
    if text.trim().is_empty() {
        return Ok(items);
    }
    loop {
        if items.len() == MAX_ITEMS {
            return Err(cursor.problem(format!("more than {MAX_ITEMS} items")).into());
        }
        cursor.spaces();
        items.push(item(&mut cursor)?);
        cursor.spaces();
        if cursor.is_at_end() {
            return Ok(items);
        }
        cursor.expect(",", "\",\" or end of input")?;
    }
}

fn item(cursor: &mut Cursor<'_>) -> Result<SelectItem, Refusal> {
    if cursor.take("*") {
        return Ok(SelectItem::All);
    }
    let spread = cursor.take("...");
    let mut name = cursor.name("field name (* or [a..z0..9_$])")?;
    let mut alias = None;
    if cursor.rest().starts_with(':') && !cursor.rest().starts_with("::") {
        cursor.next();
        cursor.spaces();
        alias = Some(name);
        name = cursor.name("field name (* or [a..z0..9_$])")?;
    }
    if name == "count" && cursor.take("()") {
        return Err(Refusal::Aggregate);
    }
    if spread || matches!(cursor.peek(), Some('(' | '!')) {
        return Err(Refusal::Embedding(name));
    }
    let field = cursor.way(name)?;
    if cursor.take(".") {
        for aggregate in ["avg()", "count()", "max()", "min()", "sum()"] {
            if cursor.take(aggregate) {
                return Err(Refusal::Aggregate);
            }
        }
        return Err(cursor.unexpected("an aggregate").into());
    }
    let cast = if cursor.take("::") { Some(cursor.name("a type")?) } else { None };
    Ok(SelectItem::Field { field, alias, cast })
}

#[cfg(test)]
mod tests {
    use nudge_store::query::{Field, Key, Step};

    use super::*;

    fn field(column: &str, path: Vec<Step>, alias: Option<&str>, cast: Option<&str>) -> SelectItem {
        SelectItem::Field {
            field: Field { column: column.into(), path },
            alias: alias.map(str::to_owned),
            cast: cast.map(str::to_owned),
        }
    }

    fn step(key: Key, as_text: bool) -> Step {
        Step { key, as_text }
    }

    #[test]
    fn lists_are_read() {
        let name = |name: &str| Key::Name(name.into());
        for (text, items) in [
            ("", vec![]),
            (" ", vec![]),
            ("*", vec![SelectItem::All]),
            (
                "a, b:c ,d",
                vec![
                    field("a", vec![], None, None),
                    field("c", vec![], Some("b"), None),
                    field("d", vec![], None, None),
                ],
            ),
            ("*,x:a::text", vec![SelectItem::All, field("a", vec![], Some("x"), Some("text"))]),
            ("a->b->>c", vec![field("a", vec![step(name("b"), false), step(name("c"), true)], None, None)]),
            (
                "a->0->>-1::int",
                vec![field(
                    "a",
                    vec![step(Key::Index(0), false), step(Key::Index(-1), true)],
                    None,
                    Some("int"),
                )],
            ),
            ("a->0b", vec![field("a", vec![step(name("0b"), false)], None, None)]),
            ("a->\"x,y\"", vec![field("a", vec![step(name("x,y"), false)], None, None)]),
            ("\"odd, \\\" name\":\"a b\"", vec![field("a b", vec![], Some("odd, \" name"), None)]),
            ("a-b,c_$1", vec![field("a-b", vec![], None, None), field("c_$1", vec![], None, None)]),
            ("a::double precision", vec![field("a", vec![], None, Some("double precision"))]),
            ("é", vec![field("é", vec![], None, None)]),
        ] {
            assert_eq!(select(text), Ok(items), "{text}");
        }
    }

    #[test]
    fn lists_that_cannot_be_read_say_where() {
        for (text, column) in [
            (",", 1),
            ("a,", 3),
            ("a,,b", 3),
            ("a;b", 2),
            ("pg_sleep(5)x", 0),
            ("a-", 3),
            ("-a", 1),
            ("a--b", 3),
            ("a->", 4),
            ("a->>", 5),
            ("a::", 4),
            ("a::text::int", 8),
            ("a:b:c", 4),
            ("a.b", 3),
            ("*a", 2),
            ("**", 2),
            ("\"a", 3),
            ("a->99999999999", 4),
            ("a'", 2),
            ("a\u{0}", 2),
        ] {
            match select(text) {
                Err(Refusal::Unexpected(unexpected)) => {
                    assert_eq!(unexpected.column, column, "{text}: {unexpected:?}")
                }
                Err(Refusal::Embedding(_)) => assert_eq!(column, 0, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        let Err(Refusal::Unexpected(unexpected)) = select(&"a,".repeat(200)) else { panic!() };
        assert_eq!(unexpected.problem, "more than 128 items");
        let Err(Refusal::Unexpected(unexpected)) = select(&format!("a{}", "->b".repeat(40))) else {
            panic!()
        };
        assert_eq!(unexpected.problem, "more than 32 steps");
    }

    #[test]
    fn embeddings_and_aggregates_are_told_apart() {
        for text in ["leases(*)", "x:leases(id)", "leases!inner(*)", "...leases(id)", "*,leases(name)"] {
            assert_eq!(select(text), Err(Refusal::Embedding("leases".into())), "{text}");
        }
        for text in ["count()", "n:count()", "a.sum()", "total:a->b.avg()", "a.count()"] {
            assert_eq!(select(text), Err(Refusal::Aggregate), "{text}");
        }
    }
}
