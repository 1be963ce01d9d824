//! What PostgreSQL has and SQLite lacks for a caller's filters: `LIKE` with its escapes, regular expressions, the operators
//! and the order of `jsonb` and `text[]`.
//!
//! Only the connections of such reads have these functions. Each looks at the clock of its read, so that none goes on for
//! long after the read's time is over.

use std::cmp::Ordering;
use std::sync::Arc;

use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error, Result};

use super::reads::Clock;
use crate::query::array::{self, TextArray};
use crate::query::json::Json;
use crate::query::pattern::Pattern;
use crate::query::{Key, ReadError, Step};

/// Largest program that a regular expression may become, in bytes.
const REGEX_BYTES: usize = 1 << 20;

/// Something that is wrong with an argument: a defect, as plans are checked before.
#[derive(Debug, thiserror::Error)]
#[error("an argument of a function is not what it must be")]
struct BadArgument;

/// The read's time is over.
#[derive(Debug, thiserror::Error)]
#[error("the read's time is over")]
struct Over;

/// Reads a regular expression as PostgreSQL does where both agree: `.` is any character, `^` and `$` are the ends of the text.
///
/// # Errors
/// [`ReadError::InvalidRegex`] for one that is none, or is too large.
pub(super) fn regex(pattern: &str, fold: bool) -> std::result::Result<regex::Regex, ReadError> {
    regex::RegexBuilder::new(pattern)
        .case_insensitive(fold)
        .dot_matches_new_line(true)
        .size_limit(REGEX_BYTES)
        .dfa_size_limit(REGEX_BYTES)
        .build()
        .map_err(|error| {
            let detail = error.to_string();
            ReadError::InvalidRegex { detail: detail.lines().last().unwrap_or_default().to_owned() }
        })
}

/// Gives a connection the functions and orders.
pub(super) fn register(conn: &Connection, clock: &Clock) -> Result<()> {
    for (name, fold) in [("nudge_like", false), ("nudge_ilike", true)] {
        text_test(conn, clock, name, move |context, text| {
            let pattern = context.get_or_create_aux(1, |value| {
                Pattern::parse(value.as_str().map_err(|_| BadArgument)?, fold).ok_or(BadArgument)
            })?;
            Ok(pattern.matches(text))
        })?;
    }
    for (name, fold) in [("nudge_match", false), ("nudge_imatch", true)] {
        text_test(conn, clock, name, move |context, text| {
            let regex = context.get_or_create_aux(1, |value| {
                regex(value.as_str().map_err(|_| BadArgument)?, fold).map_err(|_| BadArgument)
            })?;
            Ok(regex.is_match(text))
        })?;
    }
    for (name, as_text) in [("nudge_json", false), ("nudge_json_text", true)] {
        add(conn, clock, name, move |context| {
            let path = context.get_or_create_aux(1, |value| {
                path(value.as_str().map_err(|_| BadArgument)?).ok_or(BadArgument)
            })?;
            let Some(value) = json(context, 0)? else { return Ok(None) };
            let found = value.get(&path);
            Ok(if as_text { found.and_then(Json::as_text) } else { found.map(Json::to_string) })
        })?;
    }
    add(conn, clock, "nudge_json_order", |context| {
        let (Some(a), Some(b)) = (json(context, 0)?, constant(context, 1, Json::parse)?) else {
            return Ok(None);
        };
        Ok(Some(a.compare(&b) as i64))
    })?;
    add(conn, clock, "nudge_json_in", |context| {
        let (Some(a), Some(among)) = (json(context, 0)?, constant(context, 1, Json::parse)?) else {
            return Ok(None);
        };
        Ok(Some(matches!(&*among, Json::Array(values) if values.contains(&a))))
    })?;
    for (name, outer, inner) in [("nudge_json_contains", 0, 1), ("nudge_json_contained", 1, 0)] {
        add(conn, clock, name, move |context| {
            let (Some(a), Some(b)) = (json(context, outer)?, json(context, inner)?) else { return Ok(None) };
            Ok(Some(a.contains(&b)))
        })?;
    }
    register_arrays(conn, clock)?;
    order(conn, clock, "nudge_json", |a, b| match (Json::parse(a), Json::parse(b)) {
        (Some(a), Some(b)) => a.compare(&b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    })?;
    order(conn, clock, "nudge_array", |a, b| match (stored_array(a), stored_array(b)) {
        (Some(a), Some(b)) => array::compare(&a, &b),
        (a, b) => a.is_some().cmp(&b.is_some()),
    })
}

/// Adds what arrays have: the row's is stored as JSON, the caller's comes as a literal.
fn register_arrays(conn: &Connection, clock: &Clock) -> Result<()> {
    fn with_both<T>(
        context: &mut Context<'_>,
        then: impl FnOnce(&TextArray, &TextArray) -> T,
    ) -> Result<Option<T>> {
        let ValueRef::Text(text) = context.get_raw(0) else { return Ok(None) };
        let own = std::str::from_utf8(text).ok().and_then(stored_array).ok_or_else(bad)?;
        let Some(other) = constant(context, 1, array::parse)? else { return Ok(None) };
        Ok(Some(then(&own, &other)))
    }
    add(conn, clock, "nudge_array_order", |context| with_both(context, |a, b| array::compare(a, b) as i64))?;
    add(conn, clock, "nudge_array_contains", |context| with_both(context, |a, b| array::contains(a, b)))?;
    add(conn, clock, "nudge_array_contained", |context| with_both(context, |a, b| array::contains(b, a)))?;
    add(conn, clock, "nudge_array_overlaps", |context| with_both(context, |a, b| array::overlaps(a, b)))
}

/// Reads an array as it is stored: JSON.
pub(super) fn stored_array(text: &str) -> Option<TextArray> {
    let Json::Array(elements) = Json::parse(text)? else { return None };
    let element = |element| match element {
        Json::Null => Some(None),
        Json::String(text) => Some(Some(text)),
        _ => None,
    };
    elements.into_iter().map(element).collect()
}

/// Writes a way into a value as one argument.
pub(super) fn path_text(path: &[Step]) -> String {
    let key = |step: &Step| match &step.key {
        Key::Name(name) => Json::String(name.clone()),
        Key::Index(index) => Json::Number(i64::from(*index).into()),
    };
    Json::Array(path.iter().map(key).collect()).to_string()
}

fn path(text: &str) -> Option<Vec<Step>> {
    let Some(Json::Array(keys)) = Json::parse(text) else { return None };
    let step = |key| {
        let key = match key {
            Json::String(name) => Key::Name(name),
            Json::Number(index) => Key::Index(index.to_string().parse().ok()?),
            _ => return None,
        };
        Some(Step { key, as_text: false })
    };
    keys.into_iter().map(step).collect()
}

fn bad() -> Error {
    Error::UserFunctionError(BadArgument.into())
}

/// Reads an argument as JSON.
fn json(context: &Context<'_>, argument: usize) -> Result<Option<Json>> {
    match context.get_raw(argument) {
        ValueRef::Null => Ok(None),
        value => {
            let text = value.as_str().map_err(|_| bad())?;
            Json::parse(text).map(Some).ok_or_else(bad)
        }
    }
}

/// Reads an argument that is the same for every row once.
fn constant<T: Send + Sync + 'static>(
    context: &Context<'_>,
    argument: i32,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<Arc<T>>> {
    let place = usize::try_from(argument).map_err(|_| bad())?;
    if context.get_raw(place) == ValueRef::Null {
        return Ok(None);
    }
    let read = |value: ValueRef<'_>| parse(value.as_str().map_err(|_| BadArgument)?).ok_or(BadArgument);
    context.get_or_create_aux(argument, read).map(Some)
}

/// Adds a function of two arguments.
fn add<T: rusqlite::functions::SqlFnOutput>(
    conn: &Connection,
    clock: &Clock,
    name: &'static str,
    function: impl Fn(&mut Context<'_>) -> Result<T> + Send + 'static,
) -> Result<()> {
    let flags =
        FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_DIRECTONLY;
    let clock = clock.clone();
    conn.create_scalar_function(name, 2, flags, move |context| {
        if clock.is_over() {
            return Err(Error::UserFunctionError(Over.into()));
        }
        function(context)
    })
}

/// Adds a test of a text; of nothing it is unknown.
fn text_test(
    conn: &Connection,
    clock: &Clock,
    name: &'static str,
    test: impl Fn(&Context<'_>, &str) -> Result<bool> + Send + 'static,
) -> Result<()> {
    add(conn, clock, name, move |context| match context.get_raw(0) {
        ValueRef::Null => Ok(None),
        value => test(context, value.as_str().map_err(|_| bad())?).map(Some),
    })
}

/// Adds an order of texts.
fn order(
    conn: &Connection,
    clock: &Clock,
    name: &'static str,
    compare: impl Fn(&str, &str) -> Ordering + Send + 'static,
) -> Result<()> {
    let clock = clock.clone();
    // A sort cannot be stopped, but it can be hurried: its result is thrown away then.
    conn.create_collation(name, move |a, b| if clock.is_over() { Ordering::Equal } else { compare(a, b) })
}
