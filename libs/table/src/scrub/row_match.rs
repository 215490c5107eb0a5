//! Which rows are meant.

use std::collections::{BTreeSet, HashSet};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringArray},
    compute::cast,
    datatypes::{DataType, Field, Schema},
};

use super::names::ColumnNames;

/// Stands between the values of several columns; no text has it.
const SEPARATOR: char = '\u{0}';

/// Which rows are meant: those with certain values in certain columns, and those whose free text holds certain words.
#[derive(Clone, Debug, Default)]
pub struct RowMatch {
    keys: Vec<Keys>,
    /// Case-folded.
    words: Vec<String>,
    text_columns: BTreeSet<String>,
    wanted: Vec<String>,
}

/// Rows whose `columns` hold one of the `tuples`, each joined by [`SEPARATOR`].
#[derive(Clone, Debug)]
struct Keys {
    columns: Vec<String>,
    tuples: HashSet<String>,
}

/// A [`RowMatch`] for the columns of one file.
pub(super) struct FileMatch<'a> {
    rows: &'a RowMatch,
    /// Columns of the file that are needed, by their place; batches hold these and no others, in this order.
    pub(super) columns: Vec<usize>,
    /// By place among `columns`.
    keys: Vec<(&'a Keys, Vec<usize>)>,
    texts: Vec<usize>,
    wanted: Option<Vec<usize>>,
}

impl RowMatch {
    /// Also rows of tables that have all of `columns`, with one of `tuples` in them. Values are compared as text.
    #[must_use]
    pub fn with_keys(mut self, columns: &[&str], tuples: impl IntoIterator<Item = Vec<String>>) -> Self {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        let tuples = tuples.into_iter().map(|tuple| tuple.join(&SEPARATOR.to_string())).collect();
        self.keys.push(Keys { columns, tuples });
        self
    }

    /// Also rows with `text`, in whatever case and also as JSON writes it, as a whole word in a binary column or in one of
    /// `columns`.
    #[must_use]
    pub fn with_text(mut self, text: &str, columns: &[&str]) -> Self {
        let folded = text.to_lowercase();
        let json = serde_json::Value::from(folded.as_str()).to_string();
        let escaped: String = json.chars().map(json_escape).collect();
        for form in [json[1..json.len() - 1].to_owned(), escaped[1..escaped.len() - 1].to_owned(), folded] {
            if !form.is_empty() && !self.words.contains(&form) {
                self.words.push(form);
            }
        }
        self.text_columns.extend(columns.iter().map(|column| (*column).to_owned()));
        self
    }

    /// Of matching rows of tables that have all of `columns`, their values are gathered ([`super::Survey::keys`]).
    #[must_use]
    pub fn gathering(mut self, columns: &[&str]) -> Self {
        self.wanted = columns.iter().map(|column| (*column).to_owned()).collect();
        self
    }

    /// For a file of these columns; `None` if none of its rows can be meant.
    pub(super) fn of_file<'a>(&'a self, schema: &Schema, names: &ColumnNames) -> Option<FileMatch<'a>> {
        let mut columns = Vec::new();
        let place = |name: &String| schema.fields().iter().position(|field| names.is(field, name));
        let mut take = |index: usize| match columns.iter().position(|taken| *taken == index) {
            Some(known) => known,
            None => {
                columns.push(index);
                columns.len() - 1
            }
        };
        let mut keys = Vec::new();
        for key in &self.keys {
            if let Some(found) = key.columns.iter().map(place).collect::<Option<Vec<_>>>() {
                keys.push((key, found.into_iter().map(&mut take).collect::<Vec<_>>()));
            }
        }
        let is_text = |field: &Field| {
            is_binary(field.data_type()) || self.text_columns.iter().any(|name| names.is(field, name))
        };
        let mut texts = Vec::new();
        if !self.words.is_empty() {
            let found = schema.fields().iter().enumerate().filter(|(_, field)| is_text(field));
            texts.extend(found.map(|(index, _)| take(index)));
        }
        if keys.is_empty() && texts.is_empty() {
            return None;
        }
        let wanted = match self.wanted.is_empty() {
            true => None,
            false => self.wanted.iter().map(place).collect::<Option<Vec<_>>>(),
        };
        let wanted = wanted.map(|found| found.into_iter().map(&mut take).collect());
        Some(FileMatch { rows: self, columns, keys, texts, wanted })
    }
}

impl FileMatch<'_> {
    /// Rows of a batch that are meant, by their number in it, and what is gathered of them.
    pub(super) fn find(&self, batch: &RecordBatch, keys: &mut BTreeSet<Vec<String>>) -> Vec<usize> {
        let texts: Vec<Option<StringArray>> = batch.columns().iter().map(as_text).collect();
        let value = |column: usize, row: usize| {
            let text = texts.get(column)?.as_ref()?;
            text.is_valid(row).then(|| text.value(row))
        };
        let mut tuple = String::new();
        let mut is_meant = |row: usize| {
            let of_key = |(key, columns): &(&Keys, Vec<usize>)| {
                tuple.clear();
                for (number, column) in columns.iter().enumerate() {
                    let Some(value) = value(*column, row) else { return false };
                    if number > 0 {
                        tuple.push(SEPARATOR);
                    }
                    tuple.push_str(value);
                }
                key.tuples.contains(&tuple)
            };
            self.keys.iter().any(of_key)
                || self.texts.iter().any(|column| self.says(batch.column(*column), row))
        };
        let found: Vec<usize> = (0..batch.num_rows()).filter(|row| is_meant(*row)).collect();
        if let Some(wanted) = &self.wanted {
            let tuple =
                |row: &usize| wanted.iter().map(|column| value(*column, *row).map(str::to_owned)).collect();
            keys.extend(found.iter().filter_map(tuple));
        }
        found
    }

    /// Whether a text holds one of the words.
    fn says(&self, column: &ArrayRef, row: usize) -> bool {
        let bytes = match column.data_type() {
            _ if column.is_null(row) => return false,
            DataType::Binary => column.as_binary::<i32>().value(row),
            DataType::LargeBinary => column.as_binary::<i64>().value(row),
            DataType::BinaryView => column.as_binary_view().value(row),
            DataType::Utf8 => column.as_string::<i32>().value(row).as_bytes(),
            DataType::LargeUtf8 => column.as_string::<i64>().value(row).as_bytes(),
            DataType::Utf8View => column.as_string_view().value(row).as_bytes(),
            _ => return false,
        };
        let text = String::from_utf8_lossy(bytes).to_lowercase();
        self.rows.words.iter().any(|word| has_word(&text, word))
    }
}

/// As text, where the type has one.
pub(super) fn as_text(column: &ArrayRef) -> Option<StringArray> {
    if is_binary(column.data_type()) || column.data_type().is_nested() {
        return None;
    }
    let text = cast(column, &DataType::Utf8).ok()?;
    Some(text.as_string::<i32>().clone())
}

fn is_binary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
}

/// A character as JSON may write it in ASCII.
fn json_escape(c: char) -> String {
    if c.is_ascii() {
        return c.to_string();
    }
    let mut units = [0; 2];
    c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
}

/// Whether `text` holds `word` and not merely something that it is a part of, as `h1` is of `h10`, `h1-b` and `h1.example.org`.
fn has_word(text: &str, word: &str) -> bool {
    let goes_on = |c: char| c.is_alphanumeric() || "_-@+".contains(c);
    text.match_indices(word).any(|(begin, _)| {
        let (before, after) = (&text[..begin], &text[begin + word.len()..]);
        let mut before = before.chars().rev();
        let mut after = after.chars();
        let begins = match before.next() {
            // A dot parts sentences as well as names.
            Some('.') => !before.next().is_some_and(goes_on),
            // What JSON escapes, such as a line's end, is no part of a word.
            Some(c) => !goes_on(c) || before.next() == Some('\\'),
            None => true,
        };
        let ends = match after.next() {
            Some('.') => !after.next().is_some_and(goes_on),
            Some(c) => !goes_on(c),
            None => true,
        };
        begins && ends
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use arrow::array::{BinaryArray, Int64Array};

    use super::*;

    fn found(rows: &RowMatch, columns: Vec<(&str, ArrayRef)>) -> Vec<usize> {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let Some(matching) = rows.of_file(&batch.schema(), &ColumnNames::default()) else {
            return Vec::new();
        };
        matching.find(&batch.project(&matching.columns).unwrap(), &mut BTreeSet::new())
    }

    #[test]
    fn tuples_count_only_where_all_their_columns_are() {
        let rows = RowMatch::default().with_keys(&["host", "n"], [vec!["a".to_owned(), "2".to_owned()]]);
        let host: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("a"), None, Some("b")]));
        let number: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 2, 2]));
        assert_eq!(found(&rows, vec![("n", number.clone()), ("host", host.clone())]), [1]);
        assert_eq!(found(&rows, vec![("host", host)]), [0; 0]);
        assert_eq!(found(&rows, vec![("n", number)]), [0; 0]);
    }

    #[test]
    fn words_are_found_in_any_case_and_escaping_but_not_within_others() {
        let rows = RowMatch::default().with_text("jö@example.org", &["extra"]);
        let texts = [
            r#"{"mail":"JÖ@Example.org"}"#,
            r#"{"mail":"j\u00F6@example.org"}"#,
            "write to jö@example.org.",
            r#"line\njö@example.org"#,
            r#"{"mail":"mjö@example.org"}"#,
            r#"{"mail":"jö@example.org.uk"}"#,
            r#"{"mail":"jo@example.org"}"#,
        ];
        let raw: ArrayRef = Arc::new(BinaryArray::from_iter_values(texts));
        let extra: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
        assert_eq!(found(&rows, vec![("raw", raw)]), [0, 1, 2, 3]);
        assert_eq!(found(&rows, vec![("extra", extra.clone())]), [0, 1, 2, 3]);
        assert_eq!(found(&rows, vec![("note", extra)]), [0; 0], "other texts are not free text");
    }
}
