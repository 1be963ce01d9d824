//! Decimal numbers of any length, as PostgreSQL's `numeric` and the numbers inside `jsonb` are: what is compared and printed
//! never goes through binary floating point.

use std::cmp::Ordering;

/// Most digits on either side of the point. PostgreSQL takes more; nothing stored here comes near.
const MAX_DIGITS: usize = 1_000;

/// A decimal number. Zeros at the end of the fraction are kept, as they are printed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Decimal {
    negative: bool,
    /// Digits before the point, none for zero.
    whole: String,
    /// Digits after the point.
    fraction: String,
}

/// Why a text is no decimal number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotDecimal {
    /// Not written as one.
    Syntax,
    /// Too many digits.
    Range,
}

impl Decimal {
    /// Reads digits with a sign, a point and an exponent, each of which may be absent. No `NaN`, no infinity.
    pub(crate) fn parse(text: &str) -> Result<Self, NotDecimal> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
            Some(at) => (&unsigned[..at], exponent(&unsigned[at + 1..])?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !digits(whole) || !digits(fraction) {
            return Err(NotDecimal::Syntax);
        }
        Self::shifted(negative, whole, fraction, exponent)
    }

    /// Moves the point by the exponent.
    fn shifted(negative: bool, whole: &str, fraction: &str, exponent: i64) -> Result<Self, NotDecimal> {
        let count = |part: &str| i64::try_from(part.len()).unwrap_or(i64::MAX);
        let limit = count(&"0".repeat(MAX_DIGITS));
        let zero = whole.bytes().chain(fraction.bytes()).all(|b| b == b'0');
        let point = count(whole).saturating_add(exponent);
        let scale = count(fraction).saturating_sub(exponent).max(0);
        if scale > limit || (!zero && point > limit) {
            return Err(NotDecimal::Range);
        }
        let mut digits = [whole, fraction].concat();
        if zero {
            return Ok(Self { negative: false, whole: String::new(), fraction: zeros(scale) });
        }
        if point > count(&digits) {
            digits.push_str(&zeros(point - count(&digits)));
        }
        if point < 0 {
            digits.insert_str(0, &zeros(-point));
        }
        let (whole, fraction) = digits.split_at(usize::try_from(point.max(0)).unwrap_or_default());
        Ok(Self { negative, whole: whole.trim_start_matches('0').to_owned(), fraction: fraction.to_owned() })
    }

    /// Gives the nearest binary number.
    pub(crate) fn to_f64(&self) -> f64 {
        // Every text that is printed here is one that parses; a magnitude beyond reach is an infinity.
        self.to_string().parse().unwrap_or(f64::NAN)
    }

    /// Gives the greatest number with `scale` decimals that is not greater, and whether it is the same number.
    pub(crate) fn floor(&self, scale: u8) -> (Self, bool) {
        let scale = usize::from(scale);
        let Some((kept, cut)) = self.fraction.split_at_checked(scale) else { return (self.clone(), true) };
        let truncated = Self { fraction: kept.to_owned(), ..self.clone() };
        if cut.bytes().all(|b| b == b'0') {
            return (truncated, true);
        }
        (if self.negative { truncated.away_from_zero() } else { truncated }, false)
    }

    /// Rounds to `scale` decimals, halves away from zero.
    pub(crate) fn round(&self, scale: u8) -> Self {
        let scale = usize::from(scale);
        let Some((kept, cut)) = self.fraction.split_at_checked(scale) else {
            let fraction = format!("{:0<scale$}", self.fraction);
            return Self { fraction, ..self.clone() };
        };
        let truncated = Self { fraction: kept.to_owned(), ..self.clone() };
        let rounded =
            if cut.as_bytes().first() >= Some(&b'5') { truncated.away_from_zero() } else { truncated };
        let negative = rounded.negative && !rounded.is_zero();
        Self { negative, ..rounded }
    }

    /// Adds one to the last digit.
    fn away_from_zero(self) -> Self {
        let places = self.fraction.len();
        let mut digits = [b"0", self.whole.as_bytes(), self.fraction.as_bytes()].concat();
        for digit in digits.iter_mut().rev() {
            if *digit == b'9' {
                *digit = b'0';
            } else {
                *digit += 1;
                break;
            }
        }
        let digits = String::from_utf8(digits).unwrap_or_default();
        let (whole, fraction) = digits.split_at(digits.len() - places);
        Self {
            negative: self.negative,
            whole: whole.trim_start_matches('0').to_owned(),
            fraction: fraction.to_owned(),
        }
    }

    fn is_zero(&self) -> bool {
        self.whole.is_empty() && self.fraction.bytes().all(|b| b == b'0')
    }

    /// Compares without regard to the sign.
    fn magnitude(&self, other: &Self) -> Ordering {
        let significant = |number: &Self| number.fraction.trim_end_matches('0').to_owned();
        (self.whole.len(), &self.whole, significant(self)).cmp(&(
            other.whole.len(),
            &other.whole,
            significant(other),
        ))
    }
}

fn zeros(count: i64) -> String {
    "0".repeat(usize::try_from(count).unwrap_or_default())
}

fn exponent(text: &str) -> Result<i64, NotDecimal> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NotDecimal::Syntax);
    }
    text.parse().map_err(|_| NotDecimal::Range)
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.negative && !self.is_zero() { "-" } else { "" };
        let whole = if self.whole.is_empty() { "0" } else { &self.whole };
        let point = if self.fraction.is_empty() { "" } else { "." };
        write!(f, "{sign}{whole}{point}{}", self.fraction)
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let negative = |number: &Self| number.negative && !number.is_zero();
        match (negative(self), negative(other)) {
            (false, false) => self.magnitude(other),
            (true, true) => other.magnitude(self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

/// Prints a binary number as PostgreSQL's `float8out` does: the shortest digits that mean it, an exponent for the very
/// great and the very small.
pub(crate) fn double_text(value: f64) -> String {
    let shortest = format!("{value:e}");
    let Some((mantissa, exponent)) = shortest.split_once('e') else { return shortest };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..15).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn numbers_are_printed_with_the_decimals_they_were_given() {
        for (text, printed) in [
            ("0", "0"),
            ("-0", "0"),
            ("-0.00", "0.00"),
            ("007.50", "7.50"),
            (".5", "0.5"),
            ("5.", "5"),
            ("+1", "1"),
            ("1e3", "1000"),
            ("1.50e1", "15.0"),
            ("1.5E-3", "0.0015"),
            ("0e5", "0"),
            ("0e-3", "0.000"),
            ("12.34e1", "123.4"),
            ("-12e-1", "-1.2"),
        ] {
            assert_eq!(decimal(text).to_string(), printed, "{text}");
        }
        for text in [
            "", "-", ".", "e1", "1e", "1e+", "NaN", "Infinity", "0x10", "1_000", " 1", "1 ", "1.2.3", "--1",
            "١",
        ] {
            assert_eq!(Decimal::parse(text).unwrap_err(), NotDecimal::Syntax, "{text:?}");
        }
        for text in ["1e2000", "1e-2000", "1e99999999999999999999", &"9".repeat(1_001)] {
            assert_eq!(Decimal::parse(text).unwrap_err(), NotDecimal::Range, "{text:.30}");
        }
    }

    #[test]
    fn numbers_are_compared_by_value() {
        let ascending = [
            "-10", "-9.5", "-1", "-0.5", "-0.05", "0", "0.05", "0.5", "1", "1.01", "1.1", "2", "9.5", "10",
            "1e30",
        ];
        for pair in ascending.windows(2) {
            assert!(decimal(pair[0]) < decimal(pair[1]), "{pair:?}");
        }
        assert_eq!(decimal("1.0"), decimal("1"));
        assert_eq!(decimal("-0"), decimal("0.000"));
        assert_eq!(decimal("100"), decimal("1e2"));
    }

    #[test]
    fn floors_and_roundings_are_those_of_the_number_line() {
        for (text, scale, floor, exact, rounded) in [
            ("1.25", 2, "1.25", true, "1.25"),
            ("1.250", 2, "1.25", true, "1.25"),
            ("1.255", 2, "1.25", false, "1.26"),
            ("-1.255", 2, "-1.26", false, "-1.26"),
            ("-1.254", 2, "-1.26", false, "-1.25"),
            ("9.999", 2, "9.99", false, "10.00"),
            ("-9.999", 2, "-10.00", false, "-10.00"),
            ("0.001", 2, "0.00", false, "0.00"),
            ("-0.001", 2, "-0.01", false, "0.00"),
            ("2.5", 0, "2", false, "3"),
            ("7", 2, "7", true, "7.00"),
        ] {
            let (down, same) = decimal(text).floor(scale);
            assert_eq!((down.to_string().as_str(), same), (floor, exact), "{text}");
            assert_eq!(decimal(text).round(scale).to_string(), rounded, "{text}");
        }
    }

    #[test]
    fn doubles_are_printed_as_postgresql_prints_them() {
        for (value, text) in [
            (12.5, "12.5"),
            (3.0, "3"),
            (-0.0, "-0"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123_456_789_012_345.0, "123456789012345"),
            (1e15, "1e+15"),
            (1.5e300, "1.5e+300"),
            (0.1 + 0.2, "0.30000000000000004"),
        ] {
            assert_eq!(double_text(value), text);
        }
    }
}
