//! Conditions: `column=not.eq.value` and `or=(a.gte.0.5,and(b.eq.x,c.is.true))`.
//!
//! The depth of a tree and the number of conditions are limited while reading, so that no text takes the reader far.

use nudge_store::query::{Comparison, Field, Filter, Is, MAX_DEPTH, MAX_TERMS, Quantifier, Test};

use super::cursor::{Cursor, Unexpected};

/// How many more conditions may come.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(MAX_TERMS)
    }
}

impl Budget {
    fn spend(&mut self, cursor: &Cursor<'_>) -> Result<(), Unexpected> {
        self.0 = self
            .0
            .checked_sub(1)
            .ok_or_else(|| cursor.problem(format!("more than {MAX_TERMS} conditions in all")))?;
        Ok(())
    }
}

/// Reads what stands behind `column=`.
pub(super) fn filter(field: Field, text: &str, budget: &mut Budget) -> Result<Filter, Unexpected> {
    let mut cursor = Cursor::new(text);
    budget.spend(&cursor)?;
    let (negated, test) = operation(&mut cursor, false)?;
    if cursor.is_at_end() {
        Ok(Filter::Test { field, negated, test })
    } else {
        Err(cursor.unexpected("end of input"))
    }
}

/// Reads a whole tree: `or(…)`, `not.and(…)`.
pub(super) fn tree(text: &str, budget: &mut Budget) -> Result<Filter, Unexpected> {
    let mut cursor = Cursor::new(text);
    let tree =
        branch(&mut cursor, 1, budget)?.ok_or_else(|| cursor.unexpected("logic operator (and, or)"))?;
    if cursor.is_at_end() { Ok(tree) } else { Err(cursor.unexpected("end of input")) }
}

/// Reads `and(…)` or `or(…)`, if one comes.
fn branch(cursor: &mut Cursor<'_>, depth: usize, budget: &mut Budget) -> Result<Option<Filter>, Unexpected> {
    let mut ahead = cursor.clone();
    let negated = ahead.take("not.");
    let all = ahead.take("and");
    if !all && !ahead.take("or") {
        return Ok(None);
    }
    ahead.spaces();
    if !ahead.take("(") {
        // A column whose name begins like that.
        return Ok(None);
    }
    *cursor = ahead;
    if depth > MAX_DEPTH {
        return Err(cursor.problem(format!("nested more than {MAX_DEPTH} deep")));
    }
    let mut filters = Vec::new();
    loop {
        cursor.spaces();
        filters.push(match branch(cursor, depth + 1, budget)? {
            Some(branch) => branch,
            None => leaf(cursor, budget)?,
        });
        cursor.spaces();
        if cursor.take(")") {
            return Ok(Some(Filter::Tree { negated, all, filters }));
        }
        cursor.expect(",", "\",\" or \")\"")?;
    }
}

/// Reads `column.operator.value`.
fn leaf(cursor: &mut Cursor<'_>, budget: &mut Budget) -> Result<Filter, Unexpected> {
    budget.spend(cursor)?;
    let field = cursor.field()?;
    cursor.expect(".", "delimiter (.)")?;
    let (negated, test) = operation(cursor, true)?;
    Ok(Filter::Test { field, negated, test })
}

/// Reads `not.operator.value`; inside a tree the value ends where the next condition may begin.
fn operation(cursor: &mut Cursor<'_>, inside: bool) -> Result<(bool, Test), Unexpected> {
    const EXPECTING: &str = "\"not\" or operator (eq, gt, ...)";
    let negated = cursor.take("not.");
    let before = cursor.clone();
    let word = cursor.take_while(|c| c.is_ascii_alphabetic());
    let comparison = match word {
        "in" => {
            cursor.expect(".", "delimiter (.)")?;
            return Ok((negated, Test::In(list(cursor)?)));
        }
        "is" => {
            cursor.expect(".", "delimiter (.)")?;
            return Ok((negated, Test::Is(is(cursor)?)));
        }
        "isdistinct" | "cs" | "cd" | "ov" => {
            cursor.expect(".", "delimiter (.)")?;
            let value = value(cursor, inside)?;
            return Ok((
                negated,
                match word {
                    "isdistinct" => Test::DistinctFrom(value),
                    "cs" => Test::Contains(value),
                    "cd" => Test::ContainedBy(value),
                    _ => Test::Overlaps(value),
                },
            ));
        }
        "eq" => Comparison::Equal,
        "neq" => Comparison::NotEqual,
        "gt" => Comparison::Greater,
        "gte" => Comparison::GreaterOrEqual,
        "lt" => Comparison::Less,
        "lte" => Comparison::LessOrEqual,
        "like" => Comparison::Like,
        "ilike" => Comparison::ILike,
        "match" => Comparison::Match,
        "imatch" => Comparison::IMatch,
        _ => return Err(before.unexpected(EXPECTING)),
    };
    let quantifier = if comparison == Comparison::NotEqual || !cursor.take("(") {
        None
    } else if cursor.take("any)") {
        Some(Quantifier::Any)
    } else if cursor.take("all)") {
        Some(Quantifier::All)
    } else {
        return Err(cursor.unexpected("\"any\" or \"all\""));
    };
    cursor.expect(".", "delimiter (.)")?;
    let mut value = value(cursor, inside)?;
    if matches!(comparison, Comparison::Like | Comparison::ILike) {
        value = value.replace('*', "%");
    }
    Ok((negated, Test::Compare(comparison, quantifier, value)))
}

/// Reads a value: all that follows, or inside a tree up to `,` or `)` unless it is quoted or an array.
fn value(cursor: &mut Cursor<'_>, inside: bool) -> Result<String, Unexpected> {
    if !inside {
        return Ok(cursor.take_while(|_| true).to_owned());
    }
    if let Some(value) = quoted_element(cursor) {
        return Ok(value);
    }
    let mut ahead = cursor.clone();
    if ahead.take("{") {
        let elements = ahead.take_while(|c| c != '{' && c != '}');
        if ahead.take("}") {
            *cursor = ahead;
            return Ok(format!("{{{elements}}}"));
        }
    }
    Ok(cursor.take_while(|c| c != ',' && c != ')').to_owned())
}

/// Reads a quoted value that ends where an element may end; anything else is no quoted value.
fn quoted_element(cursor: &mut Cursor<'_>) -> Option<String> {
    let mut ahead = cursor.clone();
    let value = ahead.quoted().ok()?;
    matches!(ahead.peek(), None | Some(',' | ')')).then(|| {
        *cursor = ahead;
        value
    })
}

/// Reads `(a,"b,c")`. One empty element alone is no element.
fn list(cursor: &mut Cursor<'_>) -> Result<Vec<String>, Unexpected> {
    cursor.spaces();
    cursor.expect("(", "\"(\"")?;
    let mut values = Vec::new();
    loop {
        let quoted = quoted_element(cursor);
        let bare = quoted.is_none();
        let value = quoted.unwrap_or_else(|| cursor.take_while(|c| c != ',' && c != ')').to_owned());
        if cursor.take(")") {
            cursor.spaces();
            if !(bare && value.is_empty() && values.is_empty()) {
                values.push(value);
            }
            return Ok(values);
        }
        values.push(value);
        cursor.expect(",", "\",\" or \")\"")?;
    }
}

fn is(cursor: &mut Cursor<'_>) -> Result<Is, Unexpected> {
    let before = cursor.clone();
    let word = cursor.take_while(|c| c.is_ascii_alphabetic() || c == '_');
    Ok(match word.to_ascii_lowercase().as_str() {
        "null" => Is::Null,
        "not_null" => Is::NotNull,
        "true" => Is::True,
        "false" => Is::False,
        "unknown" => Is::Unknown,
        _ => return Err(before.unexpected("null, not_null, true, false or unknown")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(bool, Test), Unexpected> {
        let field = Field { column: "a".into(), path: vec![] };
        match filter(field, text, &mut Budget::default())? {
            Filter::Test { negated, test, .. } => Ok((negated, test)),
            Filter::Tree { .. } => panic!("a tree"),
        }
    }

    fn shown(filter: &Filter) -> String {
        match filter {
            Filter::Test { field, negated, test } => {
                let not = if *negated { "!" } else { "" };
                format!("{not}{}{:?} {test:?}", field.column, field.path.len())
            }
            Filter::Tree { negated, all, filters } => {
                let not = if *negated { "!" } else { "" };
                let word = if *all { "all" } else { "any" };
                format!("{not}{word}[{}]", filters.iter().map(shown).collect::<Vec<_>>().join("; "))
            }
        }
    }

    #[test]
    fn every_operator_is_read() {
        use Comparison as C;
        let compare = |comparison, value: &str| Test::Compare(comparison, None, value.to_owned());
        for (text, test) in [
            ("eq.v", compare(C::Equal, "v")),
            ("eq.", compare(C::Equal, "")),
            ("neq.a.b,c)", compare(C::NotEqual, "a.b,c)")),
            ("gt.1", compare(C::Greater, "1")),
            ("gte.1", compare(C::GreaterOrEqual, "1")),
            ("lt.1", compare(C::Less, "1")),
            ("lte.1", compare(C::LessOrEqual, "1")),
            ("like.*a%_*", compare(C::Like, "%a%_%")),
            ("ilike.A*", compare(C::ILike, "A%")),
            ("match.^a*$", compare(C::Match, "^a*$")),
            ("imatch.a", compare(C::IMatch, "a")),
            ("eq(any).{a,b}", Test::Compare(C::Equal, Some(Quantifier::Any), "{a,b}".into())),
            ("like(all).{a*,*b}", Test::Compare(C::Like, Some(Quantifier::All), "{a%,%b}".into())),
            ("in.(a,b)", Test::In(vec!["a".into(), "b".into()])),
            ("in.(a,\"b,c\",\"d\\\"e\")", Test::In(vec!["a".into(), "b,c".into(), "d\"e".into()])),
            ("in.(\"a\"b,c)", Test::In(vec!["\"a\"b".into(), "c".into()])),
            ("in.()", Test::In(vec![])),
            ("in.(\"\")", Test::In(vec![String::new()])),
            ("in.(,)", Test::In(vec![String::new(), String::new()])),
            ("is.null", Test::Is(Is::Null)),
            ("is.NOT_NULL", Test::Is(Is::NotNull)),
            ("is.true", Test::Is(Is::True)),
            ("is.false", Test::Is(Is::False)),
            ("is.unknown", Test::Is(Is::Unknown)),
            ("isdistinct.v", Test::DistinctFrom("v".into())),
            ("cs.{a,b}", Test::Contains("{a,b}".into())),
            ("cs.{\"a\":{\"b\":1}}", Test::Contains("{\"a\":{\"b\":1}}".into())),
            ("cd.{a}", Test::ContainedBy("{a}".into())),
            ("ov.{a}", Test::Overlaps("{a}".into())),
        ] {
            assert_eq!(read(text), Ok((false, test.clone())), "{text}");
            assert_eq!(read(&format!("not.{text}")), Ok((true, test)), "{text}");
        }
    }

    #[test]
    fn what_is_no_condition_says_where() {
        for (text, column) in [
            ("", 1),
            ("x", 1),
            ("eqq.1", 1),
            ("EQ.1", 1),
            ("eq", 3),
            ("eq1", 3),
            ("not.", 5),
            ("not.not.eq.1", 5),
            ("in.a", 4),
            ("in.(a", 6),
            ("in.(a)b", 7),
            ("is.nul", 4),
            ("is.nullx", 4),
            ("is.null.x", 8),
            ("neq(any).{a}", 4),
            ("eq(some).{a}", 4),
            ("fts.a", 1),
            ("sl.(1,2)", 1),
            ("'; drop table x;--", 1),
        ] {
            assert_eq!(read(text).map_err(|unexpected| unexpected.column), Err(column), "{text}");
        }
    }

    #[test]
    fn trees_are_read() {
        let read = |text: &str| shown(&tree(text, &mut Budget::default()).unwrap());
        assert_eq!(
            read("or(a.gte.0.5,and(b.eq.x,c.is.true))"),
            "any[a0 Compare(GreaterOrEqual, None, \"0.5\"); all[b0 Compare(Equal, None, \"x\"); c0 Is(True)]]"
        );
        assert_eq!(
            read("not.or( a.not.eq.1 , b.in.(x,y) )"),
            "!any[!a0 Compare(Equal, None, \"1 \"); b0 In([\"x\", \"y\"])]"
        );
        assert_eq!(
            read("and(a.cs.{x,y},b.eq.\"(x,y)\",c->>d.like.*z,not.and(e.is.null))"),
            "all[a0 Contains(\"{x,y}\"); b0 Compare(Equal, None, \"(x,y)\"); c1 Compare(Like, None, \"%z\"); !all[e0 Is(Null)]]"
        );
        assert_eq!(
            read("or(order.eq.1,and_x.eq.2,not.and(x.eq.\"a\"b))"),
            "any[order0 Compare(Equal, None, \"1\"); and_x0 Compare(Equal, None, \"2\"); !all[x0 Compare(Equal, None, \"\\\"a\\\"b\")]]"
        );
        assert_eq!(read("or(a.eq.)"), "any[a0 Compare(Equal, None, \"\")]");
    }

    #[test]
    fn what_is_no_tree_says_where() {
        for (text, column) in [
            ("", 1),
            ("or", 1),
            ("or(", 4),
            ("or()", 4),
            ("or(a.eq.1", 10),
            ("or(a.eq.1))", 11),
            ("or(a.eq.1,)", 11),
            ("or(a)", 5),
            ("or(a.)", 6),
            ("or(a.eq)", 8),
            ("xor(a.eq.1)", 1),
            ("or(a.eq.1),b", 11),
            ("or(a.eq.{x}y)", 12),
            ("or(leases.name.eq.x)", 11),
        ] {
            assert_eq!(tree(text, &mut Budget::default()).map_err(|e| e.column), Err(column), "{text}");
        }
    }

    #[test]
    fn depth_and_number_of_conditions_are_limited() {
        let nested = |depth: usize| format!("{}a.eq.1{}", "or(".repeat(depth), ")".repeat(depth));
        assert!(tree(&nested(MAX_DEPTH), &mut Budget::default()).is_ok());
        for depth in [MAX_DEPTH + 1, 20_000] {
            let unexpected = tree(&nested(depth), &mut Budget::default()).unwrap_err();
            assert_eq!(unexpected.problem, "nested more than 16 deep");
        }
        let wide = |terms: usize| format!("or({})", vec!["a.eq.1"; terms].join(","));
        assert!(tree(&wide(MAX_TERMS), &mut Budget::default()).is_ok());
        for terms in [MAX_TERMS + 1, 10_000] {
            let unexpected = tree(&wide(terms), &mut Budget::default()).unwrap_err();
            assert_eq!(unexpected.problem, "more than 64 conditions in all");
        }
    }
}
