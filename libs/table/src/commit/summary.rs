//! A snapshot's summary.

use std::collections::{BTreeMap, BTreeSet};

use iceberg::spec::{DataContentType, DataFile, DataFileFormat, Struct};

use crate::SnapshotInfo;

/// What a snapshot adds and removes.
#[derive(Default)]
pub(super) struct Changes {
    added: Side,
    removed: Side,
    partitions: BTreeSet<String>,
}

#[derive(Default)]
struct Side {
    files: u64,
    records: u64,
    bytes: u64,
    delete_files: u64,
    position_delete_files: u64,
    vectors: u64,
    positions: u64,
    equality_delete_files: u64,
    equalities: u64,
}

impl Side {
    fn count(&mut self, file: &DataFile) {
        self.bytes += file.file_size_in_bytes();
        match file.content_type() {
            DataContentType::Data => {
                self.files += 1;
                self.records += file.record_count();
            }
            DataContentType::PositionDeletes => {
                self.delete_files += 1;
                self.positions += file.record_count();
                match file.file_format() {
                    DataFileFormat::Puffin => self.vectors += 1,
                    _ => self.position_delete_files += 1,
                }
            }
            DataContentType::EqualityDeletes => {
                self.delete_files += 1;
                self.equality_delete_files += 1;
                self.equalities += file.record_count();
            }
        }
    }

    /// The counts of the specification's optional fields, under the words for what was done.
    fn write(&self, done: &str, done_to_data: &str, mut set: impl FnMut(String, u64)) {
        set(format!("{done_to_data}-data-files"), self.files);
        set(format!("{done_to_data}-records"), self.records);
        set(format!("{done}-files-size"), self.bytes);
        set(format!("{done}-delete-files"), self.delete_files);
        set(format!("{done}-position-delete-files"), self.position_delete_files);
        set(format!("{done}-dvs"), self.vectors);
        set(format!("{done}-position-deletes"), self.positions);
        set(format!("{done}-equality-delete-files"), self.equality_delete_files);
        set(format!("{done}-equality-deletes"), self.equalities);
    }
}

impl Changes {
    pub(super) fn add(&mut self, file: &DataFile) {
        self.added.count(file);
        self.touch(file.partition());
    }

    pub(super) fn remove(&mut self, file: &DataFile) {
        self.removed.count(file);
        self.touch(file.partition());
    }

    fn touch(&mut self, partition: &Struct) {
        self.partitions.insert(format!("{partition:?}"));
    }

    /// The summary with totals carried on from the base; totals that the base doesn't know stay unknown.
    pub(super) fn summary(
        &self,
        operation: &str,
        base: Option<&SnapshotInfo>,
        extra: &BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let mut summary = extra.clone();
        summary.insert("operation".to_owned(), operation.to_owned());
        summary.insert("engine-name".to_owned(), "firn".to_owned());
        let mut set = |key: String, value: u64| {
            if value > 0 {
                summary.insert(key, value.to_string());
            }
        };
        self.added.write("added", "added", &mut set);
        self.removed.write("removed", "deleted", &mut set);
        summary.insert("changed-partition-count".to_owned(), self.partitions.len().to_string());
        let totals = [
            ("total-data-files", self.added.files, self.removed.files),
            ("total-records", self.added.records, self.removed.records),
            ("total-files-size", self.added.bytes, self.removed.bytes),
            ("total-delete-files", self.added.delete_files, self.removed.delete_files),
            ("total-position-deletes", self.added.positions, self.removed.positions),
            ("total-equality-deletes", self.added.equalities, self.removed.equalities),
        ];
        for (key, added, removed) in totals {
            let before = match base {
                None => Some(0),
                Some(base) => base.summary.get(key).and_then(|value| value.parse::<u64>().ok()),
            };
            if let Some(total) = before.and_then(|before| (before + added).checked_sub(removed)) {
                summary.insert(key.to_owned(), total.to_string());
            }
        }
        summary
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use iceberg::spec::{DataContentType, DataFileBuilder, DataFileFormat};

    use super::*;

    fn file(records: u64) -> DataFile {
        DataFileBuilder::default()
            .content(DataContentType::Data)
            .file_path("file:///f".to_owned())
            .file_format(DataFileFormat::Parquet)
            .record_count(records)
            .file_size_in_bytes(records * 10)
            .build()
            .unwrap()
    }

    fn base(summary: &[(&str, &str)]) -> SnapshotInfo {
        SnapshotInfo {
            id: 1,
            parent_id: None,
            sequence_number: 1,
            timestamp_ms: 1,
            operation: "append".to_owned(),
            summary: summary.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        }
    }

    #[test]
    fn totals_are_carried_on() {
        let mut changes = Changes::default();
        changes.add(&file(5));
        changes.remove(&file(2));
        let extra = BTreeMap::from([("firn.model".to_owned(), "silver".to_owned())]);
        let base = base(&[("total-records", "12"), ("total-data-files", "3"), ("total-files-size", "120")]);

        let summary = changes.summary("overwrite", Some(&base), &extra);

        assert_eq!(summary["total-records"], "15");
        assert_eq!(summary["total-data-files"], "3");
        assert_eq!(summary["total-files-size"], "150");
        assert_eq!(summary["added-records"], "5");
        assert_eq!(summary["deleted-records"], "2");
        assert_eq!(summary["changed-partition-count"], "1");
        assert_eq!(summary["firn.model"], "silver");
        assert!(!summary.contains_key("total-delete-files"), "unknown in the base");
    }

    #[test]
    fn the_first_snapshot_counts_from_zero() {
        let mut changes = Changes::default();
        changes.add(&file(5));
        let summary = changes.summary("append", None, &BTreeMap::new());
        assert_eq!((summary["total-records"].as_str(), summary["total-delete-files"].as_str()), ("5", "0"));
        assert!(!summary.contains_key("deleted-records"));
    }
}
