//! What the defaults come to: the guide's business figures and success criteria, each with its sample, its interval, its
//! target and a verdict; by archetype, urgency, type and week; and day by day.
//!
//! Days are UTC days, so that a report is the same wherever it is made. Where next: `figure.rs` for what each figure is,
//! `statistics.rs` for the intervals, `docs/REPORT.md` for the reader's side of both.

mod figure;
pub mod keep;
mod statistics;
mod text;

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use nudge_engine::{Archetype, TransactionType, UrgencyLevel};
use nudge_store::{Audience, CellKey, Store, StoreError, Tally};
use serde::Serialize;

pub use figure::{Before, Figure, FigureKey, Target, Unit, Verdict};
pub use keep::keep;
pub use statistics::{Interval, Promotion};
pub use text::thousands;

use figure::{Scope, archetype_share, error_rate, figure, job_runs, response_time};

/// Days of a report, both included, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Window {
    /// The first.
    pub first: Date,
    /// The last.
    pub last: Date,
}

impl Window {
    /// The last `days` days, today included; at least one.
    pub fn last_days(days: u32, today: Date) -> Self {
        let back = i64::from(days.max(1)) - 1;
        Self { first: today.saturating_sub(back.days()), last: today }
    }

    /// Number of days.
    pub fn days(&self) -> i64 {
        nudge_engine::days_between(self.first, self.last) + 1
    }

    /// The span of the same length before.
    pub fn before(&self) -> Self {
        let days = self.days().days();
        Self { first: self.first.saturating_sub(days), last: self.last.saturating_sub(days) }
    }

    fn contains(&self, day: Date) -> bool {
        (self.first..=self.last).contains(&day)
    }
}

/// By what figures are taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// The requester's archetype, as the decision used it.
    Archetype,
    /// The band of days until check-in.
    Urgency,
    /// The pre-selected type.
    Type,
    /// The week, from Monday, in which the decision was made.
    Week,
}

impl By {
    /// Every way, with its word.
    pub const ALL: [(&'static str, Self); 4] = [
        ("archetype", Self::Archetype),
        ("urgency", Self::Urgency),
        ("type", Self::Type),
        ("week", Self::Week),
    ];

    /// Finds the way of a word.
    ///
    /// # Errors
    /// The words that there are.
    pub fn parse(word: &str) -> Result<Self, String> {
        among(&Self::ALL, word)
    }
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(Self::ALL.iter().find(|(_, by)| by == self).map_or("", |(word, _)| word))
    }
}

/// Finds a word among those that there are.
fn among<T: Copy>(words: &[(&str, T)], word: &str) -> Result<T, String> {
    match words.iter().find(|(known, _)| *known == word) {
        Some((_, value)) => Ok(*value),
        None => {
            let known: Vec<&str> = words.iter().map(|(known, _)| *known).collect();
            Err(format!("not one of {}", known.join(", ")))
        }
    }
}

/// Which decisions the figures are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    /// Decisions made from the user's own facts.
    #[default]
    Personalized,
    /// Neutral defaults of signed-in users.
    Neutral,
    /// Neutral defaults of anonymous callers.
    Anonymous,
    /// Every decision.
    All,
}

impl Of {
    /// Every choice, with its word.
    pub const ALL: [(&'static str, Self); 4] = [
        ("personalized", Self::Personalized),
        ("neutral", Self::Neutral),
        ("anonymous", Self::Anonymous),
        ("all", Self::All),
    ];

    /// Finds the choice of a word.
    ///
    /// # Errors
    /// The words that there are.
    pub fn parse(word: &str) -> Result<Self, String> {
        among(&Self::ALL, word)
    }

    /// Says which decisions are meant.
    pub const fn described(self) -> &'static str {
        match self {
            Self::Personalized => "the personalized ones",
            Self::Neutral => "the neutral ones",
            Self::Anonymous => "the anonymous ones",
            Self::All => "all of them",
        }
    }

    fn takes(self, audience: Audience) -> bool {
        match self {
            Self::Personalized => audience == Audience::Personalized,
            Self::Neutral => audience == Audience::Neutral,
            Self::Anonymous => audience == Audience::Anonymous,
            Self::All => true,
        }
    }
}

/// What a report is to be about.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// The days.
    pub window: Window,
    /// Which decisions.
    pub of: Of,
    /// By what they are taken apart, if at all.
    pub by: Option<By>,
}

/// Decisions of the window, by audience.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Decisions {
    /// All of them.
    pub total: i64,
    /// Made from the user's own facts.
    pub personalized: i64,
    /// Neutral defaults of signed-in users.
    pub neutral: i64,
    /// Neutral defaults of anonymous callers.
    pub anonymous: i64,
}

/// Scores given, by score and by kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Scores {
    /// How often 0, 1, … 10 was given.
    pub counts: [i64; 11],
    /// The same by kind.
    #[serde(flatten)]
    pub kinds: Promotion,
}

/// A figure of one archetype.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfArchetype {
    /// The archetype.
    pub archetype: Archetype,
    /// Its figure.
    #[serde(flatten)]
    pub figure: Figure,
}

/// The figures of one part.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// Which part: a wire word, or a week as `2026-W48`.
    pub key: String,
    /// Its figures, in the order of [`FigureKey::OF_DECISIONS`].
    pub figures: Vec<Figure>,
}

/// The figures by something.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Breakdown {
    /// By what.
    pub by: By,
    /// The parts, in their usual order; weeks by time, and only those with a decision.
    pub groups: Vec<Group>,
}

/// A report.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The days.
    pub window: Window,
    /// Those that are compared with.
    pub before: Window,
    /// When it was made.
    pub generated_at: Timestamp,
    /// Which decisions the figures are of.
    pub of: Of,
    /// How many there were.
    pub decisions: Decisions,
    /// Decisions up to then were simulated by `nudge demo`; none: nothing was.
    pub simulated_until: Option<Timestamp>,
    /// The figures, those of the whole service last.
    pub figures: Vec<Figure>,
    /// The follow rate of each archetype.
    pub follow_rates: Vec<OfArchetype>,
    /// The archetypes of people, as they are stored now.
    pub archetypes: Vec<OfArchetype>,
    /// The scores given.
    pub scores: Scores,
    /// Follow rate, submissions, answers and money by audience, whichever the figures are of.
    pub audiences: Vec<Group>,
    /// The figures taken apart.
    pub breakdown: Option<Breakdown>,
}

/// The figures that are told by audience.
const OF_AUDIENCES: [FigureKey; 5] = [
    FigureKey::FollowRate,
    FigureKey::SubmittedRate,
    FigureKey::AcceptedRate,
    FigureKey::AverageTransactionValue,
    FigureKey::PlatformIncome,
];

/// Makes a report.
///
/// # Errors
/// When the database cannot be read.
pub async fn report(store: &Store, question: Question, now: Timestamp) -> Result<Report, StoreError> {
    let Question { window, of, by } = question;
    let before = window.before();
    let cells = store.report_cells(before.first, window.last).await?;
    let requests = store.request_figures(window.first, window.last).await?;
    let job = store.job_figures(window.first, window.last).await?;
    let people = store.archetype_counts().await?;

    let (now_cells, then_cells) = (over_days(&cells, window), over_days(&cells, before));
    let sums = Sums { cells: &now_cells, of, window };
    let all = sums.of(|_| true);
    let then = Sums { cells: &then_cells, of, window: before }.of(|_| true);
    let mut figures: Vec<Figure> =
        FigureKey::OF_DECISIONS.iter().map(|key| figure(*key, &all, Scope::All(&then))).collect();
    figures.extend([error_rate(&requests), response_time(&requests), job_runs(&job)]);
    let follow_rates = Archetype::ALL
        .iter()
        .map(|archetype| OfArchetype {
            archetype: *archetype,
            figure: figure(
                FigureKey::FollowRate,
                &sums.of(|key| key.archetype == *archetype),
                Scope::Archetype(*archetype),
            ),
        })
        .collect();
    let audiences = Audience::ALL
        .iter()
        .map(|audience| {
            let tally = Sums { of: Of::All, ..sums }.of(|key| key.audience == *audience);
            let figures = OF_AUDIENCES.iter().map(|key| figure(*key, &tally, Scope::Part)).collect();
            Group { key: audience.as_str().to_owned(), figures }
        })
        .collect();
    Ok(Report {
        window,
        before,
        generated_at: now,
        of,
        decisions: decisions(&now_cells),
        simulated_until: job.simulated_until,
        figures,
        follow_rates,
        archetypes: shares(&people),
        scores: scores(&all),
        audiences,
        // Weeks are made of days.
        breakdown: by.map(|by| match by {
            By::Week => breakdown(Sums { cells: &cells, ..sums }, by),
            By::Archetype | By::Urgency | By::Type => breakdown(sums, by),
        }),
    })
}

/// Adds up the days of a window, the rest of the keys kept: many cells become few, which are then added up again and again.
fn over_days(cells: &[(CellKey, Tally)], window: Window) -> Vec<(CellKey, Tally)> {
    let mut sums: BTreeMap<CellKey, Tally> = BTreeMap::new();
    for (key, tally) in cells.iter().filter(|(key, _)| window.contains(key.day)) {
        sums.entry(CellKey { day: window.first, ..*key }).or_default().add(tally);
    }
    sums.into_iter().collect()
}

fn decisions(cells: &[(CellKey, Tally)]) -> Decisions {
    let mut decisions = Decisions::default();
    for (key, tally) in cells {
        decisions.total += tally.decisions;
        match key.audience {
            Audience::Personalized => decisions.personalized += tally.decisions,
            Audience::Neutral => decisions.neutral += tally.decisions,
            Audience::Anonymous => decisions.anonymous += tally.decisions,
        }
    }
    decisions
}

fn shares(people: &[(Archetype, u64)]) -> Vec<OfArchetype> {
    let count = |archetype: Archetype| {
        let found = people.iter().find(|(of, _)| *of == archetype).map_or(0, |(_, count)| *count);
        i64::try_from(found).unwrap_or(i64::MAX)
    };
    let all = Archetype::ALL.iter().map(|archetype| count(*archetype)).sum();
    Archetype::ALL
        .iter()
        .map(|archetype| OfArchetype {
            archetype: *archetype,
            figure: archetype_share(*archetype, count(*archetype), all),
        })
        .collect()
}

fn scores(tally: &Tally) -> Scores {
    let mut counts = [0; 11];
    for (score, times) in tally.scores.iter() {
        if let Some(count) = usize::try_from(score).ok().and_then(|score| counts.get_mut(score)) {
            *count += times;
        }
    }
    Scores { counts, kinds: Promotion::of(&tally.scores) }
}

/// The cells of a window and an audience.
#[derive(Clone, Copy)]
struct Sums<'a> {
    cells: &'a [(CellKey, Tally)],
    of: Of,
    window: Window,
}

impl Sums<'_> {
    /// Adds up the cells that are wanted.
    fn of(&self, wanted: impl Fn(&CellKey) -> bool) -> Tally {
        let mut sum = Tally::default();
        for (key, tally) in self.cells {
            if self.window.contains(key.day) && self.of.takes(key.audience) && wanted(key) {
                sum.add(tally);
            }
        }
        sum
    }
}

fn group(key: String, tally: &Tally, scope: Scope<'_>) -> Group {
    Group { key, figures: FigureKey::OF_DECISIONS.iter().map(|key| figure(*key, tally, scope)).collect() }
}

fn by_week(sums: Sums<'_>) -> Breakdown {
    let groups = weeks(sums.window)
        .into_iter()
        .map(|week| {
            let tally = Sums { window: week, ..sums }.of(|_| true);
            group(week_name(week.first), &tally, Scope::Part)
        })
        .filter(|group| group.figures.iter().any(|figure| figure.n > 0))
        .collect();
    Breakdown { by: By::Week, groups }
}

fn breakdown(sums: Sums<'_>, by: By) -> Breakdown {
    let groups = match by {
        By::Archetype => Archetype::ALL
            .iter()
            .map(|archetype| {
                let tally = sums.of(|key| key.archetype == *archetype);
                group(archetype.to_string(), &tally, Scope::Archetype(*archetype))
            })
            .collect(),
        By::Urgency => UrgencyLevel::ALL
            .iter()
            .map(|urgency| group(urgency.to_string(), &sums.of(|key| key.urgency == *urgency), Scope::Part))
            .collect(),
        By::Type => TransactionType::ALL
            .iter()
            .map(|kind| group(kind.to_string(), &sums.of(|key| key.default == *kind), Scope::Part))
            .collect(),
        By::Week => return by_week(sums),
    };
    Breakdown { by, groups }
}

/// Cuts a window into weeks from Monday; the first and the last may be shorter.
fn weeks(window: Window) -> Vec<Window> {
    let mut weeks = Vec::new();
    let mut first = window.first;
    loop {
        let sunday = i64::from(6 - first.weekday().to_monday_zero_offset());
        let last = first.saturating_add(sunday.days()).min(window.last);
        weeks.push(Window { first, last });
        match last.tomorrow() {
            Ok(next) if last < window.last => first = next,
            _ => return weeks,
        }
    }
}

/// Names the week of a day as ISO 8601 does.
fn week_name(day: Date) -> String {
    let week = day.iso_week_date();
    format!("{:04}-W{:02}", week.year(), week.week())
}

/// One day of a figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrendPoint {
    /// The day, UTC.
    pub day: Date,
    /// The value; none of nothing.
    pub value: Option<f64>,
    /// Size of the sample.
    pub n: i64,
    /// 95 %.
    pub interval: Option<Interval>,
}

/// A figure, day by day.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trend {
    /// The figure.
    pub figure: FigureKey,
    /// One point a day of the window, also where nothing happened.
    pub points: Vec<TrendPoint>,
}

/// Follows figures day by day; those of people now, [`FigureKey::ArchetypeShare`], have no past and give points without a
/// value.
///
/// # Errors
/// When the database cannot be read.
pub async fn trends(
    store: &Store,
    window: Window,
    of: Of,
    figures: &[FigureKey],
) -> Result<Vec<Trend>, StoreError> {
    let cells = store.report_cells(window.first, window.last).await?;
    let mut trends: Vec<Trend> =
        figures.iter().map(|figure| Trend { figure: *figure, points: Vec::new() }).collect();
    let asks = |wanted: &[FigureKey]| figures.iter().any(|figure| wanted.contains(figure));
    for offset in 0..window.days() {
        let day = window.first.saturating_add(offset.days());
        let tally = Sums { cells: &cells, of, window: Window { first: day, last: day } }.of(|_| true);
        let requests = match asks(&[FigureKey::ErrorRate, FigureKey::ResponseTimeP95]) {
            true => store.request_figures(day, day).await?,
            false => Default::default(),
        };
        let job = match asks(&[FigureKey::JobRuns]) {
            true => store.job_figures(day, day).await?,
            false => Default::default(),
        };
        for trend in &mut trends {
            let figure = match trend.figure {
                FigureKey::ErrorRate => error_rate(&requests),
                FigureKey::ResponseTimeP95 => response_time(&requests),
                FigureKey::JobRuns => job_runs(&job),
                key => figure(key, &tally, Scope::Part),
            };
            trend.points.push(TrendPoint {
                day,
                value: figure.value,
                n: figure.n,
                interval: figure.interval,
            });
        }
    }
    Ok(trends)
}

/// Follows one figure of personalized decisions over the last days, today included.
///
/// # Errors
/// When the database cannot be read.
pub async fn trend(
    store: &Store,
    figure: FigureKey,
    days: u32,
    today: Date,
) -> Result<Vec<TrendPoint>, StoreError> {
    let window = Window::last_days(days, today);
    let trends = trends(store, window, Of::Personalized, &[figure]).await?;
    Ok(trends.into_iter().next().map_or_else(Vec::new, |trend| trend.points))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn windows_are_whole_days_and_the_span_before_has_as_many() {
        let week = Window::last_days(7, date(2026, 11, 24));
        assert_eq!(week, Window { first: date(2026, 11, 18), last: date(2026, 11, 24) });
        assert_eq!(week.days(), 7);
        assert_eq!(week.before(), Window { first: date(2026, 11, 11), last: date(2026, 11, 17) });
        assert_eq!(Window::last_days(0, date(2026, 11, 24)).days(), 1);
    }

    #[test]
    fn weeks_begin_on_monday_and_are_named_as_iso_does() {
        let window = Window { first: date(2026, 12, 30), last: date(2027, 1, 12) };
        let names: Vec<_> = weeks(window).iter().map(|w| (week_name(w.first), w.days())).collect();
        assert_eq!(
            names,
            [("2026-W53".to_owned(), 5), ("2027-W01".to_owned(), 7), ("2027-W02".to_owned(), 2)]
        );
        assert_eq!(weeks(Window::last_days(1, date(2026, 11, 23))).len(), 1);
    }
}
