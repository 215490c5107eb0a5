//! Random tables and filters.

use apache_avro::types::Value as Avro;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    brute_force::{ENGINES, Row, takes},
    tables::{Manifest, World, document, files},
};
use crate::{
    manifests::{ColumnMetrics, FieldSummary, sample_files::SampleFile},
    scan::{datum::Datum, primitive::Primitive, transform::Transform},
};

const COLUMNS: [(i64, &str, &str); 4] =
    [(1, "n", "long"), (2, "s", "string"), (3, "d", "double"), (4, "t", "timestamp")];

/// Column, transform, and the Avro type of its values.
const SPECS: [Option<(&str, &str, &str)>; 14] = [
    None,
    Some(("n", "identity", "long")),
    Some(("n", "bucket[3]", "int")),
    Some(("n", "truncate[2]", "long")),
    Some(("n", "void", "long")),
    Some(("s", "identity", "string")),
    Some(("s", "bucket[3]", "int")),
    Some(("s", "truncate[1]", "string")),
    Some(("d", "identity", "double")),
    Some(("t", "identity", "timestamp")),
    Some(("t", "hour", "int")),
    Some(("t", "day", "date")),
    Some(("t", "month", "int")),
    Some(("t", "year", "int")),
];

const TRANSFORMS: [(&str, &str); 9] = [
    ("n", "bucket[3]"),
    ("n", "truncate[2]"),
    ("s", "bucket[3]"),
    ("s", "truncate[1]"),
    ("t", "hour"),
    ("t", "day"),
    ("t", "month"),
    ("t", "year"),
    ("n", "identity"),
];

/// How much the manifests tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Statistics {
    Exact,
    /// Bounds that are farther apart than they need be, as those of long texts are.
    Loose,
    None,
}

#[derive(Clone, Debug)]
struct Case {
    spec: usize,
    statistics: Statistics,
    /// Rows of files of manifests.
    manifests: Vec<Vec<Vec<Row>>>,
    filter: Value,
}

fn row(nulls: bool) -> impl Strategy<Value = Row> {
    fn maybe<T: Clone + std::fmt::Debug + 'static>(
        nulls: bool,
        value: impl Strategy<Value = T> + 'static,
    ) -> BoxedStrategy<Option<T>> {
        if nulls { prop::option::weighted(0.8, value).boxed() } else { value.prop_map(Some).boxed() }
    }
    let d = if nulls { vec![-1.5, -0.0, 0.0, 2.5, f64::NAN] } else { vec![-1.5, -0.0, 0.0, 2.5] };
    (
        maybe(nulls, -3..5_i64),
        maybe(nulls, prop::sample::select(texts())),
        maybe(nulls, prop::sample::select(d)),
        maybe(nulls, prop::sample::select(times())),
    )
        .prop_map(|(n, s, d, t)| Row { n, s: s.map(str::to_owned), d, t })
}

fn texts() -> Vec<&'static str> {
    vec!["", "a", "ab", "abc", "b", "é", "éa"]
}

fn times() -> Vec<i64> {
    const DAY: i64 = 86_400_000_000;
    vec![-DAY - 1, -DAY, -1, 0, 1, 3_600_000_000, DAY - 1, DAY, 31 * DAY, 365 * DAY]
}

/// A test of a column, or of what a transform makes of it.
fn leaf() -> impl Strategy<Value = Value> {
    let column = prop::sample::select(vec!["n", "s", "d", "t"]);
    let plain =
        (column, row(false), row(false), any::<prop::sample::Index>()).prop_map(|(name, one, two, op)| {
            let (kind, one) = one.column(name);
            test(json!(name), kind, &one.unwrap(), &two.column(name).1.unwrap(), op)
        });
    let term =
        (prop::sample::select(TRANSFORMS.to_vec()), row(false), row(false), any::<prop::sample::Index>());
    let transformed = term.prop_map(|((name, transform), one, two, op)| {
        let parsed = Transform::parse(transform).unwrap();
        let (kind, one) = one.column(name);
        let apply = |value: Option<Datum>| parsed.apply(&value.unwrap(), kind).unwrap();
        let term = json!({"type": "transform", "transform": transform, "term": name});
        test(term, parsed.result(kind).unwrap(), &apply(one), &apply(two.column(name).1), op)
    });
    prop_oneof![3 => plain, 1 => transformed]
}

fn test(term: Value, kind: Primitive, one: &Datum, two: &Datum, op: prop::sample::Index) -> Value {
    let compared = ["lt", "lt-eq", "gt", "gt-eq", "eq", "not-eq"];
    let mut ops: Vec<&str> = [&compared[..], &["in", "not-in", "is-null", "not-null"]].concat();
    if kind == Primitive::Text {
        ops.extend(["starts-with", "not-starts-with"]);
    }
    if kind.is_floating() {
        ops.extend(["is-nan", "not-nan"]);
    }
    let op = *op.get(&ops);
    match op {
        "in" | "not-in" => {
            json!({"type": op, "term": term, "values": [one.to_json(kind), two.to_json(kind)]})
        }
        "is-null" | "not-null" | "is-nan" | "not-nan" => json!({"type": op, "term": term}),
        _ => json!({"type": op, "term": term, "value": one.to_json(kind)}),
    }
}

fn filter() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![12 => leaf(), 1 => any::<bool>().prop_map(Value::Bool)];
    leaf.prop_recursive(3, 8, 2, |inner| {
        let pair = (prop::sample::select(vec!["and", "or"]), inner.clone(), inner.clone());
        prop_oneof![
            1 => inner.prop_map(|child| json!({"type": "not", "child": child})),
            2 => pair.prop_map(|(kind, left, right)| json!({"type": kind, "left": left, "right": right})),
        ]
    })
}

fn case(rows: std::ops::Range<usize>, nulls: bool) -> impl Strategy<Value = Case> {
    let file = prop::collection::vec(row(nulls), rows);
    let manifest = prop::collection::vec(file, 1..4);
    let statistics = prop::sample::select(vec![Statistics::Exact, Statistics::Loose, Statistics::None]);
    (0..SPECS.len(), statistics, prop::collection::vec(manifest, 1..3), filter())
        .prop_map(|(spec, statistics, manifests, filter)| Case { spec, statistics, manifests, filter })
}

/// The partition value of a row.
fn partition(spec: usize, row: &Row) -> Option<Datum> {
    let (name, transform, _) = SPECS[spec]?;
    let (kind, value) = row.column(name);
    Transform::parse(transform).unwrap().apply(&value?, kind)
}

fn avro(spec: usize, value: &Datum) -> Avro {
    match (value, SPECS[spec].unwrap().2) {
        (Datum::Integer(number), "int") => Avro::Int(i32::try_from(*number).unwrap()),
        (Datum::Integer(number), "date") => Avro::Date(i32::try_from(*number).unwrap()),
        (Datum::Integer(number), "timestamp") => Avro::TimestampMicros(*number),
        (Datum::Integer(number), _) => Avro::Long(*number),
        (Datum::Text(text), _) => Avro::String(text.clone()),
        (Datum::Float(number), _) => Avro::Double(*number),
        other => panic!("no partition value: {other:?}"),
    }
}

fn bytes(value: &Datum, narrow: bool) -> Vec<u8> {
    match value {
        Datum::Integer(number) if narrow => i32::try_from(*number).unwrap().to_le_bytes().to_vec(),
        Datum::Integer(number) => number.to_le_bytes().to_vec(),
        Datum::Text(text) => text.clone().into_bytes(),
        Datum::Float(number) => number.to_le_bytes().to_vec(),
        other => panic!("no bound: {other:?}"),
    }
}

/// The least and the greatest of values.
fn range(values: impl Iterator<Item = Datum>) -> Option<(Datum, Datum)> {
    values.filter(|value| !value.is_nan()).fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value.clone(), value.clone()));
        let low = if value.compare(&low).unwrap().is_lt() { value.clone() } else { low };
        let high = if value.compare(&high).unwrap().is_gt() { value } else { high };
        Some((low, high))
    })
}

fn loosened(value: Datum, up: bool) -> Datum {
    match value {
        Datum::Integer(number) => Datum::Integer(if up { number + 1 } else { number - 1 }),
        Datum::Float(number) => Datum::Float(if up { number + 1.0 } else { number - 1.0 }),
        Datum::Text(text) if up => Datum::Text(format!("{text}~")),
        Datum::Text(text) => Datum::Text(text.chars().take(1).collect()),
        other => other,
    }
}

fn metrics(rows: &[Row], statistics: Statistics) -> Vec<(i64, ColumnMetrics)> {
    let of = |(id, name, _): &(i64, &str, &str)| {
        let values: Vec<Option<Datum>> = rows.iter().map(|row| row.column(name).1).collect();
        let range = range(values.iter().flatten().cloned()).map(|(low, high)| match statistics {
            Statistics::Loose => (loosened(low, false), loosened(high, true)),
            _ => (low, high),
        });
        let metrics = ColumnMetrics {
            bytes: None,
            values: Some(values.len() as i64),
            nulls: Some(values.iter().filter(|value| value.is_none()).count() as i64),
            nans: (*name == "d")
                .then(|| values.iter().flatten().filter(|value| value.is_nan()).count() as i64),
            lower: range.as_ref().map(|(low, _)| bytes(low, false)),
            upper: range.as_ref().map(|(_, high)| bytes(high, false)),
        };
        (*id, metrics)
    };
    match statistics {
        Statistics::None => Vec::new(),
        _ => COLUMNS.iter().map(of).collect(),
    }
}

/// The table's files with their rows, and its manifests.
fn table(case: &Case) -> (Vec<(String, Vec<Row>)>, Vec<Manifest>) {
    let (mut all, mut manifests) = (Vec::new(), Vec::new());
    for (number, manifest) in case.manifests.iter().enumerate() {
        let (mut sample_files, mut values) = (Vec::new(), Vec::new());
        for (index, rows) in manifest.iter().enumerate() {
            // A file has one partition.
            let value = partition(case.spec, &rows[0]);
            let same = |row: &&Row| format!("{:?}", partition(case.spec, row)) == format!("{value:?}");
            let rows: Vec<Row> = rows.iter().filter(same).cloned().collect();
            let path = format!("file:///{number}-{index}");
            sample_files.push(SampleFile {
                partition: vec![value.as_ref().map(|value| avro(case.spec, value))],
                records: rows.len() as i64,
                metrics: metrics(&rows, case.statistics),
                ..SampleFile::data(&path)
            });
            all.push((path, rows));
            values.push(value);
        }
        let spec = SPECS[case.spec];
        let summary = spec.map(|(_, _, kind)| {
            let narrow = matches!(kind, "int" | "date");
            let range = range(values.iter().flatten().cloned());
            vec![FieldSummary {
                contains_null: values.iter().any(Option::is_none),
                contains_nan: Some(values.iter().flatten().any(Datum::is_nan)),
                lower: range.as_ref().map(|(low, _)| bytes(low, narrow)),
                upper: range.as_ref().map(|(_, high)| bytes(high, narrow)),
            }]
        });
        manifests.push(Manifest {
            spec_id: i64::from(spec.is_some()),
            partition: spec.map(|(_, _, kind)| (1000, kind)).into_iter().collect(),
            sequence_number: 1,
            files: sample_files,
            summaries: summary,
        });
    }
    (all, manifests)
}

fn specs(spec: usize) -> Value {
    let plain = json!({"spec-id": 0, "fields": []});
    match SPECS[spec] {
        None => json!([plain]),
        Some((name, transform, _)) => {
            let source = COLUMNS.iter().find(|column| column.1 == name).unwrap().0;
            let field = json!({"source-id": source, "field-id": 1000, "name": "p", "transform": transform});
            json!([plain, {"spec-id": 1, "fields": [field]}])
        }
    }
}

/// The files that are planned, with what is left of the filter; and all files with their rows.
async fn planned(world: &World, case: &Case) -> (Vec<(String, Value)>, Vec<(String, Vec<Row>)>) {
    let (all, manifests) = table(case);
    let snapshot = world.snapshot(1, None, &manifests).await;
    let document = document(&COLUMNS, &specs(case.spec), &[snapshot]);
    let planned = world.plan(&document, json!({"filter": case.filter})).await.unwrap();
    let (tasks, _) = files(planned);
    let task = |task: &Value| {
        (task["data-file"]["file-path"].as_str().unwrap().to_owned(), task["residual-filter"].clone())
    };
    (tasks.iter().map(task).collect(), all)
}

#[test]
fn no_row_that_passes_is_left_out_and_what_is_left_of_the_filter_takes_the_same() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = World::new();
    proptest!(|(case in case(1..4, true))| {
        let (planned, all) = runtime.block_on(planned(&world, &case));
        for (path, rows) in &all {
            let residual = planned.iter().find(|(planned, _)| planned == path).map(|(_, residual)| residual);
            for (row, engine) in rows.iter().flat_map(|row| ENGINES.map(|engine| (row, engine))) {
                let passes = takes(engine, &case.filter, row);
                let still = residual.is_some_and(|residual| takes(engine, residual, row));
                prop_assert_eq!(passes, still, "{} {:?} {:?} {:?}", path, engine, row, residual);
            }
        }
    });
}

#[test]
fn files_of_one_known_row_are_planned_if_and_only_if_it_passes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = World::new();
    proptest!(|(case in case(1..2, false))| {
        let case = Case { statistics: Statistics::Exact, ..case };
        let (planned, all) = runtime.block_on(planned(&world, &case));
        for (path, rows) in &all {
            let residual = planned.iter().find(|(planned, _)| planned == path).map(|(_, residual)| residual);
            let passes = takes(ENGINES[0], &case.filter, &rows[0]);
            prop_assert_eq!(residual, passes.then_some(&json!(true)), "{} {:?}", path, rows);
        }
    });
}
