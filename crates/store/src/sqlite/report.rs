//! The sums that reports are made of. Folding reads and adds up on a reader; only what is ready goes to the writer, which
//! keeps it if the sums are still those that were read.

use jiff::civil::Date;
use rusqlite::{Connection, Row, params};

use super::convert::{Within, date, parsed, statements, time_opt, time_text};
use crate::error::StoreError;
use crate::report::{
    Audience, CellKey, Cells, Change, Folded, JobFigures, RequestFigures, Tally, after, midnight,
};

statements! {
    SELECT_STATE = "SELECT last_seq, revision FROM nudge_report_state";
    SELECT_NEW = "SELECT substr(created_at, 1, 10), archetype_type, urgency_level, primary_recommendation, personalized,
        user_id = 'anonymous', response_time_ms, seq
      FROM recommendation_logs WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    /// Of a decision that is gone only the number is there.
    SELECT_CHANGES = "SELECT substr(l.created_at, 1, 10), l.archetype_type, l.urgency_level, l.primary_recommendation,
        l.personalized, l.user_id = 'anonymous', c.change, c.before, c.after, l.options
      FROM nudge_report_changes AS c LEFT JOIN recommendation_logs AS l ON l.id = c.recommendation_id
      ORDER BY c.change LIMIT ?1";
    SELECT_CELL = "SELECT tally FROM nudge_report_cells WHERE day = ?1 AND archetype_type = ?2 AND urgency_level = ?3
      AND primary_recommendation = ?4 AND audience = ?5";
    SELECT_CELLS = "SELECT day, archetype_type, urgency_level, primary_recommendation, audience, tally
      FROM nudge_report_cells WHERE day BETWEEN ?1 AND ?2";
    ADVANCE = "UPDATE nudge_report_state SET last_seq = ?1, revision = revision + 1 WHERE revision = ?2";
    UPSERT_CELL = "INSERT INTO nudge_report_cells (day, archetype_type, urgency_level, primary_recommendation, audience,
        tally) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
      ON CONFLICT (day, archetype_type, urgency_level, primary_recommendation, audience)
        DO UPDATE SET tally = excluded.tally";
    DELETE_CHANGES = "DELETE FROM nudge_report_changes WHERE change <= ?1";
    SUM_REQUESTS = "SELECT status, response_time_ms, sum(requests) FROM nudge_report_requests
      WHERE day BETWEEN ?1 AND ?2 GROUP BY status, response_time_ms";
    SUM_RUNS = "SELECT count(*), count(CASE WHEN status = 'completed' THEN 1 END),
        count(CASE WHEN status = 'failed' THEN 1 END),
        coalesce(sum(CASE WHEN status = 'completed' THEN failed_count END), 0),
        (SELECT max(demo.started_at) FROM archetype_job_logs AS demo WHERE demo.metadata ->> 'trigger' = 'demo')
      FROM archetype_job_logs WHERE started_at >= ?1 AND started_at < ?2";
}

const LOGS: &str = "recommendation_logs";
const CELLS: &str = "nudge_report_cells";
const CHANGES: &str = "nudge_report_changes";
const STATE: &str = "nudge_report_state";
const REQUESTS: &str = "nudge_report_requests";
const RUNS: &str = "archetype_job_logs";

/// What is not in the sums, added up, and how far it goes.
struct Unfolded {
    cells: Cells,
    decisions: usize,
    changes: usize,
    last_seq: i64,
    last_change: Option<i64>,
}

/// Adds up at most so many new decisions and changes that are not in the sums.
fn unfolded(conn: &Connection, last_seq: i64, at_most: i64) -> Result<Unfolded, StoreError> {
    let mut unfolded =
        Unfolded { cells: Cells::default(), decisions: 0, changes: 0, last_seq, last_change: None };
    let mut statement = conn.prepare_cached(SELECT_NEW).within(LOGS)?;
    let mut rows = statement.query((last_seq, at_most)).within(LOGS)?;
    while let Some(row) = rows.next().within(LOGS)? {
        unfolded.cells.add(key(row).within(LOGS)?, &Tally::of_decision(row.get(6).within(LOGS)?));
        unfolded.last_seq = row.get(7).within(LOGS)?;
        unfolded.decisions += 1;
    }
    let mut statement = conn.prepare_cached(SELECT_CHANGES).within(CHANGES)?;
    let mut rows = statement.query([at_most]).within(CHANGES)?;
    while let Some(row) = rows.next().within(CHANGES)? {
        unfolded.last_change = Some(row.get(6).within(CHANGES)?);
        unfolded.changes += 1;
        if row.get_ref(0).within(CHANGES)? != rusqlite::types::ValueRef::Null {
            unfolded.cells.add(key(row).within(CHANGES)?, &changed(row).within(CHANGES)?);
        }
    }
    Ok(unfolded)
}

/// Reads what a change adds.
fn changed(row: &Row<'_>) -> rusqlite::Result<Tally> {
    let before: Option<String> = row.get(7)?;
    let change = parsed(row, 8, |after| Change::read(before.as_deref(), after))?;
    let options: Option<String> = row.get(9)?;
    Ok(change.tally(options.as_deref()))
}

fn key(row: &Row<'_>) -> rusqlite::Result<CellKey> {
    Ok(CellKey {
        day: date(row, 0)?,
        archetype: parsed(row, 1, str::parse)?,
        urgency: parsed(row, 2, str::parse)?,
        default: parsed(row, 3, str::parse)?,
        audience: Audience::of(row.get(4)?, row.get(5)?),
    })
}

fn state(conn: &Connection) -> Result<(i64, i64), StoreError> {
    let mut statement = conn.prepare_cached(SELECT_STATE).within(STATE)?;
    statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).within(STATE)
}

/// Reads the cells of days, those sums added that are not stored yet.
pub(super) fn cells(conn: &Connection, first: Date, last: Date) -> Result<Vec<(CellKey, Tally)>, StoreError> {
    let (last_seq, _) = state(conn)?;
    let mut cells = Cells::default();
    for (key, tally) in unfolded(conn, last_seq, i64::MAX)?.cells.iter() {
        if (first..=last).contains(&key.day) {
            cells.add(*key, tally);
        }
    }
    let mut statement = conn.prepare_cached(SELECT_CELLS).within(CELLS)?;
    let mut rows = statement.query((first.to_string(), last.to_string())).within(CELLS)?;
    while let Some(row) = rows.next().within(CELLS)? {
        let read = || {
            let key = CellKey {
                day: date(row, 0)?,
                archetype: parsed(row, 1, str::parse)?,
                urgency: parsed(row, 2, str::parse)?,
                default: parsed(row, 3, str::parse)?,
                audience: parsed(row, 4, str::parse)?,
            };
            Ok((key, tally(row, 5)?))
        };
        let (key, tally) = read().within(CELLS)?;
        cells.add(key, &tally);
    }
    Ok(cells.into_vec())
}

fn tally(row: &Row<'_>, column: usize) -> rusqlite::Result<Tally> {
    parsed(row, column, |text| serde_json::from_str(text))
}

/// Sums that are ready to be stored, if those that they were made from are still there.
pub(super) struct Ready {
    revision: i64,
    last_seq: i64,
    last_change: Option<i64>,
    cells: Vec<(CellKey, String)>,
    folded: Folded,
}

/// Adds at most so many new decisions, and as many changes, to the cells that they fall into.
pub(super) fn prepare(conn: &Connection, at_most: usize) -> Result<Option<Ready>, StoreError> {
    let (last_seq, revision) = state(conn)?;
    let limit = i64::try_from(at_most).unwrap_or(i64::MAX);
    let new = unfolded(conn, last_seq, limit)?;
    if new.decisions == 0 && new.changes == 0 {
        return Ok(None);
    }
    let mut cells = Vec::new();
    for (key, added) in new.cells.iter() {
        let mut statement = conn.prepare_cached(SELECT_CELL).within(CELLS)?;
        let mut rows = statement.query(rusqlite::params_from_iter(key_params(key))).within(CELLS)?;
        let mut sum = match rows.next().within(CELLS)? {
            Some(row) => tally(row, 0).within(CELLS)?,
            None => Tally::default(),
        };
        sum.add(added);
        let text = serde_json::to_string(&sum)
            .map_err(|error| StoreError::Refused { table: CELLS, detail: error.to_string() })?;
        cells.push((*key, text));
    }
    let folded = Folded {
        decisions: new.decisions,
        changes: new.changes,
        more: new.decisions == at_most || new.changes == at_most,
    };
    Ok(Some(Ready { revision, last_seq: new.last_seq, last_change: new.last_change, cells, folded }))
}

/// Stores what is ready. Where somebody else has folded meanwhile, nothing is done, and there is more.
pub(super) fn store(conn: &Connection, ready: &Ready) -> Result<Folded, StoreError> {
    let mut statement = conn.prepare_cached(ADVANCE).within(STATE)?;
    if statement.execute((ready.last_seq, ready.revision)).within(STATE)? == 0 {
        return Ok(Folded { more: true, ..Folded::default() });
    }
    let mut statement = conn.prepare_cached(UPSERT_CELL).within(CELLS)?;
    for (key, text) in &ready.cells {
        let [day, archetype, urgency, default, audience] = key_params(key);
        statement.execute(params![day, archetype, urgency, default, audience, text]).within(CELLS)?;
    }
    if let Some(last) = ready.last_change {
        let mut statement = conn.prepare_cached(DELETE_CHANGES).within(CHANGES)?;
        statement.execute([last]).within(CHANGES)?;
    }
    Ok(ready.folded)
}

fn key_params(key: &CellKey) -> [String; 5] {
    [
        key.day.to_string(),
        key.archetype.as_str().to_owned(),
        key.urgency.as_str().to_owned(),
        key.default.as_str().to_owned(),
        key.audience.as_str().to_owned(),
    ]
}

/// Adds the log of requests up, over days.
pub(super) fn requests(conn: &Connection, first: Date, last: Date) -> Result<RequestFigures, StoreError> {
    let mut statement = conn.prepare_cached(SUM_REQUESTS).within(REQUESTS)?;
    let mut rows = statement.query((first.to_string(), last.to_string())).within(REQUESTS)?;
    let mut figures = RequestFigures::default();
    while let Some(row) = rows.next().within(REQUESTS)? {
        let of = |column| row.get(column).within(REQUESTS);
        figures.add(of(0)?, of(1)?, of(2)?);
    }
    Ok(figures)
}

/// Adds the log of runs up, over days.
pub(super) fn runs(conn: &Connection, first: Date, last: Date) -> Result<JobFigures, StoreError> {
    let mut statement = conn.prepare_cached(SUM_RUNS).within(RUNS)?;
    let bounds = (time_text(midnight(first)), time_text(midnight(after(last))));
    let figures = statement.query_row(bounds, |row| {
        Ok(JobFigures {
            runs: row.get(0)?,
            completed: row.get(1)?,
            failed: row.get(2)?,
            failed_users: row.get(3)?,
            simulated_until: time_opt(row, 4)?,
        })
    });
    figures.within(RUNS)
}
