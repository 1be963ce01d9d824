//! Which events a drain gets: `function_name=ingest, status>=500`.
//!
//! Terms with commas between; an event has to meet them all, and no terms at all let everything through.
//!
//! | field | operators | values |
//! |---|---|---|
//! | `function_name`, `method` | `=` `!=` | a name, or several with a bar between: `ingest\|rest` |
//! | `level` | `=` `!=` `<` `<=` `>` `>=` | `info` < `warn` < `error` |
//! | `status` | `=` `!=` `<` `<=` `>` `>=` | a status; with `=` and `!=` also `5xx` and `400..499` |

use std::fmt;
use std::str::FromStr;

use nudge_store::RequestRow;

use crate::request_log::FUNCTIONS;

/// How bad an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// An answer (below 400).
    Info,
    /// A refusal (400 to 499).
    Warn,
    /// A failure (500 and above).
    Error,
}

impl Level {
    /// Gives the level of a status.
    pub fn of(status: u16) -> Self {
        match status {
            0..=399 => Self::Info,
            400..=499 => Self::Warn,
            _ => Self::Error,
        }
    }

    /// Gives its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// What an event is compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Is,
    /// `!=`
    IsNot,
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
}

impl Operator {
    /// Those of two characters first, so that `>=` is not read as `>`.
    const ALL: [(&str, Self); 6] = [
        ("!=", Self::IsNot),
        ("<=", Self::AtMost),
        (">=", Self::AtLeast),
        ("=", Self::Is),
        ("<", Self::Below),
        (">", Self::Above),
    ];

    fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, operator)| *operator == self).map_or("=", |(text, _)| text)
    }

    fn holds<T: PartialOrd>(self, found: T, wanted: T) -> bool {
        match self {
            Self::Is => found == wanted,
            Self::IsNot => found != wanted,
            Self::Below => found < wanted,
            Self::AtMost => found <= wanted,
            Self::Above => found > wanted,
            Self::AtLeast => found >= wanted,
        }
    }
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    /// One of some names, or none of them.
    Name {
        field: Name,
        negated: bool,
        names: Vec<String>,
    },
    Level(Operator, Level),
    Status(Operator, u16),
    /// Within a range, both ends included, or outside.
    Statuses {
        negated: bool,
        first: u16,
        last: u16,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Function,
    Method,
}

impl Name {
    fn as_str(self) -> &'static str {
        match self {
            Self::Function => "function_name",
            Self::Method => "method",
        }
    }

    fn values(self) -> &'static [&'static str] {
        match self {
            Self::Function => &FUNCTIONS,
            Self::Method => &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"],
        }
    }
}

/// Why a text is no filter. Each says what would be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No operator in a term.
    #[error("the filter `{term}` has no operator: write for instance function_name=ingest or status>=500")]
    NoOperator {
        /// The term.
        term: String,
    },
    /// An unknown field.
    #[error("there is no field `{field}` to filter by: use function_name, level, status or method")]
    Field {
        /// What was given.
        field: String,
    },
    /// An operator that a field does not have.
    #[error("`{field}` is not compared by `{operator}`: use = or !=")]
    Operator {
        /// The field.
        field: &'static str,
        /// What was given.
        operator: &'static str,
    },
    /// A value that nothing will ever equal.
    #[error("`{value}` is no value of `{field}`: use {wanted}")]
    Value {
        /// The field.
        field: &'static str,
        /// What was given.
        value: String,
        /// What would be one.
        wanted: String,
    },
    /// More terms than anybody needs.
    #[error("a drain has at most {MAX_TERMS} filters")]
    TooMany,
}

/// Most terms of a filter.
const MAX_TERMS: usize = 32;
/// What of a wrong value is quoted.
const QUOTED: usize = 60;

/// The conditions of a drain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filters(Vec<Term>);

impl Filters {
    /// Says whether an event meets all conditions.
    pub fn let_through(&self, row: &RequestRow) -> bool {
        self.0.iter().all(|term| term.holds(row))
    }

    /// Says whether there are no conditions.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Term {
    fn holds(&self, row: &RequestRow) -> bool {
        match self {
            Self::Name { field, negated, names } => {
                let found = match field {
                    Name::Function => row.function_name,
                    Name::Method => row.method,
                };
                names.iter().any(|name| name == found) != *negated
            }
            Self::Level(operator, level) => operator.holds(Level::of(row.status), *level),
            Self::Status(operator, status) => operator.holds(row.status, *status),
            Self::Statuses { negated, first, last } => (*first..=*last).contains(&row.status) != *negated,
        }
    }
}

impl FromStr for Filters {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let terms: Vec<Term> = text.split(',').map(term).collect::<Result<_, _>>()?;
        if terms.len() > MAX_TERMS { Err(FilterError::TooMany) } else { Ok(Self(terms)) }
    }
}

fn term(text: &str) -> Result<Term, FilterError> {
    let quoted = |text: &str| text.chars().take(QUOTED).collect::<String>();
    let at = text.find(['=', '!', '<', '>']);
    let found = at.and_then(|at| {
        let (field, rest) = text.split_at(at);
        let (sign, operator) = Operator::ALL.iter().find(|(sign, _)| rest.starts_with(sign))?;
        Some((field.trim(), *operator, rest.strip_prefix(sign)?.trim()))
    });
    let Some((field, operator, value)) = found else {
        return Err(FilterError::NoOperator { term: quoted(text.trim()) });
    };
    match field {
        "function_name" => names(Name::Function, operator, value),
        "method" => names(Name::Method, operator, value),
        "level" => level(operator, value),
        "status" => status(operator, value),
        other => Err(FilterError::Field { field: quoted(other) }),
    }
}

fn wrong(field: &'static str, value: &str, wanted: impl Into<String>) -> FilterError {
    FilterError::Value { field, value: value.chars().take(QUOTED).collect(), wanted: wanted.into() }
}

fn names(field: Name, operator: Operator, value: &str) -> Result<Term, FilterError> {
    let negated = match operator {
        Operator::Is => false,
        Operator::IsNot => true,
        other => return Err(FilterError::Operator { field: field.as_str(), operator: other.as_str() }),
    };
    let known = |name: &str| {
        let found = field.values().iter().find(|known| known.eq_ignore_ascii_case(name));
        // A name that no event has would make a drain that stays silent for ever.
        found
            .map(|known| (*known).to_owned())
            .ok_or_else(|| wrong(field.as_str(), name, field.values().join(", ")))
    };
    let names = value.split('|').map(|name| known(name.trim())).collect::<Result<_, _>>()?;
    Ok(Term::Name { field, negated, names })
}

fn level(operator: Operator, value: &str) -> Result<Term, FilterError> {
    match value.to_ascii_lowercase().as_str() {
        "info" => Ok(Term::Level(operator, Level::Info)),
        "warn" | "warning" => Ok(Term::Level(operator, Level::Warn)),
        "error" => Ok(Term::Level(operator, Level::Error)),
        _ => Err(wrong("level", value, "info, warn or error")),
    }
}

fn status(operator: Operator, value: &str) -> Result<Term, FilterError> {
    let number = |text: &str| text.trim().parse().ok().filter(|status| (100..=599).contains(status));
    if let Some(status) = number(value) {
        return Ok(Term::Status(operator, status));
    }
    let class = value.strip_suffix("xx").or_else(|| value.strip_suffix("XX"));
    let class = class.and_then(|digit| number(&format!("{digit}00"))).map(|first| (first, first + 99));
    let range = value.split_once("..").and_then(|(first, last)| Some((number(first)?, number(last)?)));
    let ends = class.or(range.filter(|(first, last)| first <= last));
    match (ends, operator) {
        (Some((first, last)), Operator::Is) => Ok(Term::Statuses { negated: false, first, last }),
        (Some((first, last)), Operator::IsNot) => Ok(Term::Statuses { negated: true, first, last }),
        (Some(_), _) => Err(wrong("status", value, "one status with this operator, such as status>=500")),
        (None, _) => Err(wrong(
            "status",
            value,
            "a status from 100 to 599, a class such as 5xx, or a range such as 400..499",
        )),
    }
}

/// The form that is kept; it reads as the same filters.
impl fmt::Display for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, term) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str(",")?;
            }
            match term {
                Term::Name { field, negated, names } => {
                    write!(f, "{}{}{}", field.as_str(), sign(*negated), names.join("|"))?;
                }
                Term::Level(operator, level) => write!(f, "level{}{}", operator.as_str(), level.as_str())?,
                Term::Status(operator, status) => write!(f, "status{}{status}", operator.as_str())?,
                Term::Statuses { negated, first, last } => {
                    write!(f, "status{}{first}..{last}", sign(*negated))?;
                }
            }
        }
        Ok(())
    }
}

fn sign(negated: bool) -> &'static str {
    if negated { "!=" } else { "=" }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn row(function_name: &'static str, method: &'static str, status: u16) -> RequestRow {
        RequestRow {
            id: Uuid::nil(),
            function_name,
            method,
            status,
            response_time_ms: 1,
            user_id: None,
            error_code: None,
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn filters(text: &str) -> Filters {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn filters_let_through_what_meets_all_of_them() {
        let recommended = row("transaction-recommendations", "GET", 200);
        let refused = row("transaction-recommendations", "GET", 403);
        let failed = row("ingest", "POST", 503);
        for (text, through) in [
            ("", [true, true, true]),
            ("  ", [true, true, true]),
            ("function_name=transaction-recommendations", [true, true, false]),
            ("function_name=Transaction-Recommendations", [true, true, false]),
            ("function_name!=transaction-recommendations", [false, false, true]),
            ("function_name=ingest|rest", [false, false, true]),
            ("function_name!=ingest | rest", [true, true, false]),
            ("method=POST", [false, false, true]),
            ("method!=options", [true, true, true]),
            ("level=error", [false, false, true]),
            ("level=warning", [false, true, false]),
            ("level>=warn", [false, true, true]),
            ("level<error", [true, true, false]),
            ("level!=INFO", [false, true, true]),
            ("status=403", [false, true, false]),
            ("status!=403", [true, false, true]),
            ("status>=500", [false, false, true]),
            ("status>403", [false, false, true]),
            ("status<403", [true, false, false]),
            ("status<=403", [true, true, false]),
            ("status=4xx", [false, true, false]),
            ("status!=2xx", [false, true, true]),
            ("status=400..499", [false, true, false]),
            ("status != 400 .. 499", [true, false, true]),
            ("function_name=transaction-recommendations,status>=400", [false, true, false]),
            (" function_name = transaction-recommendations , level = info ", [true, false, false]),
            ("status>=400,status<500", [false, true, false]),
            ("status>=500,status<400", [false, false, false]),
        ] {
            let filters = filters(text);
            let found = [&recommended, &refused, &failed].map(|row| filters.let_through(row));
            assert_eq!(found, through, "{text}");
        }
    }

    #[test]
    fn what_is_no_filter_is_refused_with_what_would_be_one() {
        for (text, complaint) in [
            (
                "ingest",
                "the filter `ingest` has no operator: write for instance function_name=ingest or status>=500",
            ),
            (
                "level=error,",
                "the filter `` has no operator: write for instance function_name=ingest or status>=500",
            ),
            (
                "status!500",
                "the filter `status!500` has no operator: write for instance function_name=ingest or status>=500",
            ),
            (
                "function=ingest",
                "there is no field `function` to filter by: use function_name, level, status or method",
            ),
            ("=ingest", "there is no field `` to filter by: use function_name, level, status or method"),
            ("function_name>=ingest", "`function_name` is not compared by `>=`: use = or !="),
            (
                "function_name=recommendations",
                "`recommendations` is no value of `function_name`: use \
              transaction-recommendations, user-archetype, archetype-recalculation-job, recommendation-outcomes, ingest, rest, other",
            ),
            (
                "function_name=",
                "`` is no value of `function_name`: use \
              transaction-recommendations, user-archetype, archetype-recalculation-job, recommendation-outcomes, ingest, rest, other",
            ),
            (
                "method=FETCH",
                "`FETCH` is no value of `method`: use GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, other",
            ),
            ("level=fatal", "`fatal` is no value of `level`: use info, warn or error"),
            (
                "status=999",
                "`999` is no value of `status`: use a status from 100 to 599, a class such as 5xx, or a range such as 400..499",
            ),
            (
                "status=9xx",
                "`9xx` is no value of `status`: use a status from 100 to 599, a class such as 5xx, or a range such as 400..499",
            ),
            (
                "status=499..400",
                "`499..400` is no value of `status`: use a status from 100 to 599, a class such as 5xx, or a range such as 400..499",
            ),
            (
                "status>=5xx",
                "`5xx` is no value of `status`: use one status with this operator, such as status>=500",
            ),
            (
                "status==500",
                "`=500` is no value of `status`: use a status from 100 to 599, a class such as 5xx, or a range such as 400..499",
            ),
        ] {
            assert_eq!(text.parse::<Filters>().unwrap_err().to_string(), complaint, "{text}");
        }
        let many = vec!["status>=500"; 33].join(",");
        assert_eq!(many.parse::<Filters>(), Err(FilterError::TooMany));
    }

    fn any_term() -> impl Strategy<Value = String> {
        let sign = prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">="]);
        let equal = prop::sample::select(vec!["=", "!="]);
        let level = prop::sample::select(vec!["info", "warn", "error"]);
        prop_oneof![
            (equal.clone(), prop::collection::vec(prop::sample::select(FUNCTIONS.to_vec()), 1..4))
                .prop_map(|(sign, names)| format!("function_name{sign}{}", names.join("|"))),
            (sign.clone(), level).prop_map(|(sign, level)| format!("level{sign}{level}")),
            (sign, 100_u16..600).prop_map(|(sign, status)| format!("status{sign}{status}")),
            (equal.clone(), 1_u16..6).prop_map(|(sign, class)| format!("status{sign}{class}xx")),
            (equal, 100_u16..600, 0_u16..100)
                .prop_map(|(sign, first, more)| format!("status{sign}{first}..{}", (first + more).min(599))),
        ]
    }

    proptest! {
        #[test]
        fn the_kept_form_reads_as_the_same_filters(terms in prop::collection::vec(any_term(), 0..6)) {
            let parsed: Filters = terms.join(" , ").parse().unwrap();
            prop_assert_eq!(parsed.to_string().parse::<Filters>().unwrap(), parsed);
        }

        #[test]
        fn an_event_meets_a_list_if_it_meets_each(
            terms in prop::collection::vec(any_term(), 0..6),
            function in prop::sample::select(FUNCTIONS.to_vec()),
            status in 100_u16..600,
        ) {
            let row = row(function, "GET", status);
            let each = terms.iter().all(|term| filters(term).let_through(&row));
            prop_assert_eq!(filters(&terms.join(",")).let_through(&row), each);
        }

        #[test]
        fn a_term_and_its_negation_part_all_events(
            names in prop::sample::select(FUNCTIONS.to_vec()), class in 1_u16..6, status in 100_u16..600,
            function in prop::sample::select(FUNCTIONS.to_vec()),
        ) {
            let row = row(function, "GET", status);
            for (one, other) in [
                (format!("function_name={names}"), format!("function_name!={names}")),
                (format!("status={class}xx"), format!("status!={class}xx")),
                (format!("status={class}00..{class}99"), format!("status!={class}xx")),
                (format!("status>={status}"), format!("status<{status}")),
                ("level>=warn".to_owned(), "level<warn".to_owned()),
            ] {
                prop_assert!(filters(&one).let_through(&row) != filters(&other).let_through(&row), "{} {}", one, other);
            }
        }

        #[test]
        fn no_text_breaks_the_reader(text in ".{0,200}") {
            if let Ok(filters) = text.parse::<Filters>() {
                prop_assert_eq!(filters.to_string().parse::<Filters>().unwrap(), filters);
            }
        }
    }
}
