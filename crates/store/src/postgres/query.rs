//! Makes SQL of a plan. The text is put together from constants of this file and names of the catalogue; everything that a
//! caller sent is a bind parameter of type text, cast to the type of what it is compared with.

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::convert::get;
use crate::catalog::ColumnType;
use crate::error::StoreError;
use crate::query::array;
use crate::query::cast::CastType;
use crate::query::json::Json;
use crate::query::operand::Operand;
use crate::query::output::Writer;
use crate::query::plan::{Condition, Expression, Output, Plan, Sort};
use crate::query::{Key, ReadAnswer, ReadError};

/// A value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(Option<String>),
    Texts(Vec<String>),
    Number(i64),
}

/// A statement in the making.
#[derive(Debug, Clone, Default)]
pub(super) struct Sql {
    pub(super) text: String,
    pub(super) values: Vec<Value>,
}

/// What a value is printed as, once PostgreSQL has made a text of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Printed {
    /// Between quotes.
    Quoted,
    /// As it is: a number, a truth value, an array, a time.
    Bare,
    /// As it is; may hold nulls to be taken out.
    Json,
}

/// Reads the type that an output has in the end.
fn printed(output: &Output) -> Printed {
    match output.cast {
        None => match output.expression.value_type() {
            ColumnType::Text | ColumnType::Uuid | ColumnType::Date => Printed::Quoted,
            ColumnType::Json => Printed::Json,
            _ => Printed::Bare,
        },
        Some(CastType::Text | CastType::Date) => Printed::Quoted,
        Some(CastType::Json | CastType::Jsonb) => Printed::Json,
        Some(_) => Printed::Bare,
    }
}

/// Says whether an output is a time or an array, which JSON writes otherwise than text.
fn has_json_form(output: &Output) -> bool {
    match output.cast {
        None => matches!(output.expression.value_type(), ColumnType::Timestamp | ColumnType::TextArray),
        Some(cast) => cast == CastType::Timestamp,
    }
}

fn is_truth(output: &Output) -> bool {
    match output.cast {
        None => output.expression.value_type() == ColumnType::Boolean,
        Some(cast) => cast == CastType::Boolean,
    }
}

/// Prints the rows of a statement that [`Sql::select`] made.
///
/// # Errors
/// [`ReadError::Data`] when the answer grows too large.
pub(super) fn print(plan: &Plan, rows: &[Row]) -> Result<ReadAnswer, ReadError> {
    let mut writer = Writer::new(plan.shape, plan.outputs.iter().map(|output| output.name.as_str()));
    let text_wanted = writer.wants_text();
    let kinds: Vec<_> = plan.outputs.iter().map(|output| (printed(output), is_truth(output))).collect();
    for row in rows {
        writer.begin_row();
        for (place, (kind, is_truth)) in kinds.iter().enumerate() {
            let value: Option<&str> = get(row, place, plan.table.name)?;
            match (value, kind) {
                (None, _) => writer.printed(None),
                // The text form of a row has one letter where a cast has the word.
                (Some(word), _) if text_wanted && *is_truth => writer.printed(word.get(..1)),
                (Some(text), _) if text_wanted => writer.printed(Some(text)),
                (Some(text), Printed::Quoted) => writer.quoted(text),
                (Some(text), Printed::Json) if writer.strips() => {
                    let json = Json::parse(text).ok_or_else(|| StoreError::Inconsistent {
                        table: plan.table.name,
                        detail: "a value that is no jsonb".into(),
                    })?;
                    writer.printed(Some(&json.strip_nulls().to_string()));
                }
                (Some(text), Printed::Json | Printed::Bare) => writer.printed(Some(text)),
            }
        }
        writer.end_row()?;
    }
    Ok(writer.finish(None))
}

/// The name of a type in a cast, which no search path has a say in.
const fn sql_type(column_type: ColumnType) -> &'static str {
    match column_type {
        ColumnType::Text => "pg_catalog.text",
        ColumnType::Uuid => "pg_catalog.uuid",
        ColumnType::Integer => "pg_catalog.int4",
        ColumnType::BigInt => "pg_catalog.int8",
        ColumnType::Numeric { .. } => "pg_catalog.numeric",
        ColumnType::Double => "pg_catalog.float8",
        ColumnType::Boolean => "pg_catalog.bool",
        ColumnType::Date => "pg_catalog.date",
        ColumnType::Timestamp => "pg_catalog.timestamptz",
        ColumnType::Json => "pg_catalog.jsonb",
        ColumnType::TextArray => "pg_catalog.text[]",
    }
}

const fn cast_type(cast: CastType) -> &'static str {
    match cast {
        CastType::Text => "pg_catalog.text",
        CastType::Integer => "pg_catalog.int4",
        CastType::BigInt => "pg_catalog.int8",
        CastType::Numeric => "pg_catalog.numeric",
        CastType::Double => "pg_catalog.float8",
        CastType::Boolean => "pg_catalog.bool",
        CastType::Date => "pg_catalog.date",
        CastType::Timestamp => "pg_catalog.timestamptz",
        CastType::Json => "pg_catalog.json",
        CastType::Jsonb => "pg_catalog.jsonb",
    }
}

impl Sql {
    /// Gives the values with their types.
    pub(super) fn typed(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        let mut typed: Vec<(&(dyn ToSql + Sync), Type)> = Vec::with_capacity(self.values.len());
        for value in &self.values {
            typed.push(match value {
                Value::Text(text) => (text, Type::TEXT),
                Value::Texts(texts) => (texts, Type::TEXT_ARRAY),
                Value::Number(number) => (number, Type::INT8),
            });
        }
        typed
    }

    fn value(&mut self, value: Value) {
        self.values.push(value);
        self.text.push_str(&format!("${}", self.values.len()));
    }

    /// Adds a text.
    pub(super) fn bind(&mut self, text: impl Into<String>) {
        self.value(Value::Text(Some(text.into())));
    }

    /// Adds a value, cast to a type.
    fn operand(&mut self, operand: &Operand, column_type: ColumnType) {
        self.bind(operand.to_text());
        if column_type != ColumnType::Text {
            self.text.push_str("::");
            self.text.push_str(sql_type(column_type));
        }
    }

    fn page(&mut self, plan: &Plan) {
        let signed = |number: u64| Value::Number(i64::try_from(number).unwrap_or(i64::MAX));
        self.text.push_str(" LIMIT ");
        self.value(signed(plan.limit));
        self.text.push_str(" OFFSET ");
        self.value(signed(plan.offset));
    }

    /// Makes the statement that gives the rows of a page that meet this condition, every value as text.
    pub(super) fn select(&self, plan: &Plan) -> Self {
        let mut sql = Self { text: "SELECT ".to_owned(), values: self.values.clone() };
        let as_json = plan.shape != crate::query::Shape::Csv;
        for (i, output) in plan.outputs.iter().enumerate() {
            sql.text.push_str(if i > 0 { ", " } else { "" });
            let json_form = as_json && has_json_form(output);
            sql.text.push_str(if json_form { "pg_catalog.to_json(" } else { "(" });
            sql.expression(&output.expression);
            sql.text.push(')');
            if let Some(cast) = output.cast {
                let inside = format!("::{}", cast_type(cast));
                if json_form {
                    sql.text.insert_str(sql.text.len() - 1, &inside);
                } else {
                    sql.text.push_str(&inside);
                }
            }
            sql.text.push_str("::pg_catalog.text");
        }
        // Inside, so that only the rows of the page are printed, not all those that are sorted.
        let mut names: Vec<&str> = Vec::new();
        for output in &plan.outputs {
            if !names.contains(&output.expression.column.name) {
                names.push(output.expression.column.name);
            }
        }
        let (names, table) = (names.join(", t."), plan.table.name);
        sql.text.push_str(&format!(
            " FROM (SELECT t.{names} FROM public.{table} AS t WHERE {} ORDER BY ",
            self.text
        ));
        sql.order(&plan.order);
        sql.page(plan);
        sql.text.push_str(") AS t");
        sql
    }

    /// Makes the statement that counts all rows that meet this condition, or as many as `most`.
    pub(super) fn count(&self, plan: &Plan, most: Option<u64>) -> Self {
        let (table, filter) = (plan.table.name, &self.text);
        let text = match most {
            None => format!("SELECT pg_catalog.count(*) FROM public.{table} AS t WHERE {filter}"),
            Some(most) => format!(
                "SELECT pg_catalog.count(*) FROM (SELECT 1 FROM public.{table} AS t WHERE {filter} LIMIT {most}) AS s"
            ),
        };
        Self { text, values: self.values.clone() }
    }

    /// Makes the statement that counts the rows of a page.
    pub(super) fn count_page(&self, plan: &Plan) -> Self {
        let start =
            format!("SELECT pg_catalog.count(*) FROM (SELECT 1 FROM public.{} AS t WHERE ", plan.table.name);
        let mut sql = Self { text: start + &self.text, values: self.values.clone() };
        sql.page(plan);
        sql.text.push_str(") AS s");
        sql
    }

    /// Makes the statement that has the planner estimate the rows that meet this condition.
    pub(super) fn explain(&self, plan: &Plan) -> Self {
        let text = format!(
            "EXPLAIN (FORMAT JSON) SELECT 1 FROM public.{} AS t WHERE {}",
            plan.table.name, self.text
        );
        Self { text, values: self.values.clone() }
    }

    /// Adds a column with its table: in ORDER BY a bare name would be that of an output, which is a text.
    fn column(&mut self, name: &'static str) {
        self.text.push_str("t.");
        self.text.push_str(name);
    }

    fn expression(&mut self, expression: &Expression) {
        let name = expression.column.name;
        let Some(last) = expression.path.last() else {
            self.column(name);
            return;
        };
        self.text.push_str("((");
        match expression.column.column_type {
            ColumnType::TextArray => {
                self.text.push_str("pg_catalog.to_jsonb(");
                self.column(name);
                self.text.push(')');
            }
            _ => self.column(name),
        }
        for step in &expression.path {
            self.text.push_str(if step.as_text { " ->> " } else { " -> " });
            match &step.key {
                Key::Name(name) => self.bind(name.as_str()),
                Key::Index(index) => {
                    self.value(Value::Number((*index).into()));
                    self.text.push_str("::pg_catalog.int4");
                }
            }
        }
        // Like every text column.
        self.text.push_str(if last.as_text { ") COLLATE \"C\")" } else { "))" });
    }

    /// Adds `(expression operator value)`.
    fn compare(&mut self, expression: &Expression, operator: &'static str, operand: &Operand) {
        self.text.push('(');
        self.ordered(expression);
        self.text.push_str(operator);
        self.operand(operand, expression.value_type());
        self.text.push(')');
    }

    /// Adds an expression that is compared or ordered by: by bytes, whatever the database's own collation.
    fn ordered(&mut self, expression: &Expression) {
        self.expression(expression);
        if expression.value_type() == ColumnType::TextArray {
            self.text.push_str(" COLLATE \"C\"");
        }
    }

    pub(super) fn condition(&mut self, condition: &Condition) {
        match condition {
            Condition::All(conditions) => self.several(conditions, " AND ", "true"),
            Condition::Any(conditions) => self.several(conditions, " OR ", "false"),
            Condition::Not(condition) => {
                self.text.push_str("NOT ");
                self.condition(condition);
            }
            Condition::Unknown => self.text.push_str("NULL::pg_catalog.bool"),
            Condition::Compare(expression, order, operand) => {
                self.compare(expression, spaced(order.sql()), operand);
            }
            Condition::In(expression, operands) => {
                self.text.push('(');
                self.expression(expression);
                self.text.push_str(" = ANY (");
                self.value(Value::Texts(operands.iter().map(Operand::to_text).collect()));
                let value_type = expression.value_type();
                if value_type != ColumnType::Text {
                    self.text.push_str(&format!("::{}[]", sql_type(value_type)));
                }
                self.text.push_str("))");
            }
            Condition::Distinct(expression, operand) => {
                self.compare(expression, " IS DISTINCT FROM ", operand);
            }
            Condition::IsNull(expression) => {
                self.text.push('(');
                self.expression(expression);
                self.text.push_str(" IS NULL)");
            }
            Condition::IsTruth(expression, value) => {
                self.text.push('(');
                self.expression(expression);
                self.text.push_str(if *value { " IS TRUE)" } else { " IS FALSE)" });
            }
            Condition::Like { expression, pattern, fold } => {
                self.matching(expression, if *fold { " ILIKE " } else { " LIKE " }, pattern);
            }
            Condition::Match { expression, pattern, fold } => {
                self.matching(expression, if *fold { " ~* " } else { " ~ " }, pattern);
            }
            Condition::Contains(expression, operand) => self.compare(expression, " @> ", operand),
            Condition::ContainedBy(expression, operand) => self.compare(expression, " <@ ", operand),
            Condition::Overlaps(expression, other) => {
                self.text.push('(');
                self.expression(expression);
                self.text.push_str(" && ");
                self.bind(array::text(other));
                self.text.push_str("::pg_catalog.text[])");
            }
        }
    }

    fn matching(&mut self, expression: &Expression, operator: &'static str, pattern: &str) {
        self.text.push('(');
        self.expression(expression);
        self.text.push_str(operator);
        self.bind(pattern);
        self.text.push(')');
    }

    fn several(&mut self, conditions: &[Condition], between: &'static str, none: &'static str) {
        if conditions.is_empty() {
            self.text.push_str(none);
            return;
        }
        self.text.push('(');
        for (i, condition) in conditions.iter().enumerate() {
            self.text.push_str(if i > 0 { between } else { "" });
            self.condition(condition);
        }
        self.text.push(')');
    }

    fn order(&mut self, sorts: &[Sort]) {
        for (i, sort) in sorts.iter().enumerate() {
            self.text.push_str(if i > 0 { ", " } else { "" });
            self.ordered(&sort.expression);
            self.text.push_str(if sort.descending { " DESC" } else { "" });
            // Said only where it is not the usual: an index is read in its own order.
            if sort.nulls_first != sort.descending {
                self.text.push_str(if sort.nulls_first { " NULLS FIRST" } else { " NULLS LAST" });
            }
        }
    }
}

/// Gives an operator with blanks around it.
const fn spaced(operator: &'static str) -> &'static str {
    match operator.as_bytes() {
        b"=" => " = ",
        b"<>" => " <> ",
        b">" => " > ",
        b">=" => " >= ",
        b"<" => " < ",
        _ => " <= ",
    }
}
