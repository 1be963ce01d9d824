//! Figures in words: the same on the command line, in Markdown and on pages.

use super::figure::{Figure, Target, Unit};
use super::statistics::Interval;

/// What stands where there is nothing to tell.
const NOTHING: &str = "–";

impl Figure {
    /// Writes the value with its unit.
    pub fn value_text(&self) -> String {
        self.value.map_or_else(|| NOTHING.to_owned(), |value| self.unit.text(value))
    }

    /// Writes the interval with its unit.
    pub fn interval_text(&self) -> String {
        self.interval.map_or_else(|| NOTHING.to_owned(), |interval| self.unit.interval_text(interval))
    }

    /// Writes the size of the sample and what was counted.
    pub fn n_text(&self) -> String {
        format!("{} {}", thousands(self.n), self.counted)
    }

    /// Writes the target; empty where there is none.
    pub fn target_text(&self) -> String {
        let before = |sign: &str| match &self.before {
            Some(before) => format!("{sign} {} before", self.unit.text(before.value)),
            None => format!("{sign} before"),
        };
        match self.target {
            None => String::new(),
            Some(Target::Above { value }) => format!("> {}", self.unit.round_text(value)),
            Some(Target::Below { value }) => format!("< {}", self.unit.round_text(value)),
            Some(Target::Between { low, high }) => {
                let (low, high) = (self.unit.round_text(low), self.unit.round_text(high));
                format!("{} – {high}", low.trim_end_matches(" %"))
            }
            Some(Target::AboveBefore) => before(">"),
            Some(Target::NotBelowBefore) => before("≥"),
            Some(Target::AllCompleted) => "all".to_owned(),
        }
    }

    /// Writes the verdict; empty where there is no target.
    pub fn verdict_text(&self) -> &'static str {
        self.verdict.map_or("", super::Verdict::as_str)
    }
}

impl Unit {
    /// Writes a value with its unit.
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Dollars if value < 0.0 => format!("−${}", self.digits(-value)),
            Self::Dollars => format!("${}", self.digits(value)),
            Self::Share | Self::Seconds | Self::Milliseconds | Self::Points => {
                let sign = if value < 0.0 { "−" } else { "" };
                format!("{sign}{}{}", self.digits(value.abs()), self.sign())
            }
        }
    }

    /// Writes an interval, its unit once.
    pub fn interval_text(self, interval: Interval) -> String {
        let high = self.text(interval.high);
        let low = self.text(interval.low);
        format!("{} – {high}", low.trim_end_matches(self.sign()))
    }

    /// Writes a round value with its unit.
    fn round_text(self, value: f64) -> String {
        let shown = if self == Self::Share { value * 100.0 } else { value };
        let digits = thousands(shown.round() as i64);
        if self == Self::Dollars { format!("${digits}") } else { format!("{digits}{}", self.sign()) }
    }

    const fn sign(self) -> &'static str {
        match self {
            Self::Share => " %",
            Self::Seconds => " s",
            Self::Milliseconds => " ms",
            Self::Dollars | Self::Points => "",
        }
    }

    /// Writes a value that is not negative with as many decimals as matter.
    fn digits(self, value: f64) -> String {
        let (value, decimals) = match self {
            Self::Share => (value * 100.0, if value < 0.1 { 2 } else { 1 }),
            Self::Dollars => (value, 2),
            Self::Seconds => (value, if value < 100.0 { 1 } else { 0 }),
            Self::Milliseconds => (value, 0),
            Self::Points => (value, 1),
        };
        let text = format!("{value:.decimals$}");
        let (whole, rest) = text
            .split_once('.')
            .map_or((text.as_str(), String::new()), |(whole, rest)| (whole, format!(".{rest}")));
        format!("{}{rest}", grouped(whole))
    }
}

/// Writes a number with its thousands apart.
pub fn thousands(n: i64) -> String {
    if n < 0 { format!("−{}", grouped(&n.unsigned_abs().to_string())) } else { grouped(&n.to_string()) }
}

fn grouped(digits: &str) -> String {
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_with_their_units() {
        for (unit, value, text) in [
            (Unit::Share, 0.586_3, "58.6 %"),
            (Unit::Share, 0.004_21, "0.42 %"),
            (Unit::Share, 1.0, "100.0 %"),
            (Unit::Dollars, 1_234_567.891, "$1,234,567.89"),
            (Unit::Dollars, -2.5, "−$2.50"),
            (Unit::Seconds, 12.34, "12.3 s"),
            (Unit::Seconds, 1_234.5, "1,234 s"),
            (Unit::Milliseconds, 3.0, "3 ms"),
            (Unit::Points, -12.34, "−12.3"),
        ] {
            assert_eq!(unit.text(value), text);
        }
        assert_eq!(Unit::Share.interval_text(Interval { low: 0.55, high: 0.615 }), "55.0 – 61.5 %");
        assert_eq!(Unit::Dollars.interval_text(Interval { low: 2.0, high: 3.0 }), "$2.00 – $3.00");
        assert_eq!((thousands(999), thousands(1_000)), ("999".into(), "1,000".into()));
        assert_eq!(thousands(-1_234_567), "−1,234,567");
    }
}
