//! Decisions: the insert of many at once, and the read of one with everything that came of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use nudge_engine::{EntityId, UserId};
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::convert::{
    At, Day, Doing, day, get, is_missing_partition, parsed, parsed_opt, statements, store_error, time,
};
use super::lanes::Lanes;
use super::outcome;
use super::pool::{Pool, Transaction, in_transaction};
use crate::error::StoreError;
use crate::outcome::Outcome;
use crate::record::{DecisionRow, StoredDecision};

statements! {
    /// The hot statement. One row says which decisions are new, for the sums that reports are made of.
    INSERT [UUID_ARRAY, TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, DATE_ARRAY, TEXT_ARRAY, TEXT_ARRAY, FLOAT8_ARRAY, INT8_ARRAY,
      TEXT_ARRAY, TEXT_ARRAY, TEXT_ARRAY, BOOL_ARRAY, FLOAT8_ARRAY, FLOAT8_ARRAY, TEXT_ARRAY, TEXT_ARRAY, INT8_ARRAY,
      TIMESTAMPTZ_ARRAY, TEXT_ARRAY, TEXT_ARRAY] = "WITH new AS (INSERT INTO public.recommendation_logs (
        id, user_id, roommate_id, lease_id, target_date, primary_recommendation, archetype_type,
        archetype_confidence, days_until_checkin, urgency_level, rule, policy, personalized, propensity,
        confidence, session_id, user_agent, response_time_ms, created_at, options, context)
      SELECT v.id, v.user_id, v.roommate_id, v.lease_id, v.target_date, v.primary_recommendation, v.archetype_type,
        v.archetype_confidence, v.days_until_checkin, v.urgency_level, v.rule, v.policy, v.personalized, v.propensity,
        v.confidence, v.session_id, v.user_agent, v.response_time_ms, v.created_at, v.options::jsonb, v.context::jsonb
      FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
        AS v (id, user_id, roommate_id, lease_id, target_date, primary_recommendation, archetype_type,
          archetype_confidence, days_until_checkin, urgency_level, rule, policy, personalized, propensity,
          confidence, session_id, user_agent, response_time_ms, created_at, options, context)
      ON CONFLICT DO NOTHING
      RETURNING id), noted AS (
        INSERT INTO nudge.report_arrivals (ids) SELECT array_agg(new.id) FROM new HAVING count(*) > 0
      )
      SELECT new.id FROM new";
    SELECT [UUID] = "SELECT
        id, user_id, roommate_id, lease_id, target_date, primary_recommendation, archetype_type,
        archetype_confidence, days_until_checkin, urgency_level, rule, policy, personalized, propensity,
        confidence, session_id, user_agent, response_time_ms, created_at, options::text, context::text,
        user_selected, followed_recommendation, time_to_decision_seconds, request_submitted, request_accepted,
        final_transaction_type, nps_score
      FROM public.recommendation_logs WHERE id = $1";
}

const TABLE: &str = "recommendation_logs";
/// The user of a decision that was made for nobody in particular.
pub(super) const ANONYMOUS: &str = "anonymous";

/// Inserts a batch in one statement, which is its own transaction. When a row of it is refused, each of the others still
/// gets in.
///
/// # Errors
/// When nothing was written.
pub(super) async fn insert_batch(
    pool: &Pool,
    rows: &[Arc<DecisionRow>],
) -> Result<Vec<Result<(), StoreError>>, StoreError> {
    let connection = pool.take().await?;
    let columns = Columns::of(rows.iter().map(AsRef::as_ref));
    let refused = match connection.query(&INSERT, &columns.values()).await? {
        Ok(_) => {
            connection.give_back();
            return Ok(rows.iter().map(|_| Ok(())).collect());
        }
        Err(error) => error,
    };
    let Sorted::Row(_) = sorted(&refused) else {
        return Err(store_error(&refused, TABLE, Doing::Writing));
    };
    // One of the rows is at fault. The statement has failed, its connection has not.
    connection.give_back();
    let rows: Vec<&DecisionRow> = rows.iter().map(AsRef::as_ref).collect();
    in_transaction!(pool, transaction => {
        let answers = insert_each(&transaction, &rows).await;
        answers.map(|answers| answers.into_iter().map(|answer| answer.map(drop)).collect())
    })
}

/// Inserts rows within a transaction; says of each whether it was not there yet, or why it cannot be.
///
/// # Errors
/// When the transaction is lost.
pub(super) async fn insert_each(
    transaction: &Transaction<'_>,
    rows: &[&DecisionRow],
) -> Result<Vec<Result<bool, StoreError>>, StoreError> {
    let mut answers: Vec<Result<bool, StoreError>> = Vec::with_capacity(rows.len());
    // Halves of what was refused, the first one on top.
    let mut parts = vec![rows];
    while let Some(part) = parts.pop() {
        transaction.run("SAVEPOINT rows").await?;
        let columns = Columns::of(part.iter().copied());
        let refused = match transaction.attempt(&INSERT, &columns.values()).await? {
            Ok(inserted) => {
                transaction.run("RELEASE rows").await?;
                let new: BTreeSet<Uuid> =
                    inserted.iter().map(|row| get(row, 0, TABLE)).collect::<Result<_, _>>()?;
                answers.extend(part.iter().map(|row| Ok(new.contains(&row.id))));
                continue;
            }
            Err(error) => error,
        };
        let Sorted::Row(error) = sorted(&refused) else {
            return Err(store_error(&refused, TABLE, Doing::Writing));
        };
        transaction.run("ROLLBACK TO rows; RELEASE rows").await?;
        match part.split_at(part.len() / 2) {
            ([], _) => answers.push(Err(error)),
            (first, second) => parts.extend([second, first]),
        }
    }
    Ok(answers)
}

/// Whose fault an error of an insert is.
enum Sorted {
    /// Of one of the rows.
    Row(StoreError),
    /// Of the database.
    Database,
}

fn sorted(error: &Error) -> Sorted {
    if is_missing_partition(error) {
        return Sorted::Row(StoreError::NoPartition { table: TABLE });
    }
    match store_error(error, TABLE, Doing::Writing) {
        refused @ StoreError::Refused { .. } => Sorted::Row(refused),
        _ => Sorted::Database,
    }
}

/// Rows by column, as the statement takes them.
#[derive(Default)]
struct Columns<'a> {
    id: Vec<Uuid>,
    user_id: Vec<&'a str>,
    roommate_id: Vec<Option<&'a str>>,
    lease_id: Vec<Option<&'a str>>,
    target_date: Vec<Day>,
    primary: Vec<&'a str>,
    archetype: Vec<&'a str>,
    archetype_confidence: Vec<f64>,
    days_until_checkin: Vec<i64>,
    urgency_level: Vec<&'a str>,
    rule: Vec<&'a str>,
    policy: Vec<&'a str>,
    personalized: Vec<bool>,
    propensity: Vec<f64>,
    confidence: Vec<f64>,
    session_id: Vec<Option<&'a str>>,
    user_agent: Vec<Option<&'a str>>,
    response_time_ms: Vec<i64>,
    created_at: Vec<At>,
    options: Vec<&'a str>,
    context: Vec<&'a str>,
}

impl<'a> Columns<'a> {
    fn of(rows: impl Iterator<Item = &'a DecisionRow>) -> Self {
        let mut columns = Self::default();
        for row in rows {
            columns.push(row);
        }
        columns
    }

    fn push(&mut self, row: &'a DecisionRow) {
        self.id.push(row.id);
        self.user_id.push(row.user_id.as_ref().map_or(ANONYMOUS, UserId::as_str));
        self.roommate_id.push(row.roommate_id.as_ref().map(UserId::as_str));
        self.lease_id.push(row.lease_id.as_ref().map(EntityId::as_str));
        self.target_date.push(Day(row.target_date));
        self.primary.push(row.primary.as_str());
        self.archetype.push(row.archetype.as_str());
        self.archetype_confidence.push(row.archetype_confidence);
        self.days_until_checkin.push(row.days_until_checkin);
        self.urgency_level.push(&row.urgency_level);
        self.rule.push(&row.rule);
        self.policy.push(&row.policy);
        self.personalized.push(row.personalized);
        self.propensity.push(row.propensity);
        self.confidence.push(row.confidence);
        self.session_id.push(row.session_id.as_deref());
        self.user_agent.push(row.user_agent.as_deref());
        self.response_time_ms.push(row.response_time_ms);
        self.created_at.push(At(row.created_at));
        self.options.push(&row.options);
        self.context.push(&row.context);
    }

    fn values(&self) -> [&(dyn tokio_postgres::types::ToSql + Sync); 21] {
        [
            &self.id,
            &self.user_id,
            &self.roommate_id,
            &self.lease_id,
            &self.target_date,
            &self.primary,
            &self.archetype,
            &self.archetype_confidence,
            &self.days_until_checkin,
            &self.urgency_level,
            &self.rule,
            &self.policy,
            &self.personalized,
            &self.propensity,
            &self.confidence,
            &self.session_id,
            &self.user_agent,
            &self.response_time_ms,
            &self.created_at,
            &self.options,
            &self.context,
        ]
    }
}

/// Reads a decision with its events.
pub(super) async fn read(lanes: &Lanes, id: Uuid) -> Result<Option<StoredDecision>, StoreError> {
    let found = lanes.query(TABLE, &SELECT, &[&id]).await?;
    let Some(found) = found.first() else { return Ok(None) };
    let (row, outcome) = (decision_row(found)?, outcome_columns(found)?);
    let events = outcome::stored_events(lanes, id).await?;
    Ok(Some(StoredDecision { row, outcome, events }))
}

fn decision_row(row: &Row) -> Result<DecisionRow, StoreError> {
    let user_id = parsed(row, 1, TABLE, |text| match text {
        ANONYMOUS => Ok(None),
        user => UserId::parse(user).map(Some),
    })?;
    Ok(DecisionRow {
        id: get(row, 0, TABLE)?,
        user_id,
        roommate_id: parsed_opt(row, 2, TABLE, UserId::parse)?,
        lease_id: parsed_opt(row, 3, TABLE, EntityId::parse)?,
        target_date: day(row, 4, TABLE)?,
        primary: parsed(row, 5, TABLE, str::parse)?,
        archetype: parsed(row, 6, TABLE, str::parse)?,
        archetype_confidence: get(row, 7, TABLE)?,
        days_until_checkin: get::<i32>(row, 8, TABLE)?.into(),
        urgency_level: get(row, 9, TABLE)?,
        rule: get(row, 10, TABLE)?,
        policy: get(row, 11, TABLE)?,
        personalized: get(row, 12, TABLE)?,
        propensity: get(row, 13, TABLE)?,
        confidence: get(row, 14, TABLE)?,
        session_id: get(row, 15, TABLE)?,
        user_agent: get(row, 16, TABLE)?,
        response_time_ms: get::<i32>(row, 17, TABLE)?.into(),
        created_at: time(row, 18, TABLE)?,
        options: get(row, 19, TABLE)?,
        context: get(row, 20, TABLE)?,
    })
}

fn outcome_columns(row: &Row) -> Result<Outcome, StoreError> {
    let score = get::<Option<i32>>(row, 27, TABLE)?.map(u8::try_from).transpose();
    let detail = |error: std::num::TryFromIntError| StoreError::Inconsistent {
        table: TABLE,
        detail: format!("nps_score: {error}"),
    };
    Ok(Outcome {
        user_selected: parsed_opt(row, 21, TABLE, str::parse)?,
        followed_recommendation: get(row, 22, TABLE)?,
        time_to_decision_seconds: get(row, 23, TABLE)?,
        request_submitted: get(row, 24, TABLE)?,
        request_accepted: get(row, 25, TABLE)?,
        final_transaction_type: parsed_opt(row, 26, TABLE, str::parse)?,
        nps_score: score.map_err(detail)?,
    })
}
