//! Makes SQL of a plan. The text is put together from constants of this file and names of the catalogue; everything that a
//! caller sent is a bind parameter.

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Row, params_from_iter};

use super::convert::Within;
use super::{function, rights};
use crate::catalog::{Column, ColumnType, Table};
use crate::error::StoreError;
use crate::query::array;
use crate::query::cast::Cell;
use crate::query::decimal::Decimal;
use crate::query::json::Json;
use crate::query::operand::Operand;
use crate::query::output::Writer;
use crate::query::plan::{Condition, Expression, Order, Output, Plan, Sort};
use crate::query::{ReadAnswer, ReadError, Shape};
use crate::rights::{Caller, Scope, Verb, scope};

/// A statement in the making.
#[derive(Default)]
struct Sql {
    text: String,
    values: Vec<Value>,
}

/// Answers a plan with the rows that the caller may see, in the read transaction that is open.
///
/// # Errors
/// [`ReadError`]: what the caller may not, or what is wrong with a value.
pub(super) fn read(conn: &Connection, caller: &Caller, plan: &Plan) -> Result<ReadAnswer, ReadError> {
    let grade = rights::grade(conn, caller)?;
    let mut filter = Sql::default();
    let denied = || ReadError::Denied { table: plan.table.name };
    match scope(grade, plan.table.name, Verb::Select) {
        Scope::NoPrivilege => return Err(denied()),
        Scope::Nobody => filter.text.push('0'),
        Scope::All => filter.text.push('1'),
        Scope::Own => {
            let (Caller::User(me), Some(own)) = (caller, rights::own(plan.table.name)) else {
                return Err(denied());
            };
            // The first parameter, as the condition says.
            filter.values.push(Value::Text(me.as_str().to_owned()));
            filter.text.push_str(own);
        }
    }
    filter.text.push_str(" AND ");
    filter.condition(&plan.condition)?;
    filter.find_decisions_by_user(plan);
    let filter = Filtered { table: plan.table, filter };
    if plan.shape == Shape::Nothing {
        return filter.count(conn, plan);
    }
    let mut answer = filter.rows(conn, plan)?;
    if plan.count.is_some() {
        // A page that is not full and begins before the end shows the end.
        let known = answer.rows < plan.limit && (answer.rows > 0 || plan.offset == 0);
        let total = if known { plan.offset + answer.rows } else { filter.total(conn)? };
        answer.total = Some(total);
    }
    Ok(answer)
}

/// A table with the condition that its rows must meet.
struct Filtered {
    table: &'static Table,
    filter: Sql,
}

impl Filtered {
    fn total(&self, conn: &Connection) -> Result<u64, ReadError> {
        let sql = format!("SELECT count(*) FROM {} WHERE {}", self.table.name, self.filter.text);
        self.number(conn, &sql, self.filter.values.iter())
    }

    /// Counts the rows of a page, and all of them if that was asked for.
    fn count(&self, conn: &Connection, plan: &Plan) -> Result<ReadAnswer, ReadError> {
        let (rows, total) = if plan.count.is_some() {
            let total = self.total(conn)?;
            (total.saturating_sub(plan.offset).min(plan.limit), Some(total))
        } else {
            let (table, filter) = (self.table.name, &self.filter.text);
            let limit = self.filter.values.len() + 1;
            let sql = format!(
                "SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {filter} LIMIT ?{limit} OFFSET ?{})",
                limit + 1
            );
            let page = [Value::Integer(signed(plan.limit)), Value::Integer(signed(plan.offset))];
            (self.number(conn, &sql, self.filter.values.iter().chain(&page))?, None)
        };
        Ok(ReadAnswer { body: Vec::new(), rows, total })
    }

    fn number<'a>(
        &self,
        conn: &Connection,
        sql: &str,
        values: impl Iterator<Item = &'a Value>,
    ) -> Result<u64, ReadError> {
        let mut statement = conn.prepare_cached(sql).within(self.table.name)?;
        let number: i64 =
            statement.query_row(params_from_iter(values), |row| row.get(0)).within(self.table.name)?;
        Ok(number.unsigned_abs())
    }

    fn rows(&self, conn: &Connection, plan: &Plan) -> Result<ReadAnswer, ReadError> {
        let table = self.table.name;
        let columns = needed(&plan.outputs);
        let names = columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ");
        let mut sql = Sql {
            text: format!("SELECT {names} FROM {table} WHERE {} ORDER BY ", self.filter.text),
            values: self.filter.values.clone(),
        };
        sql.order(&plan.order)?;
        sql.text.push_str(" LIMIT ");
        sql.bind(Value::Integer(signed(plan.limit)));
        sql.text.push_str(" OFFSET ");
        sql.bind(Value::Integer(signed(plan.offset)));
        let mut writer = Writer::new(plan.shape, plan.outputs.iter().map(|output| output.name.as_str()));
        let mut statement = conn.prepare_cached(&sql.text).within(table)?;
        let mut rows = statement.query(params_from_iter(&sql.values)).within(table)?;
        while let Some(row) = rows.next().within(table)? {
            let cells = columns
                .iter()
                .enumerate()
                .map(|(place, column)| cell(table, row, place, column.column_type))
                .collect::<Result<Vec<_>, _>>()?;
            writer.begin_row();
            for output in &plan.outputs {
                let place = columns.iter().position(|column| column.name == output.expression.column.name);
                let value = place.and_then(|place| cells.get(place)).cloned().unwrap_or(Cell::Null);
                writer.cell(shown(value, output)?);
            }
            writer.end_row()?;
        }
        Ok(writer.finish(None))
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Lists the columns that outputs are made from, each once.
fn needed(outputs: &[Output]) -> Vec<&'static Column> {
    let mut columns: Vec<&'static Column> = Vec::new();
    for output in outputs {
        if !columns.iter().any(|column| column.name == output.expression.column.name) {
            columns.push(output.expression.column);
        }
    }
    columns
}

/// Reads a value as stored.
fn cell(
    table: &'static str,
    row: &Row<'_>,
    place: usize,
    column_type: ColumnType,
) -> Result<Cell, ReadError> {
    let unreadable = || {
        let detail = format!("a value that is no {}", column_type.name());
        ReadError::Store(StoreError::Inconsistent { table, detail })
    };
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| unreadable());
    Ok(match (row.get_ref(place).within(table)?, column_type) {
        (ValueRef::Null, _) => Cell::Null,
        (ValueRef::Integer(number), ColumnType::Integer | ColumnType::BigInt) => Cell::Integer(number),
        (ValueRef::Integer(flag), ColumnType::Boolean) => Cell::Boolean(flag != 0),
        (ValueRef::Real(number), ColumnType::Numeric { scale }) => {
            let digits = format!("{number:.*}", usize::from(scale));
            Cell::Numeric(Decimal::parse(&digits).map_err(|_| unreadable())?)
        }
        (ValueRef::Real(number), ColumnType::Double) => Cell::Double(number),
        (ValueRef::Text(bytes), ColumnType::Text | ColumnType::Uuid) => Cell::Text(text(bytes)?),
        (ValueRef::Text(bytes), ColumnType::Date) => Cell::Date(text(bytes)?),
        (ValueRef::Text(bytes), ColumnType::Timestamp) => Cell::Timestamp(text(bytes)?),
        (ValueRef::Text(bytes), ColumnType::Json) => {
            Cell::Jsonb(Json::parse(&text(bytes)?).ok_or_else(unreadable)?)
        }
        (ValueRef::Text(bytes), ColumnType::TextArray) => {
            Cell::TextArray(function::stored_array(&text(bytes)?).ok_or_else(unreadable)?)
        }
        _ => return Err(unreadable()),
    })
}

/// Follows an output's way into a value, and casts what is there.
fn shown(cell: Cell, output: &Output) -> Result<Cell, ReadError> {
    let path = &output.expression.path;
    let cell = match (path.last(), cell) {
        (None, cell) => cell,
        (Some(last), cell) => {
            let json = match cell {
                Cell::Jsonb(value) => value,
                Cell::TextArray(elements) => {
                    let element = |element: Option<String>| element.map_or(Json::Null, Json::String);
                    Json::Array(elements.into_iter().map(element).collect())
                }
                _ => Json::Null,
            };
            match json.get(path) {
                None => Cell::Null,
                Some(value) if last.as_text => value.as_text().map_or(Cell::Null, Cell::Text),
                Some(value) => Cell::Jsonb(value.clone()),
            }
        }
    };
    match output.cast {
        Some(cast) => cell.cast(cast),
        None => Ok(cell),
    }
}

impl Sql {
    fn bind(&mut self, value: Value) {
        self.values.push(value);
        self.text.push_str(&format!("?{}", self.values.len()));
    }

    fn bind_text(&mut self, text: impl Into<String>) {
        self.bind(Value::Text(text.into()));
    }

    fn expression(&mut self, expression: &Expression) {
        let Some(last) = expression.path.last() else {
            self.text.push_str(expression.column.name);
            return;
        };
        self.text.push_str(if last.as_text { "nudge_json_text(" } else { "nudge_json(" });
        self.text.push_str(expression.column.name);
        self.text.push_str(", ");
        self.bind_text(function::path_text(&expression.path));
        self.text.push(')');
    }

    /// Adds `function(expression, value)`.
    fn call(&mut self, function: &'static str, expression: &Expression, value: String) {
        self.text.push_str(function);
        self.text.push('(');
        self.expression(expression);
        self.text.push_str(", ");
        self.bind_text(value);
        self.text.push(')');
    }

    fn condition(&mut self, condition: &Condition) -> Result<(), ReadError> {
        match condition {
            Condition::All(conditions) => self.several(conditions, " AND ", "1")?,
            Condition::Any(conditions) => self.several(conditions, " OR ", "0")?,
            Condition::Not(condition) => {
                self.text.push_str("NOT ");
                self.condition(condition)?;
            }
            Condition::Unknown => self.text.push_str("NULL"),
            Condition::Compare(expression, order, operand) => self.compare(expression, *order, operand),
            Condition::In(expression, operands) => self.among(expression, operands),
            Condition::Distinct(expression, operand) => self.distinct(expression, operand),
            Condition::IsNull(expression) => {
                self.text.push('(');
                self.expression(expression);
                self.text.push_str(" IS NULL)");
            }
            Condition::IsTruth(expression, value) => {
                self.text.push('(');
                self.expression(expression);
                self.text.push_str(if *value { " IS 1)" } else { " IS 0)" });
            }
            Condition::Like { expression, pattern, fold } => {
                let function = if *fold { "nudge_ilike" } else { "nudge_like" };
                self.call(function, expression, pattern.clone());
            }
            Condition::Match { expression, pattern, fold } => {
                function::regex(pattern, *fold)?;
                let function = if *fold { "nudge_imatch" } else { "nudge_match" };
                self.call(function, expression, pattern.clone());
            }
            Condition::Contains(expression, operand) => {
                let array = matches!(operand, Operand::TextArray(_));
                let function = if array { "nudge_array_contains" } else { "nudge_json_contains" };
                self.call(function, expression, operand.to_text());
            }
            Condition::ContainedBy(expression, operand) => {
                let array = matches!(operand, Operand::TextArray(_));
                let function = if array { "nudge_array_contained" } else { "nudge_json_contained" };
                self.call(function, expression, operand.to_text());
            }
            Condition::Overlaps(expression, other) => {
                self.call("nudge_array_overlaps", expression, array::text(other));
            }
        }
        Ok(())
    }

    /// Helps the planner: decisions are indexed by user in runs, beside the table.
    fn find_decisions_by_user(&mut self, plan: &Plan) {
        let Condition::All(conditions) = &plan.condition else { return };
        if plan.table.name != "recommendation_logs" {
            return;
        }
        for condition in conditions {
            if let Condition::Compare(Expression { column, path }, Order::Equal, Operand::Text(user)) =
                condition
                && column.name == "user_id"
                && path.is_empty()
            {
                self.text.push_str(
                    " AND id IN (SELECT entry.id FROM nudge_decisions_of_users AS entry WHERE entry.user_id = ",
                );
                self.bind_text(user.as_str());
                self.text.push(')');
            }
        }
    }

    fn several(
        &mut self,
        conditions: &[Condition],
        between: &'static str,
        none: &'static str,
    ) -> Result<(), ReadError> {
        if conditions.is_empty() {
            self.text.push_str(none);
            return Ok(());
        }
        self.text.push('(');
        for (i, condition) in conditions.iter().enumerate() {
            self.text.push_str(if i > 0 { between } else { "" });
            self.condition(condition)?;
        }
        self.text.push(')');
        Ok(())
    }

    fn compare(&mut self, expression: &Expression, order: Order, operand: &Operand) {
        self.text.push('(');
        let function = match operand {
            Operand::Json(_) => Some("nudge_json_order"),
            Operand::TextArray(_) => Some("nudge_array_order"),
            _ => None,
        };
        if let Some(function) = function {
            self.call(function, expression, operand.to_text());
            self.text.push_str(&format!(" {} 0)", order.sql()));
            return;
        }
        let (order, value) = stored(expression, order, operand);
        self.expression(expression);
        self.text.push_str(&format!(" {} ", order.sql()));
        self.bind(value);
        self.text.push(')');
    }

    fn among(&mut self, expression: &Expression, operands: &[Operand]) {
        if operands.is_empty() {
            self.text.push('0');
        } else if expression.value_type() == ColumnType::Json {
            let values = operands.iter().map(Operand::to_text).collect::<Vec<_>>().join(",");
            self.call("nudge_json_in", expression, format!("[{values}]"));
        } else {
            self.text.push('(');
            self.expression(expression);
            self.text.push_str(" IN (");
            for (i, operand) in operands.iter().enumerate() {
                self.text.push_str(if i > 0 { ", " } else { "" });
                self.bind(stored(expression, Order::Equal, operand).1);
            }
            self.text.push_str("))");
        }
    }

    fn distinct(&mut self, expression: &Expression, operand: &Operand) {
        self.text.push('(');
        match operand {
            Operand::Json(_) | Operand::TextArray(_) => {
                self.text.push_str("coalesce(");
                let array = matches!(operand, Operand::TextArray(_));
                let function = if array { "nudge_array_order" } else { "nudge_json_order" };
                self.call(function, expression, operand.to_text());
                self.text.push_str(", 1) <> 0");
            }
            _ => {
                self.expression(expression);
                self.text.push_str(" IS NOT ");
                self.bind(stored(expression, Order::Equal, operand).1);
            }
        }
        self.text.push(')');
    }

    fn order(&mut self, sorts: &[Sort]) -> Result<(), ReadError> {
        for (i, sort) in sorts.iter().enumerate() {
            self.text.push_str(if i > 0 { ", " } else { "" });
            self.expression(&sort.expression);
            self.text.push_str(match sort.expression.value_type() {
                ColumnType::Json => " COLLATE nudge_json",
                ColumnType::TextArray => " COLLATE nudge_array",
                _ => "",
            });
            self.text.push_str(if sort.descending { " DESC" } else { "" });
            // Said only where it matters: an index is not used with it.
            if sort.expression.column.nullable || !sort.expression.path.is_empty() {
                self.text.push_str(if sort.nulls_first { " NULLS FIRST" } else { " NULLS LAST" });
            }
        }
        Ok(())
    }
}

/// Gives a value as its column is stored, and the operator that compares with it.
///
/// A `numeric` column is stored as the binary number that is nearest to its decimals. A value with more decimals lies
/// between two such numbers: it is equal to none, and everything less is at most the lower one.
fn stored(expression: &Expression, order: Order, operand: &Operand) -> (Order, Value) {
    let value = match operand {
        Operand::Text(text) | Operand::Date(text) | Operand::Timestamp(text) => Value::Text(text.clone()),
        Operand::Integer(number) => Value::Integer(*number),
        Operand::Boolean(value) => Value::Integer(i64::from(*value)),
        Operand::Double(number) => Value::Real(*number),
        Operand::Numeric(number) => {
            let scale = match expression.column.column_type {
                ColumnType::Numeric { scale } => scale,
                _ => 0,
            };
            let (floor, exact) = number.floor(scale);
            if exact {
                Value::Real(floor.to_f64())
            } else {
                return match order {
                    Order::Equal | Order::NotEqual => (order, Value::Real(f64::INFINITY)),
                    Order::Less | Order::LessOrEqual => (Order::LessOrEqual, Value::Real(floor.to_f64())),
                    Order::Greater | Order::GreaterOrEqual => (Order::Greater, Value::Real(floor.to_f64())),
                };
            }
        }
        // Compared by functions of their own.
        Operand::Json(_) | Operand::TextArray(_) => Value::Null,
    };
    (order, value)
}
