//! How long rows are kept: files of partitions that lie wholly before a layer's retention are taken out of the table.
//!
//! It is a change of metadata alone. Only partitions by time are looked at: a partition goes once its last instant is old enough,
//! and a table without any keeps its rows, as those that hold the newest of each computer do. The snapshot says
//! `firn.reason=retention`, by which models know that what was made of the rows stays. Earlier states can be read until they are
//! collected.

use std::collections::BTreeMap;

use chrono::{DateTime, Days, Months, NaiveDate, TimeDelta, Utc};
use firn_catalog_client::LayerRetention;
use firn_table::{DataFileEntry, Operation, RETENTION, Table};
use serde_json::Value;

use super::Maintenance;
use crate::CompactorError;

impl Maintenance {
    /// Takes outdated files out of a table; answers how many.
    pub(super) async fn retain(&self, table: &Table, days: u32) -> Result<usize, CompactorError> {
        let outdated = outdated_files(table, days).await?;
        if outdated.is_empty() {
            return Ok(0);
        }
        let remove = outdated.iter().map(|file| file.location.clone()).collect();
        let operation =
            Operation::Overwrite { remove: Some(remove), add: Vec::new(), base_snapshot_id: None };
        self.commit(table, operation, RETENTION).await?;
        let rows: u64 = outdated.iter().map(|file| file.record_count).sum();
        tracing::info!(
            tenant = table.client().name(),
            table = %table.ident(),
            files = outdated.len(),
            rows,
            days,
            "rows beyond the retention taken out"
        );
        Ok(outdated.len())
    }
}

/// Days for which a tenant keeps a table's rows; for ever if `None`.
pub(super) fn days_of(retention: &LayerRetention, table: &Table) -> Option<u32> {
    match table.ident().namespace.first().map(String::as_str) {
        Some("bronze") => retention.bronze_days,
        Some("silver") => retention.silver_days,
        Some("gold") => retention.gold_days,
        _ => None,
    }
}

/// Live files of partitions that ended so many days ago.
pub(super) async fn outdated_files(table: &Table, days: u32) -> Result<Vec<DataFileEntry>, CompactorError> {
    if table.current_snapshot().is_none() {
        return Ok(Vec::new());
    }
    let Some(before) = Utc::now().checked_sub_days(Days::new(u64::from(days))) else { return Ok(Vec::new()) };
    let units = units(table.metadata());
    let mut files = table.data_files(None).await?;
    files.retain(|file| is_outdated(file, &units, before));
    Ok(files)
}

/// Length of a partition by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Hour,
    Day,
    Month,
    Year,
}

/// Units of partition fields by spec and name.
fn units(metadata: &Value) -> BTreeMap<(i64, String), Unit> {
    let mut units = BTreeMap::new();
    for spec in metadata["partition-specs"].as_array().into_iter().flatten() {
        let id = spec["spec-id"].as_i64().unwrap_or_default();
        for field in spec["fields"].as_array().into_iter().flatten() {
            let unit = match field["transform"].as_str() {
                Some("hour") => Unit::Hour,
                Some("day") => Unit::Day,
                Some("month") => Unit::Month,
                Some("year") => Unit::Year,
                _ => continue,
            };
            let name = field["name"].as_str().unwrap_or_default().to_owned();
            units.insert((id, name), unit);
        }
    }
    units
}

/// Whether all rows of a file are older than `before`, by one of its partition's fields.
fn is_outdated(file: &DataFileEntry, units: &BTreeMap<(i64, String), Unit>, before: DateTime<Utc>) -> bool {
    file.partition.iter().any(|(name, value)| {
        let unit = units.get(&(i64::from(file.spec_id), name.clone()));
        unit.and_then(|unit| end(*unit, value)).is_some_and(|end| end <= before)
    })
}

/// The first instant after a partition. Days are dates; months, years and hours are counted from 1970.
fn end(unit: Unit, value: &Value) -> Option<DateTime<Utc>> {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
    let months = |count: i64| epoch.checked_add_months(Months::new(u32::try_from(count).ok()?));
    let date = match unit {
        Unit::Hour => {
            let hours = TimeDelta::try_hours(value.as_i64()?.checked_add(1)?)?;
            return DateTime::UNIX_EPOCH.checked_add_signed(hours);
        }
        Unit::Day => value.as_str()?.parse::<NaiveDate>().ok()?.succ_opt()?,
        Unit::Month => months(value.as_i64()?.checked_add(1)?)?,
        Unit::Year => months(value.as_i64()?.checked_add(1)?.checked_mul(12)?)?,
    };
    Some(date.and_hms_opt(0, 0, 0)?.and_utc())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn file(partition: &[(&str, Value)]) -> DataFileEntry {
        DataFileEntry {
            location: "f".to_owned(),
            record_count: 1,
            size_bytes: 1,
            partition: partition.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            spec_id: 0,
            sequence_number: 1,
            added_snapshot_id: 1,
            delete_files: 0,
            deleted_rows: 0,
        }
    }

    #[test]
    fn a_partition_is_outdated_once_its_last_instant_is() {
        let fields = [("h", "hour"), ("d", "day"), ("m", "month"), ("y", "year"), ("b", "bucket[4]")];
        let fields = fields.map(|(name, transform)| json!({"name": name, "transform": transform}));
        let units = units(&json!({"partition-specs": [{"spec-id": 0, "fields": fields}]}));
        let before = "2026-11-22T00:00:00Z".parse().unwrap();
        let is = |partition: &[(&str, Value)]| is_outdated(&file(partition), &units, before);
        assert!(is(&[("d", json!("2026-11-21"))]) && !is(&[("d", json!("2026-11-22"))]));
        // 682 months after 1970 begins November 2026, 57 years after it 2027.
        assert!(is(&[("m", json!(681))]) && !is(&[("m", json!(682))]));
        assert!(is(&[("y", json!(55))]) && !is(&[("y", json!(56))]));
        let hour = "2026-11-22T00:00:00Z".parse::<DateTime<Utc>>().unwrap().timestamp() / 3_600;
        assert!(is(&[("h", json!(hour - 1))]) && !is(&[("h", json!(hour))]));
        assert!(is(&[("b", json!(1)), ("d", json!("2026-11-01"))]));
        assert!(!is(&[("b", json!(1))]) && !is(&[("d", Value::Null)]) && !is(&[]));
        let other_spec = DataFileEntry { spec_id: 1, ..file(&[("d", json!("2026-11-01"))]) };
        assert!(!is_outdated(&other_spec, &units, before), "another spec's field of that name");
    }
}
