//! From a query string to what is asked of a table. Knows nothing of tables: whether a column exists is the store's matter.
//!
//! The grammar is PostgREST's, in an own small reader: recursion only in trees of conditions, bounded there.

mod cursor;
mod filter;
mod order;
mod select;

use nudge_store::query::{Filter, OrderTerm, SelectItem};

use cursor::{Cursor, Unexpected};

/// Longest part of a text that an error repeats.
const SHOWN: usize = 200;

/// Why a query string is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A part cannot be read.
    #[error("\"failed to parse {what} ({text})\" (line 1, column {column})")]
    Syntax {
        /// Which part.
        what: &'static str,
        /// The part, cut off where it is long.
        text: String,
        /// Where.
        column: usize,
        /// What was found there, and what was expected.
        problem: String,
    },
    /// Rows of another table are asked for.
    #[error("Could not find a relationship between the table and '{name}' in the schema cache")]
    Embedding {
        /// The other table.
        name: String,
    },
    /// A condition or order on another table.
    #[error("'{name}' is not an embedded resource in this request")]
    NotEmbedded {
        /// The other table.
        name: String,
    },
    /// An aggregate is asked for.
    #[error("Use of aggregate functions is not allowed")]
    Aggregate,
    /// A negative limit or offset.
    #[error("Requested range not satisfiable")]
    Negative {
        /// `Limit` or `Offset`.
        what: &'static str,
    },
}

impl ParseError {
    fn syntax(what: &'static str, text: &str, unexpected: Unexpected) -> Self {
        let mut shown: String = text.chars().take(SHOWN).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        Self::Syntax { what, text: shown, column: unexpected.column, problem: unexpected.problem }
    }
}

/// What a query string asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// What rows show; nothing means every column.
    pub select: Vec<SelectItem>,
    /// Conditions.
    pub filters: Vec<Filter>,
    /// The order.
    pub order: Vec<OrderTerm>,
    /// Most rows.
    pub limit: Option<u64>,
    /// Rows to leave out.
    pub offset: u64,
}

/// Reads a query string. `columns`, `on_conflict` and `apikey` are ignored; every key that has no meaning of its own is
/// a column.
///
/// # Errors
/// [`ParseError`]: which part cannot be read, and where.
pub fn parse(query: &str) -> Result<Asked, ParseError> {
    let mut asked = Asked::default();
    let mut seen = Vec::new();
    let mut budget = filter::Budget::default();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let (key, value) = (&*key, &*value);
        if let "select" | "order" | "limit" | "offset" = key {
            if seen.iter().any(|known: &String| known == key) {
                let twice = Unexpected { column: 1, problem: format!("{key:?} is given twice") };
                return Err(ParseError::syntax("query", query, twice));
            }
            seen.push(key.to_owned());
        }
        match key {
            "select" => asked.select = select(value)?,
            "order" => asked.order = order(value)?,
            "limit" => asked.limit = Some(number("limit", "Limit", value)?),
            "offset" => asked.offset = number("offset", "Offset", value)?,
            // Those of writes; and a key that came here, which counts for nothing and must not be repeated in an error.
            "columns" | "on_conflict" | "apikey" => {}
            "and" | "or" | "not.and" | "not.or" => {
                let text = format!("{key}{value}");
                let tree = filter::tree(&text, &mut budget);
                asked.filters.push(tree.map_err(|e| ParseError::syntax("logic tree", &text, e))?);
            }
            "" if value.is_empty() => {}
            _ => {
                let field = column(key)?;
                let filter = filter::filter(field, value, &mut budget);
                asked.filters.push(filter.map_err(|e| ParseError::syntax("filter", value, e))?);
            }
        }
    }
    Ok(asked)
}

fn select(text: &str) -> Result<Vec<SelectItem>, ParseError> {
    select::select(text).map_err(|refusal| match refusal {
        select::Refusal::Unexpected(unexpected) => ParseError::syntax("select parameter", text, unexpected),
        select::Refusal::Embedding(name) => ParseError::Embedding { name },
        select::Refusal::Aggregate => ParseError::Aggregate,
    })
}

fn order(text: &str) -> Result<Vec<OrderTerm>, ParseError> {
    order::order(text).map_err(|refusal| match refusal {
        order::Refusal::Unexpected(unexpected) => ParseError::syntax("order", text, unexpected),
        order::Refusal::Embedding(name) => ParseError::NotEmbedded { name },
    })
}

/// Reads the key of a condition: a column and the way into it.
fn column(key: &str) -> Result<nudge_store::query::Field, ParseError> {
    let mut cursor = Cursor::new(key);
    let read = |cursor: &mut Cursor<'_>| {
        let field = cursor.field()?;
        if cursor.is_at_end() {
            return Ok(Ok(field));
        }
        // `table.column=…`
        cursor.expect(".", "\".\" or end of input")?;
        cursor.field().map(|_| Err(field.column))
    };
    match read(&mut cursor) {
        Ok(Ok(field)) => Ok(field),
        Ok(Err(name)) => Err(ParseError::NotEmbedded { name }),
        Err(unexpected) => Err(ParseError::syntax("tree path", key, unexpected)),
    }
}

/// Reads a number of rows; one that is beyond all bounds is the greatest there is.
fn number(what: &'static str, named: &'static str, text: &str) -> Result<u64, ParseError> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        let unexpected = Cursor::new(text).unexpected("a whole number");
        return Err(ParseError::syntax(what, text, unexpected));
    }
    if negative && digits.bytes().any(|b| b != b'0') {
        return Err(ParseError::Negative { what: named });
    }
    Ok(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(query: &str) -> String {
        match parse(query) {
            Ok(asked) => panic!("{query}: {asked:?}"),
            Err(ParseError::Syntax { what, column, .. }) => format!("{what} {column}"),
            Err(other) => other.to_string(),
        }
    }

    #[test]
    fn a_query_as_the_client_sends_it_is_read() {
        let asked = parse(
            "select=user_id%2Ctype%3Aarchetype_type&confidence=gte.0.5&confidence=lt.0.9&or=(user_id.eq.a+b,policy.is.null)\
             &order=updated_at.desc.nullslast,user_id.asc&limit=10&offset=20&columns=x&on_conflict=y&apikey=z&",
        )
        .unwrap();
        assert_eq!((asked.select.len(), asked.filters.len(), asked.order.len()), (2, 3, 2));
        assert_eq!((asked.limit, asked.offset), (Some(10), 20));
        assert!(format!("{:?}", asked.filters).contains("\"a b\""), "a plus is a space");
        assert_eq!(parse("").unwrap(), Asked::default());
        assert_eq!(parse("limit=99999999999999999999").unwrap().limit, Some(u64::MAX));
    }

    #[test]
    fn bad_input_is_refused_with_its_place() {
        let deep = format!("or={}a.eq.1{}", "(or".repeat(20_000), ")".repeat(20_000));
        let wide = format!("or=({})", vec!["a.eq.1"; 10_000].join(","));
        let many = vec!["a=eq.1"; 65].join("&");
        for (query, error) in [
            (deep.as_str(), "logic tree 52"),
            (&wide, "logic tree 452"),
            (&many, "filter 1"),
            ("or=(a.eq.1", "logic tree 10"),
            ("or=(a.eq.1))", "logic tree 11"),
            ("or=", "logic tree 1"),
            ("id=';+drop+table+x;--", "filter 1"),
            ("id", "filter 1"),
            ("id=", "filter 1"),
            ("order=id;drop", "order 3"),
            ("order=", "order 1"),
            (
                "select=pg_sleep(5)",
                "Could not find a relationship between the table and 'pg_sleep' in the schema cache",
            ),
            ("select=count()", "Use of aggregate functions is not allowed"),
            ("select=a;b", "select parameter 2"),
            ("x;drop=eq.1", "tree path 2"),
            ("=eq.1", "tree path 1"),
            ("id--=eq.1", "tree path 4"),
            ("leases.name=eq.x", "'leases' is not an embedded resource in this request"),
            ("leases.order=name", "'leases' is not an embedded resource in this request"),
            ("order=leases(name)", "'leases' is not an embedded resource in this request"),
            ("limit=-1", "Requested range not satisfiable"),
            ("offset=-1", "Requested range not satisfiable"),
            ("limit=ten", "limit 1"),
            ("limit=", "limit 1"),
            ("limit=1.5", "limit 1"),
            ("limit=1&limit=2", "query 1"),
            ("select=a&select=b", "query 1"),
            ("id=eq.1&%00=eq.1", "tree path 1"),
        ] {
            assert_eq!(refused(query), error, "{query:.80}");
        }
    }

    #[test]
    fn an_error_repeats_the_part_and_not_all_of_a_long_one() {
        let error = parse("id=eqq.1").unwrap_err().to_string();
        assert_eq!(error, "\"failed to parse filter (eqq.1)\" (line 1, column 1)");
        let error = parse(&format!("id={}", "x".repeat(10_000))).unwrap_err().to_string();
        assert!(error.len() < 300, "{error}");
    }
}
