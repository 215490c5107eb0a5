//! Files of several writers, and what of them is kept.

#![allow(clippy::unwrap_used)]

use std::{collections::HashMap, sync::Arc};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use firn_catalog_client::{
    CatalogClient, StaticToken,
    iceberg::{LoadTableResult, TableIdent},
};
use iceberg::spec::{ManifestEntry, ManifestStatus, Struct};
use parquet::{
    arrow::ArrowWriter,
    basic::Compression,
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, ReaderProperties, WriterProperties, WriterPropertiesBuilder},
        reader::FileReader,
        serialized_reader::{ReadOptionsBuilder, SerializedFileReader},
    },
};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{
    StorageConfig,
    write::{ClosedFile, data_file},
};

/// A table that no catalog knows, with a text `a` and a number `b`, in a folder.
fn table(folder: &TempDir) -> Table {
    let metadata = json!({
        "format-version": 2, "location": format!("file://{}", folder.path().display()),
        "current-schema-id": 0, "default-spec-id": 0, "properties": {},
        "schemas": [{"type": "struct", "schema-id": 0, "fields": [
            {"id": 1, "name": "a", "type": "string", "required": false},
            {"id": 2, "name": "b", "type": "long", "required": false}]}],
        "partition-specs": [{"spec-id": 0, "fields": []}],
    });
    let token = Arc::new(StaticToken("none".to_owned()));
    let client = CatalogClient::new("http://127.0.0.1:1", token).unwrap().tenant("acme");
    let loaded = LoadTableResult { metadata_location: None, metadata, config: [].into() };
    let (file_io, ident) = (FileIo::new(StorageConfig::default()), TableIdent::new("ns", "t"));
    Table::from_loaded(&client, &file_io, "main", &ident, loaded)
}

fn zstd() -> WriterPropertiesBuilder {
    WriterProperties::builder().set_compression(Compression::ZSTD(Default::default()))
}

/// A file of two rows as a writer with these properties makes it.
async fn source(table: &Table, name: &str, properties: WriterPropertiesBuilder) -> Source {
    let schema = table.arrow_schema().unwrap();
    let texts: ArrayRef = Arc::new(StringArray::from(vec![Some(name), None]));
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![texts, numbers]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    stored(table, name, writer.into_inner().unwrap()).await
}

async fn stored(table: &Table, name: &str, bytes: Vec<u8>) -> Source {
    let location = format!("{}/{name}.parquet", table.location().unwrap());
    let size_bytes = bytes.len() as u64;
    table.file_io().write_new(&location, bytes.into()).await.unwrap();
    let footer = read_footer(table.file_io(), &location, size_bytes).await.unwrap();
    let file = ClosedFile {
        location: &location,
        size_bytes,
        partition: Struct::empty(),
        spec_id: 0,
        nan_counts: HashMap::new(),
    };
    let data_file = data_file(file, &footer, &table.iceberg_schema().unwrap()).unwrap();
    let entry =
        ManifestEntry::builder().status(ManifestStatus::Added).sequence_number(1).data_file(data_file);
    Source { file: LiveFile { spec_id: 0, entry: Arc::new(entry.build()) }, footer }
}

fn standard(table: &Table) -> Standard {
    Standard::new(table, &table.arrow_schema().unwrap(), 1, 1 << 20).unwrap()
}

#[tokio::test]
async fn each_fault_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let table = table(&folder);
    let standard = standard(&table);
    let faults = [
        ("good", zstd(), None),
        ("snappy", WriterProperties::builder().set_compression(Compression::SNAPPY), Some("zstd")),
        (
            "unindexed",
            zstd().set_offset_index_disabled(true).set_statistics_enabled(EnabledStatistics::Chunk),
            Some("no page index"),
        ),
        (
            "untold",
            zstd().set_column_statistics_enabled("a".into(), EnabledStatistics::None),
            Some("no statistics"),
        ),
    ];
    for (name, properties, fault) in faults {
        let found = standard.fault_of(&source(&table, name, properties).await);
        assert_eq!(found.is_some(), fault.is_some(), "{name}: {found:?}");
        assert!(found.unwrap_or_default().contains(fault.unwrap_or_default()), "{name}: {found:?}");
    }
    let one = source(&table, "one", zstd()).await;
    let fault = |standard: &Standard, source: &Source| standard.fault_of(source).unwrap_or_default();
    let schema = table.arrow_schema().unwrap();
    let large = Standard::new(&table, &schema, 1 << 20, 1 << 20).unwrap();
    assert!(fault(&large, &one).contains("small") && !large.may_be_met_by(&one.file));
    let narrow = Standard::new(&table, &schema, 1, 10).unwrap();
    assert!(fault(&narrow, &one).contains("memory"));
    let wider = schema.project(&[0]).unwrap();
    assert!(fault(&Standard::new(&table, &wider, 1, 1 << 20).unwrap(), &one).contains("columns"));
    let two = source(&table, "two", zstd().set_max_row_group_row_count(Some(1))).await;
    let confused = Source { file: one.file, footer: two.footer };
    let mut groups = confused.footer.into_builder();
    let mut kept = groups.take_row_groups();
    kept.pop();
    let confused = Source { file: confused.file, footer: groups.set_row_groups(kept).build() };
    assert!(fault(&standard, &confused).contains("manifest"));
}

#[tokio::test]
async fn bloom_filters_and_what_all_writers_say_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let table = table(&folder);
    let told = |own: &str| {
        let pair = |key: &str, value: &str| KeyValue::new(key.to_owned(), value.to_owned());
        let pairs = vec![pair("engine", "one"), pair("task", own)];
        zstd()
            .set_bloom_filter_enabled(true)
            .set_created_by("other 1.2".to_owned())
            .set_key_value_metadata(Some(pairs))
    };
    let sources = vec![source(&table, "x", told("1")).await, source(&table, "y", told("2")).await];
    let options = WriteOptions::default();
    let written = copy_row_groups(&table, table.arrow_schema().unwrap(), &sources, &options).await.unwrap();
    let [written] = &written[..] else { panic!("{written:?}") };
    let bytes = table.file_io().read(&written.location).await.unwrap();
    let properties = ReaderProperties::builder().set_read_bloom_filter(true).build();
    let options = ReadOptionsBuilder::new().with_reader_properties(properties).build();
    let reader = SerializedFileReader::new_with_options(bytes, options).unwrap();
    for (number, (here, elsewhere)) in [("x", "y"), ("y", "x")].into_iter().enumerate() {
        let group = reader.get_row_group(number).unwrap();
        let filter = group.get_column_bloom_filter(0).unwrap();
        assert!(filter.check(&here) && !filter.check(&elsewhere));
        assert!(group.get_column_bloom_filter(1).unwrap().check(&1_i64));
    }
    let file = reader.metadata().file_metadata();
    assert_eq!(file.created_by(), Some("other 1.2"));
    let keys = file.key_value_metadata().unwrap().iter().map(|pair| pair.key.as_str()).collect::<Vec<_>>();
    assert!(keys.contains(&"engine") && !keys.contains(&"task"), "{keys:?}");
}

#[tokio::test]
async fn the_largest_set_of_files_alike_is_chosen_if_it_is_most_of_all() {
    let folder = tempfile::tempdir().unwrap();
    let table = table(&folder);
    let by = |writer: &str| zstd().set_created_by(writer.to_owned());
    let mut sources = Vec::new();
    for (name, writer) in [("a1", "a"), ("b1", "b"), ("a2", "a"), ("a3", "a")] {
        sources.push(source(&table, name, by(writer)).await);
    }
    let bytes: u64 = sources.iter().map(|source| source.file.data_file().file_size_in_bytes()).sum();
    let again = |sources: &[Source]| {
        let again = |source: &Source| Source { file: source.file.clone(), footer: source.footer.clone() };
        sources.iter().map(again).collect::<Vec<_>>()
    };
    let names = |chosen: Vec<Source>| {
        let name = |source: &Source| source.file.location().rsplit('/').next().unwrap().to_owned();
        chosen.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(
        names(standard::largest_alike(again(&sources), bytes)),
        ["a1.parquet", "a2.parquet", "a3.parquet"]
    );
    assert!(standard::largest_alike(again(&sources), 2 * bytes).is_empty(), "most bytes are elsewhere");
    assert!(standard::largest_alike(again(&sources[..2]), 0).is_empty(), "one file alone");
}

#[tokio::test]
async fn pages_that_are_damaged_are_not_copied() {
    let folder = tempfile::tempdir().unwrap();
    let table = table(&folder);
    let sources = vec![source(&table, "x", zstd()).await, source(&table, "y", zstd()).await];
    let path = folder.path().join("y.parquet");
    let mut bytes = std::fs::read(&path).unwrap();
    // The first page's header, behind the magic number.
    bytes[4..12].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let options = WriteOptions::default();
    let error = copy_row_groups(&table, table.arrow_schema().unwrap(), &sources, &options).await.unwrap_err();
    assert_eq!(error.kind, TableErrorKind::Invalid);
    assert!(error.context.contains("column \"a\" of") && error.context.contains("y.parquet"), "{error}");
    assert!(!folder.path().join("data").read_dir().unwrap().any(|_| true), "nothing is left");
}
