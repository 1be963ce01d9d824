//! Resolves a read against the catalogue: every name becomes a constant, every value gets its type, and what PostgreSQL
//! would refuse is refused, before an engine is asked.
//!
//! Where next: `sqlite/query.rs` and `postgres/query.rs` make statements of a plan.

use super::array::{self, TextArray};
use super::cast::CastType;
use super::operand::Operand;
use super::pattern::Pattern;
use super::{
    Comparison, Count, Field, Filter, Is, Key, MAX_ROWS, OrderTerm, Quantifier, ReadError, ReadQuery,
    SelectItem, Shape, Step, Test,
};
use crate::catalog::{self, Column, ColumnType, Table};

/// Most elements of an array that a comparison with `any` or `all` takes.
const MAX_QUANTIFIED: usize = 64;

/// A resolved read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) table: &'static Table,
    pub(crate) outputs: Vec<Output>,
    pub(crate) condition: Condition,
    pub(crate) order: Vec<Sort>,
    pub(crate) limit: u64,
    pub(crate) offset: u64,
    pub(crate) count: Option<Count>,
    pub(crate) shape: Shape,
}

/// One value of each row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Output {
    pub(crate) name: String,
    pub(crate) expression: Expression,
    pub(crate) cast: Option<CastType>,
}

/// A column, or something inside one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expression {
    pub(crate) column: &'static Column,
    pub(crate) path: Vec<Step>,
}

impl Expression {
    /// Gives the type of the value.
    pub(crate) fn value_type(&self) -> ColumnType {
        match self.path.last() {
            None => self.column.column_type,
            Some(step) if step.as_text => ColumnType::Text,
            Some(_) => ColumnType::Json,
        }
    }
}

/// A condition; it holds, does not hold, or is unknown, as in SQL.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    /// All of these, true if there are none.
    All(Vec<Condition>),
    /// One of these, false if there are none.
    Any(Vec<Condition>),
    /// Not this.
    Not(Box<Condition>),
    /// Neither true nor false.
    Unknown,
    /// A comparison.
    Compare(Expression, Order, Operand),
    /// Equal to one of several.
    In(Expression, Vec<Operand>),
    /// Different, where an empty value differs from every other.
    Distinct(Expression, Operand),
    /// Empty.
    IsNull(Expression),
    /// A truth value, and neither the other nor empty.
    IsTruth(Expression, bool),
    /// A `LIKE` pattern; with `fold` without regard to case.
    Like { expression: Expression, pattern: String, fold: bool },
    /// A regular expression; with `fold` without regard to case.
    Match { expression: Expression, pattern: String, fold: bool },
    /// `@>`
    Contains(Expression, Operand),
    /// `<@`
    ContainedBy(Expression, Operand),
    /// `&&`
    Overlaps(Expression, TextArray),
}

/// An order operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Order {
    /// Gives the operator in SQL.
    pub(crate) const fn sql(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "<>",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
        }
    }
}

/// A term of an order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sort {
    pub(crate) expression: Expression,
    pub(crate) descending: bool,
    pub(crate) nulls_first: bool,
}

impl Plan {
    /// Resolves a read.
    ///
    /// # Errors
    /// What PostgreSQL would say of it.
    pub(crate) fn of(query: &ReadQuery) -> Result<Self, ReadError> {
        let table = catalog::table(&query.table).ok_or_else(|| ReadError::unknown_table(&query.table))?;
        let resolver = Resolver { table };
        Ok(Self {
            table,
            outputs: resolver.outputs(&query.select)?,
            condition: Condition::All(resolver.conditions(&query.filters)?),
            order: resolver.order(&query.order)?,
            limit: query.limit.unwrap_or(MAX_ROWS).min(MAX_ROWS),
            offset: query.offset,
            count: query.count,
            shape: query.shape,
        })
    }
}

/// Knows the table that names are looked up in.
struct Resolver {
    table: &'static Table,
}

impl Resolver {
    fn column(&self, name: &str) -> Result<&'static Column, ReadError> {
        self.table.column(name).ok_or_else(|| ReadError::UnknownColumn {
            table: self.table.name,
            column: name.chars().take(64).collect(),
        })
    }

    fn expression(&self, field: &Field) -> Result<Expression, ReadError> {
        let column = self.column(&field.column)?;
        let mut left = column.column_type;
        for step in &field.path {
            let operator = if step.as_text { "->>" } else { "->" };
            let right = match step.key {
                Key::Name(_) => "unknown",
                Key::Index(_) => "integer",
            };
            if !matches!(left, ColumnType::Json | ColumnType::TextArray) {
                return Err(ReadError::NoOperator { left: left.name(), operator, right });
            }
            if matches!(&step.key, Key::Name(name) if name.contains('\0')) {
                return Err(ReadError::NulCharacter);
            }
            left = if step.as_text { ColumnType::Text } else { ColumnType::Json };
        }
        Ok(Expression { column, path: field.path.clone() })
    }

    fn outputs(&self, select: &[SelectItem]) -> Result<Vec<Output>, ReadError> {
        let every = [SelectItem::All];
        let select = if select.is_empty() { &every } else { select };
        let mut outputs = Vec::new();
        for item in select {
            match item {
                SelectItem::All => outputs.extend(self.table.columns.iter().map(|column| Output {
                    name: column.name.to_owned(),
                    expression: Expression { column, path: Vec::new() },
                    cast: None,
                })),
                SelectItem::Field { field, alias, cast } => {
                    let expression = self.expression(field)?;
                    let cast = cast.as_deref().map(|name| cast_type(name, &expression)).transpose()?;
                    let name = alias.clone().unwrap_or_else(|| own_name(field));
                    if name.contains('\0') {
                        return Err(ReadError::NulCharacter);
                    }
                    outputs.push(Output { name, expression, cast });
                }
            }
        }
        Ok(outputs)
    }

    fn conditions(&self, filters: &[Filter]) -> Result<Vec<Condition>, ReadError> {
        filters.iter().map(|filter| self.condition(filter)).collect()
    }

    fn condition(&self, filter: &Filter) -> Result<Condition, ReadError> {
        let (negated, condition) = match filter {
            Filter::Tree { negated, all, filters } => {
                let conditions = self.conditions(filters)?;
                (*negated, if *all { Condition::All(conditions) } else { Condition::Any(conditions) })
            }
            Filter::Test { field, negated, test } => (*negated, condition(self.expression(field)?, test)?),
        };
        Ok(if negated { Condition::Not(Box::new(condition)) } else { condition })
    }

    /// Resolves the order and adds the key, so that pages neither overlap nor leave rows out.
    fn order(&self, terms: &[OrderTerm]) -> Result<Vec<Sort>, ReadError> {
        let mut order = Vec::with_capacity(terms.len() + self.table.key.len());
        for term in terms {
            order.push(Sort {
                expression: self.expression(&term.field)?,
                descending: term.descending,
                nulls_first: term.nulls_first.unwrap_or(term.descending),
            });
        }
        for name in self.table.key {
            let expression = Expression { column: self.column(name)?, path: Vec::new() };
            if !order.iter().any(|sort| sort.expression == expression) {
                order.push(Sort { expression, descending: false, nulls_first: false });
            }
        }
        Ok(order)
    }
}

/// Names a field in the answer: by the last key of its way, else by its column.
fn own_name(field: &Field) -> String {
    let key = field.path.iter().rev().find_map(|step| match &step.key {
        Key::Name(name) => Some(name),
        Key::Index(_) => None,
    });
    key.unwrap_or(&field.column).clone()
}

fn cast_type(name: &str, expression: &Expression) -> Result<CastType, ReadError> {
    let to = CastType::named(name)
        .ok_or_else(|| ReadError::UnknownType { name: name.chars().take(64).collect() })?;
    to.from(expression.value_type())?;
    Ok(to)
}

fn condition(expression: Expression, test: &Test) -> Result<Condition, ReadError> {
    let value_type = expression.value_type();
    let no_operator = |operator, right| ReadError::NoOperator { left: value_type.name(), operator, right };
    Ok(match test {
        Test::Compare(comparison, None, value) => compare(&expression, *comparison, value)?,
        Test::Compare(comparison, Some(quantifier), value) => {
            quantified(&expression, *comparison, *quantifier, value)?
        }
        Test::In(_) if value_type == ColumnType::TextArray => return Err(no_operator("=", "text")),
        Test::In(values) => {
            let values = values.iter().map(|value| Operand::parse(value, value_type));
            Condition::In(expression, values.collect::<Result<_, _>>()?)
        }
        Test::Is(is) => is_condition(expression, *is)?,
        Test::DistinctFrom(value) => {
            let value = Operand::parse(value, value_type)?;
            Condition::Distinct(expression, value)
        }
        Test::Contains(value) | Test::ContainedBy(value) => {
            let contains = matches!(test, Test::Contains(_));
            if !matches!(value_type, ColumnType::Json | ColumnType::TextArray) {
                return Err(no_operator(if contains { "@>" } else { "<@" }, "unknown"));
            }
            let value = Operand::parse(value, value_type)?;
            if contains {
                Condition::Contains(expression, value)
            } else {
                Condition::ContainedBy(expression, value)
            }
        }
        Test::Overlaps(value) => match (value_type, Operand::parse(value, ColumnType::TextArray)) {
            (ColumnType::TextArray, Ok(Operand::TextArray(array))) => Condition::Overlaps(expression, array),
            (ColumnType::TextArray, Err(error)) => return Err(error),
            _ => return Err(no_operator("&&", "unknown")),
        },
    })
}

fn is_condition(expression: Expression, is: Is) -> Result<Condition, ReadError> {
    let word = match is {
        Is::Null => return Ok(Condition::IsNull(expression)),
        Is::NotNull => return Ok(Condition::Not(Box::new(Condition::IsNull(expression)))),
        Is::True => "TRUE",
        Is::False => "FALSE",
        Is::Unknown => "UNKNOWN",
    };
    let type_name = match expression.value_type() {
        ColumnType::Boolean => {
            return Ok(match is {
                Is::True => Condition::IsTruth(expression, true),
                Is::False => Condition::IsTruth(expression, false),
                _ => Condition::IsNull(expression),
            });
        }
        other => other.name(),
    };
    Err(ReadError::NotBoolean { word, type_name })
}

/// Resolves a comparison with one value.
fn compare(expression: &Expression, comparison: Comparison, value: &str) -> Result<Condition, ReadError> {
    let value_type = expression.value_type();
    let order = |order| {
        let value = Operand::parse(value, value_type)?;
        Ok(Condition::Compare(expression.clone(), order, value))
    };
    let pattern = |operator: &'static str| {
        if value_type != ColumnType::Text {
            return Err(ReadError::NoOperator { left: value_type.name(), operator, right: "unknown" });
        }
        if value.contains('\0') {
            Err(ReadError::NulCharacter)
        } else {
            Ok((expression.clone(), value.to_owned()))
        }
    };
    let like = |operator, fold| {
        let (expression, pattern) = pattern(operator)?;
        Pattern::parse(&pattern, fold).ok_or(ReadError::UnfinishedEscape)?;
        Ok(Condition::Like { expression, pattern, fold })
    };
    let matches = |operator, fold| {
        let (expression, pattern) = pattern(operator)?;
        Ok(Condition::Match { expression, pattern, fold })
    };
    match comparison {
        Comparison::Equal => order(Order::Equal),
        Comparison::NotEqual => order(Order::NotEqual),
        Comparison::Greater => order(Order::Greater),
        Comparison::GreaterOrEqual => order(Order::GreaterOrEqual),
        Comparison::Less => order(Order::Less),
        Comparison::LessOrEqual => order(Order::LessOrEqual),
        Comparison::Like => like("~~", false),
        Comparison::ILike => like("~~*", true),
        Comparison::Match => matches("~", false),
        Comparison::IMatch => matches("~*", true),
    }
}

/// Resolves a comparison with the elements of an array; one that is empty makes the comparison with it unknown.
fn quantified(
    expression: &Expression,
    comparison: Comparison,
    quantifier: Quantifier,
    literal: &str,
) -> Result<Condition, ReadError> {
    let malformed = || ReadError::MalformedArray { text: literal.to_owned() };
    let elements = array::parse(literal).ok_or_else(malformed)?;
    if elements.len() > MAX_QUANTIFIED {
        return Err(ReadError::Data {
            sqlstate: "54000".to_owned(),
            message: format!("an array may have at most {MAX_QUANTIFIED} elements here"),
        });
    }
    let conditions = elements.iter().map(|element| match element {
        Some(value) => compare(expression, comparison, value),
        // The operator must exist all the same.
        None => Ok(Condition::Unknown),
    });
    let conditions = conditions.collect::<Result<_, _>>()?;
    Ok(match quantifier {
        Quantifier::Any => Condition::Any(conditions),
        Quantifier::All => Condition::All(conditions),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(column: &str, path: &[(&str, bool)]) -> Field {
        let step = |(key, as_text): &(&str, bool)| Step {
            key: key.parse().map_or_else(|_| Key::Name((*key).to_owned()), Key::Index),
            as_text: *as_text,
        };
        Field { column: column.to_owned(), path: path.iter().map(step).collect() }
    }

    fn refused(field: Field, test: Test) -> String {
        let query = ReadQuery {
            table: "user_archetypes".into(),
            filters: vec![Filter::Test { field, negated: false, test }],
            ..ReadQuery::default()
        };
        match Plan::of(&query) {
            Ok(plan) => panic!("{plan:?}"),
            Err(error) => format!("{} {error}", error.sqlstate().unwrap_or_default()),
        }
    }

    #[test]
    fn what_postgresql_refuses_is_refused_in_its_words() {
        use Comparison as C;
        let compare = |comparison, value: &str| Test::Compare(comparison, None, value.to_owned());
        for (field, test, error) in [
            (field("nope", &[]), compare(C::Equal, "x"), "42703 column user_archetypes.nope does not exist"),
            (
                field("confidence", &[]),
                compare(C::Like, "x"),
                "42883 operator does not exist: numeric ~~ unknown",
            ),
            (
                field("signals", &[]),
                compare(C::IMatch, "x"),
                "42883 operator does not exist: jsonb ~* unknown",
            ),
            (
                field("user_id", &[]),
                Test::Contains("{a}".into()),
                "42883 operator does not exist: text @> unknown",
            ),
            (
                field("signals", &[]),
                Test::Overlaps("{a}".into()),
                "42883 operator does not exist: jsonb && unknown",
            ),
            (
                field("user_id", &[]),
                Test::Overlaps("x".into()),
                "42883 operator does not exist: text && unknown",
            ),
            (
                field("reasoning", &[]),
                Test::In(vec!["a".into()]),
                "42883 operator does not exist: text[] = text",
            ),
            (
                field("user_id", &[("a", false)]),
                compare(C::Equal, "x"),
                "42883 operator does not exist: text -> unknown",
            ),
            (
                field("signals", &[("a", true), ("0", false)]),
                compare(C::Equal, "x"),
                "42883 operator does not exist: text -> integer",
            ),
            (
                field("user_id", &[]),
                Test::Is(Is::True),
                "42804 argument of IS TRUE must be type boolean, not type text",
            ),
            (
                field("user_id", &[]),
                compare(C::Like, "a\\"),
                "22025 LIKE pattern must not end with escape character",
            ),
            (
                field("confidence", &[]),
                Test::DistinctFrom("null".into()),
                "22P02 invalid input syntax for type numeric: \"null\"",
            ),
            (
                field("signals", &[("a", false)]),
                compare(C::Equal, "x"),
                "22P02 invalid input syntax for type json",
            ),
        ] {
            assert_eq!(refused(field, test), error);
        }
    }

    #[test]
    fn rows_show_every_column_unless_told_otherwise_and_come_in_the_order_of_the_key() {
        let query = ReadQuery { table: "lease_members".into(), ..ReadQuery::default() };
        let plan = Plan::of(&query).unwrap();
        assert_eq!(plan.outputs.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["lease_id", "user_id"]);
        assert_eq!((plan.limit, plan.offset), (MAX_ROWS, 0));
        let order = |order: Vec<OrderTerm>| {
            let query = ReadQuery { table: "lease_members".into(), order, ..ReadQuery::default() };
            let sorts = Plan::of(&query).unwrap().order;
            sorts
                .iter()
                .map(|s| format!("{} {} {}", s.expression.column.name, s.descending, s.nulls_first))
                .collect::<Vec<_>>()
        };
        assert_eq!(order(vec![]), ["lease_id false false", "user_id false false"]);
        let newest = OrderTerm { field: field("user_id", &[]), descending: true, nulls_first: None };
        assert_eq!(order(vec![newest]), ["user_id true true", "lease_id false false"]);
    }

    #[test]
    fn a_way_into_json_is_named_by_its_last_key() {
        for (path, name) in [
            (vec![], "signals"),
            (vec![("a", false), ("b", true)], "b"),
            (vec![("a", false), ("0", true)], "a"),
            (vec![("0", true)], "signals"),
        ] {
            assert_eq!(own_name(&field("signals", &path)), name);
        }
    }
}
