//! What appends brought lately, as their files' metrics tell it.

use std::collections::{BTreeMap, HashMap};

use iceberg::spec::PrimitiveLiteral;

use crate::{Table, TableError, manifests::live_files};

/// What an append brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Time of its snapshot, milliseconds since the epoch.
    pub committed_ms: i64,
    /// Largest value of the column among its rows: of a timestamp, microseconds since the epoch.
    pub largest: i64,
}

impl Table {
    /// Appends since a time (milliseconds since the epoch), oldest first, with the largest value of a top-level column of 64 bits. Those
    /// of which the metrics don't tell it, or whose files were rewritten since, are left out.
    pub async fn arrivals(&self, column: &str, since_ms: i64) -> Result<Vec<Arrival>, TableError> {
        let recent = self.snapshots().into_iter().filter(|snapshot| snapshot.timestamp_ms >= since_ms);
        let recent: HashMap<i64, _> = recent
            .filter(|snapshot| snapshot.operation == "append")
            .map(|snapshot| (snapshot.id, snapshot))
            .collect();
        let oldest = recent.values().map(|snapshot| snapshot.sequence_number).min();
        let schema = self.iceberg_schema()?;
        let (Some(oldest), Some(id)) = (oldest, schema.field_id_by_name(column)) else {
            return Ok(Vec::new());
        };
        let mut manifests = self.live_manifests(None).await?.data;
        manifests.retain(|manifest| manifest.sequence_number >= oldest);
        let mut largest: BTreeMap<(i64, i64), i64> = BTreeMap::new();
        for file in live_files(self.file_io(), &manifests).await? {
            let snapshot = file.entry.snapshot_id().and_then(|id| recent.get(&id));
            let bound = file.data_file().upper_bounds().get(&id).map(|bound| bound.literal());
            if let (Some(snapshot), Some(PrimitiveLiteral::Long(value))) = (snapshot, bound) {
                let known =
                    largest.entry((snapshot.sequence_number, snapshot.timestamp_ms)).or_insert(*value);
                *known = (*known).max(*value);
            }
        }
        let arrival = |((_, committed_ms), largest)| Arrival { committed_ms, largest };
        Ok(largest.into_iter().map(arrival).collect())
    }
}
