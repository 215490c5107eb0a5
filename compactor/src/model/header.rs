//! Reading a model's header, with errors that point at the word.

use std::{collections::BTreeMap, time::Duration};

use datafusion::sql::{TableReference, parser::DFParser, resolve::resolve_table_references};
use firn_catalog_client::iceberg::TableIdent;
use firn_table::Partitioning;

use super::{Check, CheckSeverity, Dedup, Model, ModelError, ModelKind};

const DIRECTIVES: [&str; 12] = [
    "model",
    "kind",
    "key",
    "order",
    "dedup",
    "current",
    "judged",
    "partition",
    "interval",
    "freshness",
    "check",
    "column",
];

/// A directive's value and where it stands.
#[derive(Clone, Copy)]
struct Value<'a> {
    file: &'a str,
    line: u64,
    column: u64,
    text: &'a str,
}

/// Words and their values, as they stand.
type Directives<'a> = Vec<(&'a str, Value<'a>)>;

impl<'a> Value<'a> {
    fn error(&self, message: impl Into<String>) -> ModelError {
        ModelError {
            file: self.file.to_owned(),
            line: self.line,
            column: self.column,
            message: message.into(),
        }
    }

    /// The first word and what follows it, each with its place.
    fn split_word(self) -> (Self, Self) {
        let end = self.text.find(char::is_whitespace).unwrap_or(self.text.len());
        let rest = &self.text[end..];
        let skipped = rest.len() - rest.trim_start().len();
        let column = self.column + (self.text[..end].chars().count() + skipped) as u64;
        (Self { text: &self.text[..end], ..self }, Self { text: rest.trim(), column, ..self })
    }

    /// What stands before and after ` word `.
    fn split_at_word(self, word: &str) -> Option<(Self, Self)> {
        let wanted = format!(" {word} ");
        let at = self.text.find(&wanted)?;
        let column = self.column + self.text[..at + wanted.len()].chars().count() as u64;
        let before = Self { text: self.text[..at].trim(), ..self };
        Some((before, Self { text: self.text[at + wanted.len()..].trim(), column, ..self }))
    }
}

pub(super) fn parse(file: &str, text: &str) -> Result<Model, ModelError> {
    let at =
        |line: u64, column: u64, message: String| ModelError { file: file.to_owned(), line, column, message };
    let (directives, description) = read_directives(file, text)?;
    let one = |name: &str| -> Result<Option<Value<'_>>, ModelError> {
        let mut found = directives.iter().filter(|(word, _)| *word == name).map(|(_, value)| *value);
        let first = found.next();
        match found.next() {
            Some(second) => Err(second.error(format!("'{name}' stands twice: keep one of them"))),
            None => Ok(first),
        }
    };
    let missing = |name: &str, example: &str| {
        at(1, 1, format!("no '{name}' in the header: add a line '-- {name}: {example}'"))
    };
    let table = table_name(one("model")?.ok_or_else(|| missing("model", "silver.example"))?)?;
    let kind_value = one("kind")?.ok_or_else(|| missing("kind", "append"))?;
    let mut model = Model {
        table,
        kind: kind(kind_value)?,
        file: file.to_owned(),
        description,
        sql: text.to_owned(),
        inputs: inputs(file, text)?,
        key: one("key")?.map(columns).transpose()?.unwrap_or_default(),
        order: one("order")?.map(columns).transpose()?.unwrap_or_default(),
        dedup: one("dedup")?.map(dedup).transpose()?,
        current: one("current")?.map(table_name).transpose()?,
        judged: one("judged")?.map(judged).transpose()?,
        partitioning: one("partition")?.map(partitioning).transpose()?.unwrap_or_default(),
        interval: one("interval")?.map(duration).transpose()?,
        freshness: None,
        checks: Vec::new(),
        columns: BTreeMap::new(),
    };
    if let Some(value) = one("freshness")? {
        freshness(value, &mut model)?;
    }
    for (word, value) in &directives {
        match *word {
            "check" => model.checks.push(check(*value, &model.checks)?),
            "column" => {
                let (name, doc) = value.split_word();
                model.columns.insert(name.text.to_owned(), doc.text.to_owned());
            }
            _ => {}
        }
    }
    validate(&mut model, kind_value)?;
    Ok(model)
}

/// The header's directives in order, and its free text.
fn read_directives<'a>(file: &'a str, text: &'a str) -> Result<(Directives<'a>, String), ModelError> {
    let (mut directives, mut description) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let Some(comment) = line.trim_start().strip_prefix("--") else {
            if line.trim().is_empty() {
                continue;
            }
            break;
        };
        let body = comment.trim();
        let start = line.len() - comment.trim_start().len();
        let word_end =
            body.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').unwrap_or(body.len());
        let (word, rest) = body.split_at(word_end);
        let Some(value) = rest.strip_prefix(':').filter(|_| !word.is_empty()) else {
            description.push(body);
            continue;
        };
        let line_number = index as u64 + 1;
        let word_column = line[..start].chars().count() as u64 + 1;
        if !DIRECTIVES.contains(&word) {
            let place = Value { file, line: line_number, column: word_column, text: word };
            return Err(
                place.error(format!("unknown directive '{word}': known are {}", DIRECTIVES.join(", ")))
            );
        }
        let padding = value.len() - value.trim_start().len();
        let column = word_column + (word.len() + 1 + padding) as u64;
        let value = Value { file, line: line_number, column, text: value.trim() };
        if value.text.is_empty() {
            return Err(value.error(format!("'{word}' has no value")));
        }
        directives.push((word, value));
    }
    Ok((directives, description.join(" ")))
}

/// Tables that the SQL names, in the order they first stand in the text.
fn inputs(file: &str, text: &str) -> Result<Vec<TableIdent>, ModelError> {
    let at = |(line, column): (u64, u64), message: String| ModelError {
        file: file.to_owned(),
        line,
        column,
        message,
    };
    let statements = DFParser::parse_sql(text).map_err(|error| {
        let message = error.strip_backtrace();
        at(position_in_message(&message).unwrap_or((1, 1)), message)
    })?;
    let end = (text.lines().count().max(1) as u64, 1);
    let [statement] = statements.iter().collect::<Vec<_>>()[..] else {
        return Err(at(
            end,
            format!("a model is one SELECT, this file holds {} statements", statements.len()),
        ));
    };
    let (tables, _) =
        resolve_table_references(statement, true).map_err(|error| at(end, error.strip_backtrace()))?;
    let mut found = Vec::with_capacity(tables.len());
    for table in tables {
        let name = table.to_string();
        let place = position_of(text, &name).unwrap_or((1, 1));
        match table {
            TableReference::Partial { schema, table } => {
                found.push((place, TableIdent::new(schema.as_ref(), table.as_ref())));
            }
            _ => return Err(at(place, format!("table '{name}' must be written as namespace.name"))),
        }
    }
    if found.is_empty() {
        return Err(at(end, "the SELECT names no table".to_owned()));
    }
    found.sort();
    Ok(found.into_iter().map(|(_, table)| table).collect())
}

/// Line and column that the SQL parser put at the end of its message.
fn position_in_message(message: &str) -> Option<(u64, u64)> {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
    let line = message.rsplit_once("Line: ").and_then(|(_, rest)| digits(rest))?;
    let column = message.rsplit_once("Column: ").and_then(|(_, rest)| digits(rest))?;
    Some((line, column))
}

/// Where a name first stands outside comments.
pub(crate) fn position_of(text: &str, name: &str) -> Option<(u64, u64)> {
    text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("--")).find_map(
        |(index, line)| {
            let at = line.to_lowercase().find(&name.to_lowercase())?;
            Some((index as u64 + 1, line[..at].chars().count() as u64 + 1))
        },
    )
}

fn table_name(value: Value<'_>) -> Result<TableIdent, ModelError> {
    let fits = |part: &str| {
        !part.is_empty() && part.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
    };
    match value.text.split_once('.') {
        Some((namespace, name)) if fits(namespace) && fits(name) => Ok(TableIdent::new(namespace, name)),
        _ => {
            Err(value
                .error(format!("'{}' is no table name: write namespace.name in a-z, 0-9 and _", value.text)))
        }
    }
}

fn kind(value: Value<'_>) -> Result<ModelKind, ModelError> {
    Ok(match value.text {
        "append" => ModelKind::Append,
        "latest" => ModelKind::Latest,
        "aggregate" => ModelKind::Aggregate,
        "full" => ModelKind::Full,
        "rules" => ModelKind::Rules,
        other => {
            return Err(
                value.error(format!("unknown kind '{other}': append, latest, aggregate, full or rules"))
            );
        }
    })
}

fn columns(value: Value<'_>) -> Result<Vec<String>, ModelError> {
    let names: Vec<_> = value.text.split(',').map(|name| name.trim().to_owned()).collect();
    let is_name =
        |name: &String| !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
    match names.iter().find(|name| !is_name(name)) {
        Some(bad) => Err(value.error(format!("'{bad}' is no column name: write them separated by commas"))),
        None => Ok(names),
    }
}

fn judged(value: Value<'_>) -> Result<(String, String), ModelError> {
    match &columns(value)?[..] {
        [rule, state] if rule != state => Ok((rule.clone(), state.clone())),
        _ => Err(value.error("write the names of two columns, such as 'rule_id, state'")),
    }
}

fn duration(value: Value<'_>) -> Result<Duration, ModelError> {
    let wrong = || value.error(format!("'{}' is no duration: write a number and s, m, h or d", value.text));
    parse_duration(value.text).ok_or_else(wrong)
}

/// A number above 0 and its unit: s, m, h or d.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let seconds = match unit.trim() {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let number = number.parse::<u32>().ok().filter(|number| *number > 0)?;
    Some(Duration::from_secs(u64::from(number) * seconds))
}

/// `10m`, or `10m lazy` for a model that need not be fresher: it is computed twice in that time.
fn freshness(value: Value<'_>, model: &mut Model) -> Result<(), ModelError> {
    let (longest, word) = value.split_word();
    let longest = duration(longest)?;
    model.freshness = Some(longest);
    match word.text {
        "" => Ok(()),
        "lazy" if model.interval.is_some() => {
            Err(word.error("'lazy' says how often it is computed: leave out 'interval'"))
        }
        "lazy" => {
            model.interval = Some(longest / 2);
            Ok(())
        }
        other => Err(word.error(format!(
            "unknown word '{other}': write '{} lazy', or nothing",
            value.split_word().0.text
        ))),
    }
}

fn dedup(value: Value<'_>) -> Result<Dedup, ModelError> {
    let shape = || {
        value.error("write 'KEYS within DURATION of TIME by ORDER', such as 'event_id within 7d of received_at by log_offset'")
    };
    let (key, rest) = value.split_at_word("within").ok_or_else(shape)?;
    let (within, rest) = rest.split_at_word("of").ok_or_else(shape)?;
    let (time, order) = rest.split_at_word("by").ok_or_else(shape)?;
    let time_columns = columns(time)?;
    let [time] = &time_columns[..] else { return Err(time.error("one timestamp column is wanted here")) };
    Ok(Dedup { key: columns(key)?, within: duration(within)?, time: time.clone(), order: columns(order)? })
}

/// `day(received_at), identity(host_id)`; commas within brackets don't separate.
fn partitioning(value: Value<'_>) -> Result<Vec<Partitioning>, ModelError> {
    const TRANSFORMS: [&str; 7] = ["identity", "year", "month", "day", "hour", "bucket", "truncate"];
    value
        .text
        .split(',')
        .map(|field| {
            let parsed = field.trim().split_once('(').and_then(|(transform, rest)| {
                let name = transform.split('[').next().unwrap_or_default();
                let column = rest.strip_suffix(')')?;
                TRANSFORMS.contains(&name).then(|| Partitioning {
                    column: column.trim().to_owned(),
                    transform: transform.to_owned(),
                })
            });
            parsed.ok_or_else(|| {
                value.error(format!(
                    "'{}' is no partition field: write TRANSFORM(COLUMN) with {}",
                    field.trim(),
                    TRANSFORMS.join(", ")
                ))
            })
        })
        .collect()
}

fn check(value: Value<'_>, before: &[Check]) -> Result<Check, ModelError> {
    let (name, rest) = value.split_word();
    let (severity_word, condition) = rest.split_word();
    let severity = match severity_word.text {
        "warn" => CheckSeverity::Warn,
        "drop" => CheckSeverity::Drop,
        "fail" => CheckSeverity::Fail,
        other => return Err(severity_word.error(format!("unknown severity '{other}': warn, drop or fail"))),
    };
    if condition.text.is_empty() {
        return Err(condition.error(format!("check '{}' has no condition: add a SQL boolean", name.text)));
    }
    if before.iter().any(|other| other.name == name.text) {
        return Err(name.error(format!("check '{}' stands twice: give it another name", name.text)));
    }
    Ok(Check { name: name.text.to_owned(), severity, condition: condition.text.to_owned(), line: value.line })
}

/// What the kinds ask for.
fn validate(model: &mut Model, kind: Value<'_>) -> Result<(), ModelError> {
    let incremental = matches!(model.kind, ModelKind::Append | ModelKind::Latest | ModelKind::Rules);
    if incremental && model.inputs.len() != 1 {
        let names: Vec<_> = model.inputs.iter().map(ToString::to_string).collect();
        return Err(kind.error(format!(
            "kind '{}' reads one table incrementally, this one reads {}: use kind full, or join in a later model",
            kind.text,
            names.join(", ")
        )));
    }
    if model.kind == ModelKind::Latest && (model.key.is_empty() || model.order.is_empty()) {
        return Err(kind.error("kind 'latest' needs '-- key:' and '-- order:'"));
    }
    if model.dedup.is_some() && (model.kind != ModelKind::Append || !model.key.is_empty()) {
        return Err(kind.error("'dedup' belongs to kind append without a key"));
    }
    if model.judged.is_some() && model.kind != ModelKind::Aggregate {
        return Err(kind.error("'judged' belongs to kind aggregate"));
    }
    match (&model.current, model.kind) {
        (Some(current), ModelKind::Rules) => model.inputs.push(current.clone()),
        (None, ModelKind::Rules) => {
            return Err(kind.error("kind 'rules' needs '-- current:', the table of latest records"));
        }
        (Some(_), _) => return Err(kind.error("'current' belongs to kind rules")),
        (None, _) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests;
