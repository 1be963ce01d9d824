//! Reads the text that `/metrics` gives, for what sends the same figures elsewhere.

/// One series with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// The metric; of a histogram with `_bucket`, `_sum` or `_count` at its end.
    pub name: String,
    /// Names and values of its labels.
    pub labels: Vec<(String, String)>,
    /// The value.
    pub value: f64,
}

/// Reads every series; lines that are none, such as descriptions, are left out.
pub fn parse(text: &str) -> Vec<Series> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Series> {
    if line.starts_with('#') {
        return None;
    }
    let name_end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(name_end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Series { name: name.to_owned(), labels, value })
}

/// Reads labels up to the closing brace; gives them and what follows.
fn parse_labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at,
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.push((name.to_owned(), value));
        rest = quoted.get(end + 1..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::{Series, parse};

    #[test]
    fn series_are_read_with_their_labels_and_without_what_is_none() {
        let text = "# HELP a b\n# TYPE a counter\na 1\nb{x=\"1\",le=\"+Inf\"} 2.5\n\nc{x=\"a \\\"b\\\" \\\\ \\n{},\"} 3e3\nbroken\nd NaN\n";
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let series = parse(text);
        assert_eq!(series.len(), 4, "{series:?}");
        assert_eq!(series[0], Series { name: "a".into(), labels: vec![], value: 1.0 });
        assert_eq!(
            series[1],
            Series { name: "b".into(), labels: vec![label("x", "1"), label("le", "+Inf")], value: 2.5 }
        );
        assert_eq!(
            series[2],
            Series { name: "c".into(), labels: vec![label("x", "a \"b\" \\ \n{},")], value: 3_000.0 }
        );
        assert!(series[3].value.is_nan());
    }
}
