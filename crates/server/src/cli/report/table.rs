//! A report as aligned text or as Markdown.

use std::fmt::Write as _;

use crate::usecases::report::{Breakdown, Figure, Group, OfArchetype, Report, Scores, Verdict, thousands};

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// For a terminal or a file.
    Text {
        /// Whether verdicts have colours.
        colour: bool,
    },
    /// To be pasted.
    Markdown,
}

/// Width of the longest bar.
const BAR: i64 = 40;

/// Writes a report.
pub(super) fn write(report: &Report, style: Style) -> String {
    let mut out = Out { text: String::new(), style };
    let (window, before) = (report.window, report.before);
    out.title(&format!("Report of {} to {}", window.first, window.last));
    let decisions = report.decisions;
    out.paragraph(&format!(
        "{} days, UTC; compared with {} to {}.\n\
         {} decisions: {} personalized, {} neutral, {} anonymous. The figures are of {}.",
        window.days(),
        before.first,
        before.last,
        thousands(decisions.total),
        thousands(decisions.personalized),
        thousands(decisions.neutral),
        thousands(decisions.anonymous),
        report.of.described(),
    ));
    if let Some(until) = report.simulated_until {
        out.paragraph(&format!(
            "Everything up to {} was simulated by `nudge demo`.",
            until.strftime("%F %R UTC")
        ));
    }
    let mut figures = Table::new(&["Figure", "Value", "95 % interval", "Of", "Target", "Verdict"], &[1]);
    figures.rows.extend(report.figures.iter().map(row));
    out.table(&figures);

    out.heading("Follow rate by archetype");
    out.table(&of_archetypes(&report.follow_rates));
    out.heading("People by archetype, as of now");
    out.table(&of_archetypes(&report.archetypes));
    let audiences: Vec<Group> = report
        .audiences
        .iter()
        .filter(|group| group.figures.iter().any(|figure| figure.n > 0))
        .cloned()
        .collect();
    if audiences.len() > 1 {
        out.heading("By audience");
        out.table(&groups("Audience", &audiences));
    }
    if let Some(Breakdown { by, groups: parts }) = &report.breakdown {
        out.heading(&format!("By {by}"));
        let mut name = by.to_string();
        if let Some(first) = name.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        out.table(&groups(&name, parts));
    }
    out.scores(&report.scores);
    out.text.truncate(out.text.trim_end().len());
    out.text
}

fn row(figure: &Figure) -> Row {
    Row {
        cells: vec![
            figure.label.to_owned(),
            figure.value_text(),
            figure.interval_text(),
            figure.n_text(),
            figure.target_text(),
            figure.verdict_text().to_owned(),
        ],
        verdict: figure.verdict,
    }
}

fn of_archetypes(figures: &[OfArchetype]) -> Table {
    let mut table = Table::new(&["Archetype", "Value", "95 % interval", "Of", "Target", "Verdict"], &[1]);
    for OfArchetype { archetype, figure } in figures {
        let mut row = row(figure);
        if let Some(cell) = row.cells.first_mut() {
            *cell = archetype.to_string();
        }
        table.rows.push(row);
    }
    table
}

/// One line a figure and part, so that the parts of a figure stand under one another.
fn groups(name: &str, groups: &[Group]) -> Table {
    let judged = groups.iter().flat_map(|group| &group.figures).any(|figure| figure.target.is_some());
    let mut heads = vec!["Figure", name, "Value", "95 % interval", "Of"];
    if judged {
        heads.extend(["Target", "Verdict"]);
    }
    let mut table = Table::new(&heads, &[2]);
    let figures = groups.first().map_or(0, |group| group.figures.len());
    for place in 0..figures {
        for group in groups {
            let Some(figure) = group.figures.get(place) else { continue };
            let mut row = row(figure);
            row.cells.insert(1, group.key.clone());
            row.cells.truncate(heads.len());
            table.rows.push(row);
        }
    }
    table
}

struct Row {
    cells: Vec<String>,
    verdict: Option<Verdict>,
}

struct Table {
    heads: Vec<String>,
    /// Columns of numbers.
    right: Vec<usize>,
    rows: Vec<Row>,
}

impl Table {
    fn new(heads: &[&str], right: &[usize]) -> Self {
        Self {
            heads: heads.iter().map(|head| (*head).to_owned()).collect(),
            right: right.to_vec(),
            rows: Vec::new(),
        }
    }

    fn widths(&self) -> Vec<usize> {
        let width = |text: &String| text.chars().count();
        let mut widths: Vec<usize> = self.heads.iter().map(width).collect();
        for row in &self.rows {
            for (widest, cell) in widths.iter_mut().zip(&row.cells) {
                *widest = width(cell).max(*widest);
            }
        }
        widths
    }
}

struct Out {
    text: String,
    style: Style,
}

impl Out {
    fn line(&mut self, text: impl std::fmt::Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{text}");
    }

    fn title(&mut self, text: &str) {
        match self.style {
            Style::Markdown => self.line(format_args!("# {text}\n")),
            Style::Text { colour } => self.line(painted(text, "1", colour)),
        }
    }

    fn heading(&mut self, text: &str) {
        match self.style {
            Style::Markdown => self.line(format_args!("## {text}\n")),
            Style::Text { colour } => self.line(painted(text, "1", colour)),
        }
    }

    fn paragraph(&mut self, text: &str) {
        self.line(format_args!("{text}\n"));
    }

    fn table(&mut self, table: &Table) {
        match self.style {
            Style::Markdown => self.markdown(table),
            Style::Text { colour } => self.aligned(table, colour),
        }
        self.line("");
    }

    fn markdown(&mut self, table: &Table) {
        self.line(format_args!("| {} |", table.heads.join(" | ")));
        let rules: Vec<&str> =
            (0..table.heads.len()).map(|n| if table.right.contains(&n) { "--:" } else { "---" }).collect();
        self.line(format_args!("| {} |", rules.join(" | ")));
        for row in &table.rows {
            self.line(format_args!("| {} |", row.cells.join(" | ")));
        }
    }

    fn aligned(&mut self, table: &Table, colour: bool) {
        let widths = table.widths();
        let line = |cells: &[String], skipped: bool| {
            let mut line = String::new();
            for (place, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                let cell = if skipped && place == 0 { "" } else { cell.as_str() };
                let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
                let (before, after) = if table.right.contains(&place) {
                    (padding.as_str(), "")
                } else {
                    ("", padding.as_str())
                };
                // Writing to a String cannot fail.
                let _ = write!(line, "  {before}{cell}{after}");
            }
            line.trim_end().to_owned()
        };
        self.line(painted(&line(&table.heads, false), "2", colour));
        let mut last = None;
        for row in &table.rows {
            let text = line(&row.cells, last == row.cells.first());
            last = row.cells.first();
            self.line(match row.verdict {
                Some(verdict) => coloured(&text, verdict, colour),
                None => text,
            });
        }
    }

    fn scores(&mut self, scores: &Scores) {
        self.heading("Scores");
        let n = scores.kinds.n();
        let kinds = scores.kinds;
        let mut table = Table::new(&["Score", "Given", "Share", ""], &[0, 1, 2]);
        let most = scores.counts.iter().copied().max().unwrap_or(0).max(1);
        for (score, count) in scores.counts.iter().enumerate() {
            let share =
                if n > 0 { format!("{:.1} %", 100.0 * *count as f64 / n as f64) } else { "–".to_owned() };
            let bar = usize::try_from((count * BAR + most - 1) / most).unwrap_or(0);
            table.rows.push(Row {
                cells: vec![score.to_string(), thousands(*count), share, "█".repeat(bar)],
                verdict: None,
            });
        }
        self.table(&table);
        self.paragraph(&format!(
            "{} promoters (9, 10), {} passives (7, 8), {} detractors (0 to 6).",
            thousands(kinds.promoters),
            thousands(kinds.passives),
            thousands(kinds.detractors)
        ));
    }
}

/// Colours the verdict at the end of a line.
fn coloured(line: &str, verdict: Verdict, colour: bool) -> String {
    let code = match verdict {
        Verdict::Met => "32",
        Verdict::NotMet => "31",
        Verdict::NotEnoughData => "33",
    };
    match line.strip_suffix(verdict.as_str()) {
        Some(rest) => format!("{rest}{}", painted(verdict.as_str(), code, colour)),
        None => line.to_owned(),
    }
}

fn painted(text: &str, code: &str, colour: bool) -> String {
    if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}
