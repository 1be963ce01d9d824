//! The sums that reports are made of. One transaction at a time folds; it takes notes away and adds them to the sums, so
//! that a note is in one of the two, whatever happens. Nobody who writes decisions or outcomes waits for it.

use jiff::civil::Date;
use tokio_postgres::Row;
use uuid::Uuid;

use super::convert::{At, Day, day, get, parsed, statements, time_opt};
use super::pool::Transaction;
use crate::error::StoreError;
use crate::report::{
    Audience, CellKey, Cells, Change, Folded, JobFigures, RequestFigures, Tally, after, midnight,
};

statements! {
    TRY_LOCK [] = "SELECT pg_catalog.pg_try_advisory_xact_lock(1853187175, 50)";
    /// The notes have no key; their places hold still, as nobody updates them and one transaction at a time folds.
    TAKE_ARRIVALS [INT8] = "DELETE FROM nudge.report_arrivals
      WHERE ctid = ANY (ARRAY(
        SELECT t.place FROM (
          SELECT n.place, n.size, sum(n.size) OVER (ROWS UNBOUNDED PRECEDING) AS total
          FROM (SELECT a.ctid AS place, cardinality(a.ids) AS size FROM nudge.report_arrivals AS a LIMIT $1) AS n
        ) AS t WHERE t.total - t.size < $1)) RETURNING ids";
    TAKE_CHANGES [INT8] = "DELETE FROM nudge.report_changes
      WHERE ctid = ANY (ARRAY(SELECT c.ctid FROM nudge.report_changes AS c LIMIT $1))
      RETURNING recommendation_id, before::text, after::text";
    SELECT_ARRIVALS [] = "SELECT ids FROM nudge.report_arrivals";
    SELECT_CHANGES [] = "SELECT recommendation_id, before::text, after::text FROM nudge.report_changes";
    SELECT_DECISIONS [UUID_ARRAY] = "SELECT l.id, (l.created_at AT TIME ZONE 'UTC')::date, l.archetype_type, l.urgency_level,
        l.primary_recommendation, l.personalized, l.user_id = 'anonymous', l.response_time_ms::bigint
      FROM public.recommendation_logs AS l WHERE l.id = ANY ($1)";
    /// With the options of those in $2, which came about.
    SELECT_DECIDED [UUID_ARRAY, UUID_ARRAY] = "SELECT l.id, (l.created_at AT TIME ZONE 'UTC')::date, l.archetype_type,
        l.urgency_level, l.primary_recommendation, l.personalized, l.user_id = 'anonymous',
        CASE WHEN l.id = ANY ($2) THEN l.options::text END
      FROM public.recommendation_logs AS l WHERE l.id = ANY ($1)";
    SELECT_CELLS [DATE, DATE] = "SELECT day, archetype_type, urgency_level, primary_recommendation, audience, tally::text
      FROM nudge.report_cells WHERE day BETWEEN $1 AND $2";
    SELECT_SOME_CELLS [DATE_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY] = "SELECT c.day, c.archetype_type,
        c.urgency_level, c.primary_recommendation, c.audience, c.tally::text
      FROM unnest($1, $2, $3, $4, $5) AS v (day, archetype_type, urgency_level, primary_recommendation, audience)
      JOIN nudge.report_cells AS c ON c.day = v.day AND c.archetype_type = v.archetype_type
        AND c.urgency_level = v.urgency_level AND c.primary_recommendation = v.primary_recommendation
        AND c.audience = v.audience";
    UPSERT_CELLS [DATE_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY] = "INSERT INTO nudge.report_cells
        (day, archetype_type, urgency_level, primary_recommendation, audience, tally)
      SELECT v.day, v.archetype_type, v.urgency_level, v.primary_recommendation, v.audience, v.tally::jsonb
      FROM unnest($1, $2, $3, $4, $5, $6)
        AS v (day, archetype_type, urgency_level, primary_recommendation, audience, tally)
      ON CONFLICT (day, archetype_type, urgency_level, primary_recommendation, audience)
        DO UPDATE SET tally = excluded.tally";
    SUM_REQUESTS [DATE, DATE] = "SELECT status::bigint, response_time_ms::bigint, sum(requests)::bigint
      FROM nudge.report_requests WHERE day BETWEEN $1 AND $2 GROUP BY status, response_time_ms";
    SUM_RUNS [TIMESTAMPTZ, TIMESTAMPTZ] = "SELECT count(*), count(*) FILTER (WHERE status = 'completed'),
        count(*) FILTER (WHERE status = 'failed'),
        coalesce(sum(failed_count) FILTER (WHERE status = 'completed'), 0)::bigint,
        (SELECT max(demo.started_at) FROM public.archetype_job_logs AS demo WHERE demo.metadata ->> 'trigger' = 'demo')
      FROM public.archetype_job_logs WHERE started_at >= $1 AND started_at < $2";
}

const LOGS: &str = "recommendation_logs";
const CELLS: &str = "report_cells";
const ARRIVALS: &str = "report_arrivals";
const CHANGES: &str = "report_changes";
const REQUESTS: &str = "report_requests";
const RUNS: &str = "archetype_job_logs";

/// Decisions that are looked up in one statement.
const LOOKED_UP: usize = 5_000;

/// Adds new decisions to cells; gives their number.
async fn add_arrivals(
    transaction: &Transaction<'_>,
    notes: &[Row],
    cells: &mut Cells,
) -> Result<usize, StoreError> {
    let mut ids = Vec::new();
    for note in notes {
        ids.extend(get::<Vec<Uuid>>(note, 0, ARRIVALS)?);
    }
    for part in ids.chunks(LOOKED_UP) {
        for row in transaction.query(LOGS, &SELECT_DECISIONS, &[&part]).await? {
            cells.add(key(&row, 1)?, &Tally::of_decision(get(&row, 7, LOGS)?));
        }
    }
    Ok(ids.len())
}

/// Adds changes to cells.
async fn add_changes(
    transaction: &Transaction<'_>,
    notes: &[Row],
    cells: &mut Cells,
) -> Result<(), StoreError> {
    let mut changes = Vec::with_capacity(notes.len());
    for note in notes {
        let before: Option<&str> = get(note, 1, CHANGES)?;
        let change = parsed(note, 2, CHANGES, |after| Change::read(before, after))?;
        changes.push((get::<Uuid>(note, 0, CHANGES)?, change));
    }
    // Several changes of one decision side by side, so that it is looked up once.
    changes.sort_by_key(|(id, _)| *id);
    for part in changes.chunks(LOOKED_UP) {
        let mut ids: Vec<Uuid> = part.iter().map(|(id, _)| *id).collect();
        ids.dedup();
        let mut came_about: Vec<Uuid> =
            part.iter().filter(|(_, change)| change.needs_options()).map(|(id, _)| *id).collect();
        came_about.dedup();
        for row in transaction.query(LOGS, &SELECT_DECIDED, &[&ids, &came_about]).await? {
            let (id, key) = (get::<Uuid>(&row, 0, LOGS)?, key(&row, 1)?);
            let options: Option<&str> = get(&row, 7, LOGS)?;
            let first = part.partition_point(|(other, _)| *other < id);
            for (_, change) in part.iter().skip(first).take_while(|(other, _)| *other == id) {
                cells.add(key, &change.tally(options));
            }
        }
    }
    Ok(())
}

/// Reads what the decisions of a cell have in common, from a column on.
fn key(row: &Row, first: usize) -> Result<CellKey, StoreError> {
    Ok(CellKey {
        day: day(row, first, LOGS)?,
        archetype: parsed(row, first + 1, LOGS, str::parse)?,
        urgency: parsed(row, first + 2, LOGS, str::parse)?,
        default: parsed(row, first + 3, LOGS, str::parse)?,
        audience: Audience::of(get(row, first + 4, LOGS)?, get(row, first + 5, LOGS)?),
    })
}

fn add_stored(rows: &[Row], cells: &mut Cells) -> Result<(), StoreError> {
    for row in rows {
        let key = CellKey {
            day: day(row, 0, CELLS)?,
            archetype: parsed(row, 1, CELLS, str::parse)?,
            urgency: parsed(row, 2, CELLS, str::parse)?,
            default: parsed(row, 3, CELLS, str::parse)?,
            audience: parsed(row, 4, CELLS, str::parse)?,
        };
        let tally: Tally = parsed(row, 5, CELLS, |text| serde_json::from_str(text))?;
        cells.add(key, &tally);
    }
    Ok(())
}

/// Reads the cells of days, those sums added that are not stored yet.
pub(super) async fn cells(
    transaction: &Transaction<'_>,
    first: Date,
    last: Date,
) -> Result<Vec<(CellKey, Tally)>, StoreError> {
    let mut unfolded = Cells::default();
    let arrivals = transaction.query(ARRIVALS, &SELECT_ARRIVALS, &[]).await?;
    add_arrivals(transaction, &arrivals, &mut unfolded).await?;
    let changes = transaction.query(CHANGES, &SELECT_CHANGES, &[]).await?;
    add_changes(transaction, &changes, &mut unfolded).await?;
    let mut cells = Cells::default();
    for (key, tally) in unfolded.iter().filter(|(key, _)| (first..=last).contains(&key.day)) {
        cells.add(*key, tally);
    }
    let stored = transaction.query(CELLS, &SELECT_CELLS, &[&Day(first), &Day(last)]).await?;
    add_stored(&stored, &mut cells)?;
    Ok(cells.into_vec())
}

/// Moves at most so many new decisions, rounded up to whole commits, and so many changes into the cells.
pub(super) async fn fold(transaction: &Transaction<'_>, at_most: usize) -> Result<Folded, StoreError> {
    let locked = transaction.query(CELLS, &TRY_LOCK, &[]).await?;
    if !locked.first().map_or(Ok(false), |row| get(row, 0, CELLS))? {
        return Ok(Folded { more: true, ..Folded::default() });
    }
    let limit = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let most = at_most.max(1);
    let mut cells = Cells::default();
    let arrivals = transaction.query(ARRIVALS, &TAKE_ARRIVALS, &[&limit(most)]).await?;
    let decisions = add_arrivals(transaction, &arrivals, &mut cells).await?;
    let changes = transaction.query(CHANGES, &TAKE_CHANGES, &[&limit(most)]).await?;
    add_changes(transaction, &changes, &mut cells).await?;
    let added = Columns::of(cells.keys());
    let stored = transaction
        .query(
            CELLS,
            &SELECT_SOME_CELLS,
            &[&added.day, &added.archetype, &added.urgency, &added.default, &added.audience],
        )
        .await?;
    add_stored(&stored, &mut cells)?;
    let sums = Columns::of(cells.keys());
    let texts: Vec<String> = cells
        .iter()
        .map(|(_, tally)| serde_json::to_string(tally))
        .collect::<Result<_, _>>()
        .map_err(|error| StoreError::Refused { table: CELLS, detail: error.to_string() })?;
    if !texts.is_empty() {
        let values: super::session::Values<'_> =
            &[&sums.day, &sums.archetype, &sums.urgency, &sums.default, &sums.audience, &texts];
        transaction.execute(CELLS, &UPSERT_CELLS, values).await?;
    }
    let more = decisions >= most || changes.len() == most;
    Ok(Folded { decisions, changes: changes.len(), more })
}

/// Keys by column.
#[derive(Default)]
struct Columns {
    day: Vec<Day>,
    archetype: Vec<&'static str>,
    urgency: Vec<&'static str>,
    default: Vec<&'static str>,
    audience: Vec<&'static str>,
}

impl Columns {
    fn of<'a>(keys: impl Iterator<Item = &'a CellKey>) -> Self {
        let mut columns = Self::default();
        for key in keys {
            columns.day.push(Day(key.day));
            columns.archetype.push(key.archetype.as_str());
            columns.urgency.push(key.urgency.as_str());
            columns.default.push(key.default.as_str());
            columns.audience.push(key.audience.as_str());
        }
        columns
    }
}

/// Adds the log of requests up, over days.
pub(super) async fn requests(
    transaction: &Transaction<'_>,
    first: Date,
    last: Date,
) -> Result<RequestFigures, StoreError> {
    let mut figures = RequestFigures::default();
    for row in transaction.query(REQUESTS, &SUM_REQUESTS, &[&Day(first), &Day(last)]).await? {
        let of = |column| get::<i64>(&row, column, REQUESTS);
        figures.add(of(0)?, of(1)?, of(2)?);
    }
    Ok(figures)
}

/// Adds the log of runs up, over days.
pub(super) async fn runs(
    transaction: &Transaction<'_>,
    first: Date,
    last: Date,
) -> Result<JobFigures, StoreError> {
    let bounds = (At(midnight(first)), At(midnight(after(last))));
    let rows = transaction.query(RUNS, &SUM_RUNS, &[&bounds.0, &bounds.1]).await?;
    let Some(row) = rows.first() else { return Ok(JobFigures::default()) };
    let of = |column| get::<i64>(row, column, RUNS);
    Ok(JobFigures {
        runs: of(0)?,
        completed: of(1)?,
        failed: of(2)?,
        failed_users: of(3)?,
        simulated_until: time_opt(row, 4, RUNS)?,
    })
}
