//! Deciding what to pack and what to expire.

use std::collections::BTreeMap;

use firn_table::{DataFileEntry, RowOrder, SnapshotInfo, Table};

use super::millis;
use crate::MaintenanceConfig;

/// Prefix of the table properties that override the configuration.
const PREFIX: &str = "firn.maintenance.";
/// Delete files that may apply to a data file before it is worth a rewrite: each is read with it
/// (`firn.maintenance.max-delete-files`).
const MAX_DELETE_FILES: usize = 4;
/// Share of deleted rows above which a file is worth a rewrite (`firn.maintenance.max-deleted-percent`).
const MAX_DELETED_PERCENT: u64 = 20;
/// A row group of so small a share of a file's wanted size is decoded and goes into a larger one
/// (`firn.maintenance.min-row-group-bytes`).
const MIN_ROW_GROUP_SHARE: u64 = 16;
/// Files' worth of rows that are put in order together, unless `firn.maintenance.order-bytes` says otherwise: each file then covers
/// about so small a share of their values.
const FILES_IN_ORDER: u64 = 16;
/// Snapshots that an expiry must remove at least, so that it is worth a commit.
pub(super) const WORTH_EXPIRING: usize = 10;

/// A table's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) target_file_bytes: u64,
    pub(super) min_small_files: usize,
    pub(super) min_row_group_bytes: u64,
    pub(super) max_delete_files: usize,
    pub(super) max_deleted_percent: u64,
    pub(super) snapshot_age_ms: i64,
    pub(super) min_snapshots: usize,
    pub(super) max_model_wait_ms: i64,
    pub(super) order: RowOrder,
    /// Bytes of files that are put in order together.
    pub(super) order_bytes: u64,
}

impl Settings {
    /// The configuration with the table's properties on top; one that is no number is passed over with a warning.
    pub(super) fn of(config: &MaintenanceConfig, properties: &BTreeMap<String, String>) -> Self {
        let number = |name: &str| {
            let text = properties.get(&format!("{PREFIX}{name}"))?;
            let parsed = text.parse::<u64>();
            if parsed.is_err() {
                tracing::warn!(property = name, value = %text, "table property is no number, the default is used");
            }
            parsed.ok()
        };
        let count = |name: &str, default: usize| {
            number(name).and_then(|value| usize::try_from(value).ok()).unwrap_or(default)
        };
        let age = number("snapshot-age-ms").and_then(|value| i64::try_from(value).ok());
        let target_file_bytes = number("target-file-bytes").unwrap_or(config.target_file_bytes).max(1);
        Self {
            target_file_bytes,
            min_row_group_bytes: number("min-row-group-bytes")
                .unwrap_or(target_file_bytes / MIN_ROW_GROUP_SHARE)
                .max(1),
            min_small_files: count("min-small-files", config.min_small_files).max(2),
            max_delete_files: count("max-delete-files", MAX_DELETE_FILES),
            max_deleted_percent: number("max-deleted-percent").unwrap_or(MAX_DELETED_PERCENT),
            snapshot_age_ms: age.unwrap_or(millis(config.snapshot_age)),
            min_snapshots: count("min-snapshots", config.min_snapshots).max(1),
            max_model_wait_ms: millis(config.max_model_wait),
            order: RowOrder::Kept,
            order_bytes: number("order-bytes")
                .unwrap_or(target_file_bytes.saturating_mul(FILES_IN_ORDER))
                .max(target_file_bytes),
        }
    }

    /// A table's settings; an order that can't be read is passed over with a warning.
    pub(super) fn of_table(config: &MaintenanceConfig, table: &Table) -> Self {
        let order = RowOrder::of(table).unwrap_or_else(|error| {
            tracing::warn!(table = %table.ident(), error, "rows are rewritten as they are");
            RowOrder::Kept
        });
        Self { order, ..Self::of(config, &table.properties()) }
    }

    /// Bytes that are rewritten together: one file's worth, unless rows are to move between files.
    fn group_bytes(&self) -> u64 {
        if self.order.moves_rows() { self.order_bytes } else { self.target_file_bytes }
    }
}

/// Groups of files of one partition that are worth a rewrite, each about as large as one file should be, or as many as are put in order together: many small files, and files with many
/// deletes.
pub(super) fn bins(files: &[DataFileEntry], settings: &Settings) -> Vec<Vec<DataFileEntry>> {
    let newest_spec = files.iter().map(|file| file.spec_id).max();
    let mut partitions: BTreeMap<String, Vec<&DataFileEntry>> = BTreeMap::new();
    for file in files {
        // Files of an older spec would land in other partitions than they come from.
        if Some(file.spec_id) == newest_spec && (settings.is_small(file) || settings.is_worn(file)) {
            let partition = serde_json::to_string(&file.partition).unwrap_or_default();
            partitions.entry(partition).or_default().push(file);
        }
    }
    let mut bins = Vec::new();
    for mut files in partitions.into_values() {
        if files.iter().filter(|file| settings.is_small(file)).count() < settings.min_small_files {
            files.retain(|file| settings.is_worn(file));
        }
        let groups = groups(files, settings.group_bytes());
        bins.extend(
            groups.into_iter().filter(|bin| bin.len() > 1 || bin.iter().any(|file| settings.is_worn(file))),
        );
    }
    bins
}

/// All files, each partition in groups about as large as one file should be.
pub(super) fn everything(files: &[DataFileEntry], settings: &Settings) -> Vec<Vec<DataFileEntry>> {
    let mut partitions: BTreeMap<(i32, String), Vec<&DataFileEntry>> = BTreeMap::new();
    for file in files {
        let partition = serde_json::to_string(&file.partition).unwrap_or_default();
        partitions.entry((file.spec_id, partition)).or_default().push(file);
    }
    partitions.into_values().flat_map(|files| groups(files, settings.group_bytes())).collect()
}

/// Oldest first: rows that came together stay together.
fn groups(mut files: Vec<&DataFileEntry>, group_bytes: u64) -> Vec<Vec<DataFileEntry>> {
    files.sort_by_key(|file| (file.sequence_number, file.location.clone()));
    let (mut groups, mut bytes) = (Vec::<Vec<DataFileEntry>>::new(), 0);
    for file in files {
        match groups.last_mut() {
            Some(group) if bytes + file.size_bytes <= group_bytes => group.push(file.clone()),
            _ => {
                groups.push(vec![file.clone()]);
                bytes = 0;
            }
        }
        bytes += file.size_bytes;
    }
    groups
}
impl Settings {
    pub(super) fn is_small(&self, file: &DataFileEntry) -> bool {
        file.size_bytes < self.target_file_bytes / 4
    }

    /// Whether reading the file is slow because of its deletes.
    pub(super) fn is_worn(&self, file: &DataFileEntry) -> bool {
        let allowed = u128::from(file.record_count) * u128::from(self.max_deleted_percent);
        file.delete_files > self.max_delete_files || u128::from(file.deleted_rows) * 100 > allowed
    }
}

/// The time before which snapshots go, if enough of them do. `unread_since` is the time of the oldest snapshot that a
/// model has to start from; it stays.
pub(super) fn expiry(
    snapshots: &[SnapshotInfo],
    settings: &Settings,
    unread_since: Option<i64>,
    now_ms: i64,
) -> Option<i64> {
    let older_than_ms = expiry_time(settings, unread_since, now_ms);
    let old = snapshots.iter().filter(|snapshot| snapshot.timestamp_ms < older_than_ms).count();
    let beyond = snapshots.len().saturating_sub(settings.min_snapshots);
    (old.min(beyond) >= WORTH_EXPIRING).then_some(older_than_ms)
}

/// The time before which snapshots may go.
pub(super) fn expiry_time(settings: &Settings, unread_since: Option<i64>, now_ms: i64) -> i64 {
    let patience_ends_ms = now_ms - settings.max_model_wait_ms;
    let waited_for = unread_since.unwrap_or(i64::MAX).max(patience_ends_ms);
    (now_ms - settings.snapshot_age_ms).min(waited_for)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn settings() -> Settings {
        let properties = [
            ("target-file-bytes", "1000"),
            ("min-small-files", "3"),
            ("snapshot-age-ms", "100"),
            ("min-snapshots", "5"),
        ];
        let properties = properties.map(|(name, value)| (format!("{PREFIX}{name}"), value.to_owned()));
        Settings::of(&MaintenanceConfig::default(), &BTreeMap::from(properties))
    }

    fn file(name: u64, day: &str, size_bytes: u64, spec_id: i32) -> DataFileEntry {
        DataFileEntry {
            location: format!("f{name}"),
            record_count: 1,
            size_bytes,
            partition: BTreeMap::from([("day".to_owned(), json!(day))]),
            spec_id,
            sequence_number: i64::try_from(name).unwrap(),
            added_snapshot_id: 1,
            delete_files: 0,
            deleted_rows: 0,
        }
    }

    fn names(bins: &[Vec<DataFileEntry>]) -> Vec<Vec<&str>> {
        bins.iter().map(|bin| bin.iter().map(|file| file.location.as_str()).collect()).collect()
    }

    #[test]
    fn only_many_small_files_of_one_partition_are_packed() {
        let mut files =
            vec![file(4, "a", 200, 1), file(1, "a", 200, 1), file(2, "a", 249, 1), file(3, "a", 250, 1)];
        assert_eq!(names(&bins(&files, &settings())), [["f1", "f2", "f4"]]);
        files.truncate(2);
        files.extend([file(5, "b", 10, 1), file(6, "a", 10, 0)]);
        assert!(bins(&files, &settings()).is_empty());
    }

    #[test]
    fn files_with_many_deletes_are_rewritten_even_alone() {
        let worn = |name, delete_files, deleted_rows| DataFileEntry {
            record_count: 100,
            delete_files,
            deleted_rows,
            ..file(name, "a", 900, 1)
        };
        let files = [worn(1, 4, 20), worn(2, 5, 0), worn(3, 1, 21), file(4, "a", 10, 1)];
        assert_eq!(names(&bins(&files, &settings())), [["f2"], ["f3"]]);
    }

    #[test]
    fn everything_keeps_partitions_apart() {
        let files = [file(1, "a", 600, 0), file(2, "a", 600, 1), file(3, "b", 100, 1), file(4, "b", 2000, 1)];
        assert_eq!(names(&everything(&files, &settings())), [vec!["f1"], vec!["f2"], vec!["f3"], vec!["f4"]]);
        let small = [file(1, "a", 400, 0), file(2, "a", 600, 0), file(3, "a", 1, 0)];
        assert_eq!(names(&everything(&small, &settings())), [vec!["f1", "f2"], vec!["f3"]]);
    }

    #[test]
    fn rows_that_are_put_in_order_are_rewritten_with_many_others() {
        let mut settings = settings();
        settings.order = RowOrder::parse("sort(a)").unwrap();
        let files: Vec<_> = (0..40).map(|name| file(name, "a", 900, 0)).collect();
        let sizes: Vec<_> = everything(&files, &settings).iter().map(Vec::len).collect();
        assert_eq!(sizes, [17, 17, 6]);
        settings.order_bytes = 18_000;
        let sizes: Vec<_> = everything(&files, &settings).iter().map(Vec::len).collect();
        assert_eq!(sizes, [20, 20]);
        assert!(bins(&files, &settings).is_empty(), "files of a good size stay");
    }

    #[test]
    fn a_bin_holds_one_files_worth() {
        let files: Vec<_> = (0..12).map(|name| file(name, "a", 240, 0)).collect();
        let sizes: Vec<_> = bins(&files, &settings()).iter().map(Vec::len).collect();
        assert_eq!(sizes, [4, 4, 4]);
    }

    fn snapshots(count: i64) -> Vec<SnapshotInfo> {
        let snapshot = |time| SnapshotInfo {
            id: time,
            parent_id: None,
            sequence_number: time,
            timestamp_ms: time,
            operation: "append".to_owned(),
            summary: BTreeMap::new(),
        };
        (0..count).map(snapshot).collect()
    }

    #[test]
    fn expiry_waits_for_models_but_not_for_ever() {
        let settings = settings();
        assert_eq!(expiry(&snapshots(40), &settings, None, 130), Some(30));
        assert_eq!(
            expiry(&snapshots(40), &settings, Some(20), 130),
            Some(20),
            "a model starts from snapshot 20"
        );
        assert_eq!(expiry(&snapshots(40), &settings, Some(5), 130), None, "five are not worth a commit");
        assert_eq!(expiry(&snapshots(14), &settings, None, 10_000), None, "five of fourteen stay anyway");
        let late = settings.max_model_wait_ms + 30;
        assert_eq!(expiry(&snapshots(40), &settings, Some(20), late), Some(30));
    }
}
