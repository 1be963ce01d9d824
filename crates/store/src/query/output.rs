//! Puts an answer together from the values of its rows, in the shape asked for, as PostgreSQL's `json_agg` and its text form
//! of rows print them. Both engines use it, so the same rows are the same bytes.

use super::cast::Cell;
use super::json::write_string;
use super::{ReadAnswer, ReadError, Shape, array};

/// Largest answer.
const MAX_BYTES: usize = 32 * 1024 * 1024;

/// An answer in the making.
pub(crate) struct Writer {
    shape: Shape,
    /// What stands before each value: a JSON key with its colon.
    keys: Vec<String>,
    body: String,
    rows: u64,
    /// Values of the present row so far.
    values: usize,
    /// Whether the present row shows anything yet.
    begun: bool,
}

impl Writer {
    /// Begins an answer whose rows show these names.
    pub(crate) fn new<'a>(shape: Shape, names: impl Iterator<Item = &'a str>) -> Self {
        let mut body = String::new();
        let keys = names.map(str::to_owned).collect::<Vec<_>>();
        let keys = match shape {
            Shape::Csv => {
                let quoted = keys.iter().map(|name| csv_name(name));
                body = quoted.collect::<Vec<_>>().join(",") + "\n";
                keys
            }
            _ => keys.iter().map(|name| json_key(name)).collect(),
        };
        Self { shape, keys, body, rows: 0, values: 0, begun: false }
    }

    /// Begins a row.
    pub(crate) fn begin_row(&mut self) {
        let first = self.rows == 0;
        self.body.push_str(match self.shape {
            Shape::Array | Shape::ArrayStripped if first => "[{",
            Shape::Array | Shape::ArrayStripped => ", \n {",
            Shape::Object | Shape::ObjectStripped => "{",
            Shape::Csv if !first => "\n",
            Shape::Csv | Shape::Nothing => "",
        });
        self.rows += 1;
        self.values = 0;
        self.begun = false;
    }

    /// Ends a row.
    ///
    /// # Errors
    /// [`ReadError::Data`] when the answer grows too large.
    pub(crate) fn end_row(&mut self) -> Result<(), ReadError> {
        if !matches!(self.shape, Shape::Csv | Shape::Nothing) {
            self.body.push('}');
        }
        if self.body.len() > MAX_BYTES {
            return Err(ReadError::Data {
                sqlstate: "54000".to_owned(),
                message: format!("the answer is larger than {} MiB", MAX_BYTES >> 20),
            });
        }
        Ok(())
    }

    /// Says whether members that are null are left out.
    pub(crate) fn strips(&self) -> bool {
        matches!(self.shape, Shape::ArrayStripped | Shape::ObjectStripped)
    }

    /// Says whether values are wanted as text, not as JSON.
    pub(crate) fn wants_text(&self) -> bool {
        self.shape == Shape::Csv
    }

    /// Adds the next value of a row as printed already: JSON, or text in CSV; `None` when it is empty.
    pub(crate) fn printed(&mut self, value: Option<&str>) {
        let place = self.values;
        self.values += 1;
        match (self.shape, value) {
            (Shape::Nothing, _) => {}
            (Shape::Csv, value) => {
                if place > 0 {
                    self.body.push(',');
                }
                if let Some(text) = value {
                    push_csv(&mut self.body, text);
                }
            }
            (_, None | Some("null")) if self.strips() => {}
            (_, value) => {
                if self.begun {
                    self.body.push(',');
                }
                self.begun = true;
                self.body.push_str(self.keys.get(place).map_or("", String::as_str));
                self.body.push_str(value.unwrap_or("null"));
            }
        }
    }

    /// Adds the next value of a row, a text.
    pub(crate) fn quoted(&mut self, text: &str) {
        let mut json = String::with_capacity(text.len() + 2);
        // Writing to a string cannot fail.
        if write_string(&mut json, text).is_ok() {
            self.printed(Some(&json));
        }
    }

    /// Adds the next value of a row.
    pub(crate) fn cell(&mut self, cell: Cell) {
        if cell == Cell::Null {
            return self.printed(None);
        }
        if self.wants_text() {
            let text = match cell {
                // The text form of a row has one letter where a cast has the word.
                Cell::Boolean(value) => Some(if value { "t".to_owned() } else { "f".to_owned() }),
                cell => cell.to_text(),
            };
            return self.printed(text.as_deref());
        }
        let mut json = String::new();
        // Writing to a string cannot fail.
        if cell.write_json(self.strips(), &mut json).is_ok() {
            self.printed(Some(&json));
        }
    }

    /// Ends the answer.
    pub(crate) fn finish(mut self, total: Option<u64>) -> ReadAnswer {
        if matches!(self.shape, Shape::Array | Shape::ArrayStripped) {
            self.body.push_str(if self.rows == 0 { "[]" } else { "]" });
        }
        ReadAnswer { body: self.body.into_bytes(), rows: self.rows, total }
    }
}

fn json_key(name: &str) -> String {
    let mut key = String::with_capacity(name.len() + 3);
    // Writing to a string cannot fail.
    if write_string(&mut key, name).is_ok() {
        key.push(':');
    }
    key
}

fn csv_name(name: &str) -> String {
    if name.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", name.replace('"', "\"\""))
    } else {
        name.to_owned()
    }
}

/// Writes a value as in the text form of a row.
fn push_csv(out: &mut String, text: &str) {
    let special = |c: char| matches!(c, '"' | '\\' | '(' | ')' | ',') || array::is_blank(c);
    if !text.is_empty() && !text.contains(special) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push(c);
        }
        out.push(c);
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::super::json::Json;
    use super::*;

    fn written(shape: Shape, rows: &[Vec<Cell>]) -> String {
        let mut writer = Writer::new(shape, ["a", "b \"c\", d"].into_iter());
        for row in rows {
            writer.begin_row();
            row.iter().for_each(|cell| writer.cell(cell.clone()));
            writer.end_row().unwrap();
        }
        let answer = writer.finish(None);
        assert_eq!(answer.rows, rows.len() as u64);
        String::from_utf8(answer.body).unwrap()
    }

    #[test]
    fn each_shape_is_printed_as_postgresql_does() {
        let text = |text: &str| Cell::Text(text.into());
        let rows = [vec![text("x"), Cell::Null], vec![Cell::Boolean(true), text("y, \"z\" \\")]];
        assert_eq!(
            written(Shape::Array, &rows),
            "[{\"a\":\"x\",\"b \\\"c\\\", d\":null}, \n {\"a\":true,\"b \\\"c\\\", d\":\"y, \\\"z\\\" \\\\\"}]"
        );
        assert_eq!(written(Shape::ArrayStripped, &rows[..1]), "[{\"a\":\"x\"}]");
        assert_eq!(written(Shape::Object, &rows[..1]), "{\"a\":\"x\",\"b \\\"c\\\", d\":null}");
        let null = Json::parse(r#"{"x":null,"y":[{"z":null}]}"#).unwrap();
        let nested = [vec![Cell::Jsonb(Json::Null), Cell::Jsonb(null)]];
        assert_eq!(written(Shape::ObjectStripped, &nested), "{\"b \\\"c\\\", d\":{\"y\": [{}]}}");
        assert_eq!(written(Shape::Csv, &rows), "a,\"b \"\"c\"\", d\"\nx,\nt,\"y, \"\"z\"\" \\\\\"");
        for (shape, empty) in [
            (Shape::Array, "[]"),
            (Shape::Csv, "a,\"b \"\"c\"\", d\"\n"),
            (Shape::Object, ""),
            (Shape::Nothing, ""),
        ] {
            assert_eq!(written(shape, &[]), empty);
        }
    }
}
