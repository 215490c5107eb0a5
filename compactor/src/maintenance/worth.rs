//! What a rewrite is worth: bytes that each scan after it is spared, for each byte that it reads and writes itself.

use firn_table::DataFileEntry;

use super::plan::Settings;

/// What opening one more file costs a scan, as bytes that it could read meanwhile. Engines plan with the same number.
const OPEN_COST_BYTES: u64 = 4 << 20;

/// Of files that are rewritten together; the more the better.
pub(super) fn worth(files: &[DataFileEntry], settings: &Settings) -> f64 {
    let bytes: u64 = files.iter().map(|file| file.size_bytes).sum();
    let dropped: u64 = files.iter().map(deleted_bytes).sum();
    let written = bytes.saturating_sub(dropped);
    let opened: usize = files.iter().map(|file| 1 + file.delete_files).sum();
    let still_opened = usize::try_from(written.div_ceil(settings.target_file_bytes)).unwrap_or(usize::MAX);
    let spared = opened.saturating_sub(still_opened) as u64 * OPEN_COST_BYTES + dropped;
    spared as f64 / (bytes + written).max(1) as f64
}

/// Bytes of rows that scans read for nothing.
fn deleted_bytes(file: &DataFileEntry) -> u64 {
    let share = u128::from(file.size_bytes) * u128::from(file.deleted_rows);
    u64::try_from(share / u128::from(file.record_count.max(1)))
        .unwrap_or(file.size_bytes)
        .min(file.size_bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::MaintenanceConfig;

    const MIB: u64 = 1 << 20;

    fn files(count: usize, size_bytes: u64, delete_files: usize, deleted_rows: u64) -> Vec<DataFileEntry> {
        let file = DataFileEntry {
            location: String::new(),
            record_count: 100,
            size_bytes,
            partition: BTreeMap::new(),
            spec_id: 0,
            sequence_number: 1,
            added_snapshot_id: 1,
            delete_files,
            deleted_rows,
        };
        vec![file; count]
    }

    #[test]
    fn what_spares_readers_most_for_its_cost_comes_first() {
        let settings = Settings::of(&MaintenanceConfig::default(), &BTreeMap::new());
        let by_worth = [
            ("many tiny files", files(1_000, MIB / 10, 0, 0)),
            ("fewer small files", files(20, 5 * MIB, 0, 0)),
            ("half of all rows deleted", files(1, 100 * MIB, 1, 50)),
            ("deletes that each scan opens", files(1, 100 * MIB, 6, 0)),
            ("small files that stay as many bytes", files(16, 30 * MIB, 0, 0)),
            ("nothing to gain", files(1, 100 * MIB, 0, 0)),
        ];
        let worths: Vec<_> = by_worth.iter().map(|(what, files)| (worth(files, &settings), what)).collect();
        for pair in worths.windows(2) {
            assert!(pair[0].0 > pair[1].0, "{pair:?}");
        }
        assert!(worths[5].0.abs() < f64::EPSILON, "{worths:?}");
        assert!(worth(&[], &settings).abs() < f64::EPSILON);
    }
}
