//! `order=a.desc.nullslast,b->c.asc`.

use nudge_store::query::OrderTerm;

use super::cursor::{Cursor, Unexpected};

/// Most terms.
const MAX_TERMS: usize = 32;

/// Why an order is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It cannot be read.
    Unexpected(Unexpected),
    /// It is by a column of another table.
    Embedding(String),
}

impl From<Unexpected> for Refusal {
    fn from(unexpected: Unexpected) -> Self {
        Self::Unexpected(unexpected)
    }
}

/// Reads an order.
pub(super) fn order(text: &str) -> Result<Vec<OrderTerm>, Refusal> {
    let mut cursor = Cursor::new(text);
    let mut terms = Vec::new();
    loop {
        if terms.len() == MAX_TERMS {
            return Err(cursor.problem(format!("more than {MAX_TERMS} terms")).into());
        }
        cursor.spaces();
        terms.push(term(&mut cursor)?);
        cursor.spaces();
        if cursor.is_at_end() {
            return Ok(terms);
        }
        cursor.expect(",", "\",\" or end of input")?;
    }
}

fn term(cursor: &mut Cursor<'_>) -> Result<OrderTerm, Refusal> {
    let name = cursor.name("field name (* or [a..z0..9_$])")?;
    if cursor.peek() == Some('(') {
        return Err(Refusal::Embedding(name));
    }
    let field = cursor.way(name)?;
    let mut descending = None;
    let mut nulls_first = None;
    while cursor.take(".") {
        let word = cursor.take_while(|c| c.is_ascii_alphabetic());
        match word {
            "asc" | "desc" if descending.is_none() && nulls_first.is_none() => {
                descending = Some(word == "desc");
            }
            "nullsfirst" | "nullslast" if nulls_first.is_none() => nulls_first = Some(word == "nullsfirst"),
            _ => return Err(cursor.problem(not_a_direction(word)).into()),
        }
    }
    Ok(OrderTerm { field, descending: descending.unwrap_or_default(), nulls_first })
}

fn not_a_direction(word: &str) -> String {
    format!("unexpected {word:?} expecting \"asc\", \"desc\", \"nullsfirst\" or \"nullslast\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read() {
        let read = |text: &str| {
            let terms = order(text).unwrap();
            let shown = terms.iter().map(|term| {
                format!(
                    "{}{} {} {:?}",
                    term.field.column,
                    term.field.path.len(),
                    term.descending,
                    term.nulls_first
                )
            });
            shown.collect::<Vec<_>>().join("; ")
        };
        assert_eq!(read("a"), "a0 false None");
        assert_eq!(read("a.desc.nullslast, b.asc"), "a0 true Some(false); b0 false None");
        assert_eq!(
            read("a.nullsfirst,b->0.desc,\"c d\"->>e"),
            "a0 false Some(true); b1 true None; c d1 false None"
        );
    }

    #[test]
    fn what_is_no_order_says_where() {
        for (text, column) in [
            ("", 1),
            ("a,", 3),
            ("id;drop", 3),
            ("a.up", 5),
            ("a.desc.desc", 12),
            ("a.nullsfirst.desc", 18),
            ("a.", 3),
            ("a desc,", 8),
            (".desc", 1),
        ] {
            let Err(Refusal::Unexpected(unexpected)) = order(text) else { panic!("{text}") };
            assert_eq!(unexpected.column, column, "{text}: {unexpected:?}");
        }
        assert_eq!(order("leases(name).desc"), Err(Refusal::Embedding("leases".into())));
    }
}
