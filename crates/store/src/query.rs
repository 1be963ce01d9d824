//! A read as a caller asks for it: names and values as texts, whatever engine answers.
//!
//! A [`ReadQuery`] is resolved against the [catalogue](crate::catalog) into a plan before any engine sees it: names become
//! the catalogue's constants, values are parsed by the type that they are compared with, and what PostgreSQL would refuse
//! is refused with PostgreSQL's words. So both engines refuse alike, and a caller's text reaches a statement as a bind
//! parameter only. Where next: `plan` for the resolution, `value` for the types, `output` for how rows are printed.

pub(crate) mod array;
pub(crate) mod cast;
pub(crate) mod decimal;
mod error;
pub(crate) mod json;
pub(crate) mod operand;
pub(crate) mod output;
pub(crate) mod pattern;
pub(crate) mod plan;
pub(crate) mod time;

pub use error::ReadError;

/// Most rows that one answer holds.
pub const MAX_ROWS: u64 = 1000;
/// Most conditions of one query, those inside trees included.
pub const MAX_TERMS: usize = 64;
/// Greatest depth of nested `and` and `or`.
pub const MAX_DEPTH: usize = 16;

/// A read of one table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadQuery {
    /// The table.
    pub table: String,
    /// What each row shows; nothing means every column.
    pub select: Vec<SelectItem>,
    /// Conditions that all must hold.
    pub filters: Vec<Filter>,
    /// The order; rows that are equal in it are in the order of the table's key.
    pub order: Vec<OrderTerm>,
    /// Most rows wanted, [`MAX_ROWS`] at most.
    pub limit: Option<u64>,
    /// Rows to leave out at the start.
    pub offset: u64,
    /// Whether, and how, all rows that meet the conditions are counted.
    pub count: Option<Count>,
    /// What the answer looks like.
    pub shape: Shape,
}

/// One part of what a row shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelectItem {
    /// Every column.
    All,
    /// A column, or something inside one.
    Field {
        /// What.
        field: Field,
        /// The name in the answer, if it is not the field's own.
        alias: Option<String>,
        /// The type to cast to.
        cast: Option<String>,
    },
}

/// A column, or something inside a JSON one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The column.
    pub column: String,
    /// The way into it.
    pub path: Vec<Step>,
}

/// One step into a JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// To what.
    pub key: Key,
    /// `->>`: the result is text.
    pub as_text: bool,
}

/// What a step leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// A member of an object.
    Name(String),
    /// An element of an array; negative from the end.
    Index(i32),
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// A test of one field.
    Test {
        /// The field.
        field: Field,
        /// Whether it must not hold.
        negated: bool,
        /// The test.
        test: Test,
    },
    /// Several conditions.
    Tree {
        /// Whether it must not hold.
        negated: bool,
        /// Whether all of them must hold, or one.
        all: bool,
        /// The conditions.
        filters: Vec<Filter>,
    },
}

/// A test of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// A comparison with a value, or with each of an array's.
    Compare(Comparison, Option<Quantifier>, String),
    /// One of several values.
    In(Vec<String>),
    /// `is.…`
    Is(Is),
    /// Another value; an empty one is another, too.
    DistinctFrom(String),
    /// Holds all that an array or JSON value holds.
    Contains(String),
    /// Holds nothing that an array or JSON value does not hold.
    ContainedBy(String),
    /// Has an element of an array.
    Overlaps(String),
}

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `LIKE`
    Like,
    /// `ILIKE`
    ILike,
    /// `~`
    Match,
    /// `~*`
    IMatch,
}

/// With which elements of an array a comparison must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantifier {
    /// One.
    Any,
    /// All.
    All,
}

/// What `is` asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// Empty.
    Null,
    /// Not empty.
    NotNull,
    /// True.
    True,
    /// False.
    False,
    /// Neither.
    Unknown,
}

/// A term of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderTerm {
    /// The field.
    pub field: Field,
    /// Whether the greatest comes first.
    pub descending: bool,
    /// Whether empty ones come first; without a word they do in a descending order.
    pub nulls_first: Option<bool>,
}

/// How rows are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// One by one.
    Exact,
    /// As the planner estimates. SQLite has no such estimate and counts.
    Planned,
    /// One by one up to [`MAX_ROWS`], beyond as the planner estimates.
    Estimated,
}

/// What an answer looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    /// A JSON array of objects.
    #[default]
    Array,
    /// A JSON array of objects without members that are null.
    ArrayStripped,
    /// The first row as a JSON object.
    Object,
    /// The first row as a JSON object without members that are null.
    ObjectStripped,
    /// A line of names and a line for each row.
    Csv,
    /// Nothing: the rows are only counted.
    Nothing,
}

/// The answer to a read.
#[derive(Clone, PartialEq, Eq)]
pub struct ReadAnswer {
    /// In the shape asked for.
    pub body: Vec<u8>,
    /// The rows of this answer.
    pub rows: u64,
    /// All rows that meet the conditions, if they were to be counted.
    pub total: Option<u64>,
}

impl std::fmt::Debug for ReadAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Rows are nobody's business in a log.
        write!(f, "ReadAnswer({} bytes, {} rows of {:?})", self.body.len(), self.rows, self.total)
    }
}
