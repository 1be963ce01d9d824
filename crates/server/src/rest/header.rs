//! What the headers of a read ask for: media type, preferences, range, schema.

use axum::http::{HeaderMap, HeaderName, header};
use nudge_store::query::{Count, Shape};

/// The one schema that is exposed.
pub const SCHEMA: &str = "public";

/// A media type that is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// A JSON array.
    Json,
    /// A JSON array without nulls.
    JsonStripped,
    /// One JSON object.
    Object,
    /// One JSON object without nulls.
    ObjectStripped,
    /// CSV.
    Csv,
    /// The description of the API.
    OpenApi,
}

impl Media {
    /// Gives the header of the answer.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json; charset=utf-8",
            Self::JsonStripped => "application/vnd.pgrst.array+json;nulls=stripped; charset=utf-8",
            Self::Object => "application/vnd.pgrst.object+json; charset=utf-8",
            Self::ObjectStripped => "application/vnd.pgrst.object+json;nulls=stripped; charset=utf-8",
            Self::Csv => "text/csv; charset=utf-8",
            Self::OpenApi => "application/openapi+json; charset=utf-8",
        }
    }

    /// Gives the shape of the rows.
    pub const fn shape(self) -> Shape {
        match self {
            Self::Json | Self::OpenApi => Shape::Array,
            Self::JsonStripped => Shape::ArrayStripped,
            Self::Object => Shape::Object,
            Self::ObjectStripped => Shape::ObjectStripped,
            Self::Csv => Shape::Csv,
        }
    }

    /// Says whether the answer must be exactly one row.
    pub const fn is_single(self) -> bool {
        matches!(self, Self::Object | Self::ObjectStripped)
    }

    /// Finds the type that an item of `Accept` names, among those of rows or of the root.
    fn named(name: &str, stripped: bool, root: bool) -> Option<Self> {
        Some(match name {
            "*/*" | "application/*" if root => Self::OpenApi,
            "application/openapi+json" | "application/json" if root => Self::OpenApi,
            _ if root => return None,
            "*/*" | "application/*" | "application/json" => Self::Json,
            "application/vnd.pgrst.array+json" | "application/vnd.pgrst.array" if stripped => {
                Self::JsonStripped
            }
            "application/vnd.pgrst.array+json" | "application/vnd.pgrst.array" => Self::Json,
            "application/vnd.pgrst.object+json" | "application/vnd.pgrst.object" if stripped => {
                Self::ObjectStripped
            }
            "application/vnd.pgrst.object+json" | "application/vnd.pgrst.object" => Self::Object,
            "text/csv" => Self::Csv,
            _ => return None,
        })
    }
}

/// Chooses the media type of the answer; without `Accept` it is JSON.
///
/// # Errors
/// The types asked for, none of which can be given.
pub fn accept(headers: &HeaderMap, root: bool) -> Result<Media, String> {
    let mut asked = Vec::new();
    for item in items(headers, &header::ACCEPT) {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut stripped) = (1.0, false);
        for part in parts {
            match part.split_once('=').map(|(name, value)| (name.trim(), value.trim())) {
                Some(("q", value)) => quality = value.parse().unwrap_or(0.0),
                Some(("nulls", "stripped")) => stripped = true,
                _ => {}
            }
        }
        asked.push((name, quality, stripped));
    }
    if asked.is_empty() {
        return Ok(if root { Media::OpenApi } else { Media::Json });
    }
    // Of several with one weight the first counts: the sort is stable.
    asked.sort_by(|(_, a, _), (_, b, _)| f64::total_cmp(b, a));
    let wanted = asked.iter().filter(|(_, quality, _)| *quality > 0.0);
    let mut known = wanted.filter_map(|(name, _, stripped)| Media::named(name, *stripped, root));
    known.next().ok_or_else(|| {
        let names = asked.iter().map(|(name, ..)| name.chars().take(100).collect::<String>());
        names.take(8).collect::<Vec<_>>().join(", ")
    })
}

/// What `Prefer` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Preferences {
    /// How to count.
    pub count: Option<Count>,
    /// Whether unknown preferences are an error.
    strict: Option<bool>,
}

impl Preferences {
    /// Reads the header; what is not understood is left aside unless `handling=strict` is among it.
    ///
    /// # Errors
    /// The preferences that are not understood.
    pub fn read(headers: &HeaderMap) -> Result<Self, String> {
        let mut preferences = Self::default();
        let mut unknown = Vec::new();
        for item in items(headers, &HeaderName::from_static("prefer")) {
            let count = |count: Option<Count>, other| count.or(Some(other));
            match item {
                "count=exact" => preferences.count = count(preferences.count, Count::Exact),
                "count=planned" => preferences.count = count(preferences.count, Count::Planned),
                "count=estimated" => preferences.count = count(preferences.count, Count::Estimated),
                "handling=strict" => preferences.strict = preferences.strict.or(Some(true)),
                "handling=lenient" => preferences.strict = preferences.strict.or(Some(false)),
                // These matter to writes only.
                "return=representation"
                | "return=minimal"
                | "return=headers-only"
                | "resolution=merge-duplicates"
                | "resolution=ignore-duplicates"
                | "missing=default"
                | "missing=null"
                | "tx=commit"
                | "tx=rollback" => {}
                other => unknown.push(other.chars().take(100).collect::<String>()),
            }
        }
        if preferences.strict == Some(true) && !unknown.is_empty() {
            unknown.truncate(8);
            return Err(unknown.join(", "));
        }
        Ok(preferences)
    }

    /// Gives what was followed, for the answer.
    pub fn applied(self) -> Option<String> {
        let count = self.count.map(|count| match count {
            Count::Exact => "count=exact",
            Count::Planned => "count=planned",
            Count::Estimated => "count=estimated",
        });
        let handling = self.strict.map(|strict| if strict { "handling=strict" } else { "handling=lenient" });
        let applied: Vec<_> = [count, handling].into_iter().flatten().collect();
        (!applied.is_empty()).then(|| applied.join(", "))
    }
}

/// Gives the schema that a read is about, if it is not the exposed one.
pub fn foreign_schema(headers: &HeaderMap, name: &'static str) -> Option<String> {
    let value = headers.get(name)?;
    let schema = value.to_str().unwrap_or_default().trim();
    (schema != SCHEMA).then(|| schema.chars().take(64).collect())
}

/// The rows that `Range` asks for: the first, and the last if one is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowRange {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: Option<u64>,
}

/// Reads `Range: 0-9`; anything else than rows is left aside, as HTTP wants it.
pub fn row_range(headers: &HeaderMap) -> Option<RowRange> {
    let text = headers.get(header::RANGE)?.to_str().ok()?.trim();
    let (first, last) = text.split_once('-')?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if first.is_empty() || !digits(first) || !digits(last) {
        return None;
    }
    // Beyond all bounds is the greatest there is.
    let number = |text: &str| text.parse().unwrap_or(u64::MAX);
    Some(RowRange { first: number(first), last: (!last.is_empty()).then(|| number(last)) })
}

/// Lists the parts of a header, whether given in one line or in several.
fn items<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(name: &'static str, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    #[test]
    fn the_media_type_is_the_first_of_the_best_that_is_known() {
        for (line, media) in [
            ("application/json", Ok(Media::Json)),
            ("*/*", Ok(Media::Json)),
            ("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", Ok(Media::Json)),
            ("text/csv", Ok(Media::Csv)),
            ("text/csv;q=0.5, application/json", Ok(Media::Json)),
            ("application/vnd.pgrst.object+json", Ok(Media::Object)),
            ("application/vnd.pgrst.object+json;nulls=stripped", Ok(Media::ObjectStripped)),
            ("application/vnd.pgrst.array+json;nulls=stripped", Ok(Media::JsonStripped)),
            ("Application/JSON; charset=utf-8", Ok(Media::Json)),
            ("application/json;q=0", Err("application/json")),
            ("application/xml, image/*", Err("application/xml, image/*")),
            ("application/openapi+json", Err("application/openapi+json")),
        ] {
            assert_eq!(accept(&headers("accept", &[line]), false), media.map_err(str::to_owned), "{line}");
        }
        assert_eq!(accept(&HeaderMap::new(), false), Ok(Media::Json));
        assert_eq!(accept(&headers("accept", &["application/json"]), true), Ok(Media::OpenApi));
        assert_eq!(accept(&headers("accept", &["text/csv"]), true), Err("text/csv".to_owned()));
    }

    #[test]
    fn preferences_are_read_and_repeated() {
        let read = |lines: &[&str]| Preferences::read(&headers("prefer", lines));
        assert_eq!(read(&["count=exact"]).unwrap().applied().as_deref(), Some("count=exact"));
        assert_eq!(
            read(&["return=minimal, count=planned", "count=exact"]).unwrap().count,
            Some(Count::Planned)
        );
        assert_eq!(read(&["tz=Europe/Paris"]).unwrap().applied(), None);
        assert_eq!(read(&["handling=strict, tz=x, count=exact, y"]), Err("tz=x, y".to_owned()));
        assert_eq!(
            read(&["handling=strict, count=estimated"]).unwrap().applied().as_deref(),
            Some("count=estimated, handling=strict")
        );
    }

    #[test]
    fn ranges_of_rows_are_read_and_others_left_aside() {
        let read = |line: &str| row_range(&headers("range", &[line])).map(|range| (range.first, range.last));
        assert_eq!(read("0-9"), Some((0, Some(9))));
        assert_eq!(read("5-"), Some((5, None)));
        assert_eq!(read("5-1"), Some((5, Some(1))));
        assert_eq!(read("0-99999999999999999999"), Some((0, Some(u64::MAX))));
        for line in ["bytes=0-9", "-5", "", "a-b", "1", "1-2-3"] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
