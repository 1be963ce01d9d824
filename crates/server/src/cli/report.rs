//! `nudge report`

mod table;

use std::io::IsTerminal;

use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::{clock, open_existing, output};
use crate::clock::day_of;
use crate::config::Config;
use crate::usecases::report::{self, By, Of, Question, Window};

/// Say what the defaults come to: business figures with intervals, targets and verdicts
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Days are UTC days. A verdict is given where the whole interval is on one side of the target; otherwise there\n\
    is not enough data. docs/REPORT.md defines every figure.\n\n\
    Examples:\n  nudge report\n  nudge report --since 4w --by archetype\n  \
    nudge report --since 2026-11-01 --until 2026-11-14 --json\n  nudge report --since 28d --by week --markdown > report.md"
)]
pub struct Args {
    /// Days back (`7d`), weeks back (`4w`), or the first day (`2026-11-01`)
    #[arg(long, value_name = "SPAN|DATE", default_value = "7d", value_parser = since)]
    since: Since,
    /// The last day, included; default: today
    #[arg(long, value_name = "DATE")]
    until: Option<Date>,
    /// Take the figures apart by archetype, urgency, type or week
    #[arg(long, value_name = "WHAT", value_parser = By::parse)]
    by: Option<By>,
    /// Decisions that count: personalized, neutral, anonymous or all
    #[arg(long, value_name = "AUDIENCE", default_value = "personalized", value_parser = Of::parse)]
    audience: Of,
    /// Print JSON
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print Markdown
    #[arg(long)]
    markdown: bool,
}

/// Where a report begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    /// So many days before its end, the last one included.
    Days(u32),
    /// On a day.
    Day(Date),
}

fn since(text: &str) -> Result<Since, String> {
    let number = |digits: &str| digits.parse::<u32>().ok().filter(|n| (1..=36_500).contains(n));
    let span = text
        .strip_suffix('d')
        .and_then(number)
        .or_else(|| text.strip_suffix('w').and_then(number).and_then(|weeks| weeks.checked_mul(7)));
    match span {
        Some(days) => Ok(Since::Days(days)),
        None => text
            .parse()
            .map(Since::Day)
            .map_err(|_| "neither days (7d), nor weeks (4w), nor a date (2026-11-01)".to_owned()),
    }
}

/// Finds the days that are asked for.
fn window(since: Since, until: Option<Date>, today: Date) -> anyhow::Result<Window> {
    let last = until.unwrap_or(today);
    let first = match since {
        Since::Days(days) => last.checked_sub((i64::from(days) - 1).days())?,
        Since::Day(day) => day,
    };
    if first > last {
        anyhow::bail!(
            "the report would begin on {first} and end on {last}\n  Choose another --since or --until."
        );
    }
    Ok(Window { first, last })
}

pub async fn run(args: Args, config: Config) -> anyhow::Result<()> {
    let now = clock().now();
    let window = window(args.since, args.until, day_of(now, &TimeZone::UTC))?;
    let store = open_existing(&config).await?;
    let question = Question { window, of: args.audience, by: args.by };
    let made = report::report(&store, question, now).await;
    store.close().await;
    let made = made?;
    if args.json {
        return output::json(&made);
    }
    let style = match args.markdown {
        true => table::Style::Markdown,
        false => table::Style::Text { colour: std::io::stdout().is_terminal() },
    };
    output::line(table::write(&made, style))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    #[test]
    fn spans_are_days_weeks_or_a_date() {
        assert_eq!(since("7d"), Ok(Since::Days(7)));
        assert_eq!(since("4w"), Ok(Since::Days(28)));
        assert_eq!(since("2026-11-01"), Ok(Since::Day(date(2026, 11, 1))));
        for bad in ["", "d", "0d", "-1d", "7", "7h", "40000d", "2026-13-01", "yesterday"] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn both_ends_are_included() {
        let today = date(2026, 11, 24);
        let found = |since, until| window(since, until, today).map(|w| (w.first, w.last)).ok();
        assert_eq!(found(Since::Days(1), None), Some((today, today)));
        assert_eq!(found(Since::Days(7), None), Some((date(2026, 11, 18), today)));
        let until = Some(date(2026, 11, 14));
        assert_eq!(found(Since::Days(14), until), Some((date(2026, 11, 1), date(2026, 11, 14))));
        assert_eq!(found(Since::Day(date(2026, 11, 15)), until), None);
    }
}
