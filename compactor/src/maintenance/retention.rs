//! How long rows are kept, by layer and by class.
//!
//! Of tables that are partitioned by time, files of partitions go that lie wholly before a layer's retention: a change of metadata
//! alone. Of other tables rows go, one by one; and where a class of values is kept for a shorter time than the rows, its columns are
//! emptied ([`rows`]). The snapshot says `firn.reason=retention`, by which models know that what was made of the rows stays. Earlier
//! states can be read until they are collected.

mod rows;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use chrono::{DateTime, Days, Months, NaiveDate, TimeDelta, Utc};
use firn_catalog_client::LayerRetention;
use firn_table::{DataFileEntry, Operation, RETENTION, Table};
use serde::Serialize;
use serde_json::Value;

use super::{Maintenance, MaintenancePlace};
use crate::CompactorError;

/// How often tables are looked through for single rows.
const ROWS_INTERVAL: Duration = Duration::from_secs(3_600);

/// What retention took, or would take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Retained {
    /// Files of partitions that ended before.
    pub removed_files: usize,
    /// Rows of tables that aren't partitioned by time.
    pub deleted_rows: u64,
    /// Rows whose values of a class went.
    pub emptied_rows: u64,
}

/// For how many days rows of one table are kept, and values of its columns by their class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TableRetention {
    pub(super) days: Option<u32>,
    pub(super) classes: BTreeMap<String, u32>,
}

impl TableRetention {
    /// What a tenant wants of a table, by its layer.
    pub(super) fn of(retention: &LayerRetention, table: &Table) -> Self {
        let layer = table.ident().namespace.first().map_or("", String::as_str);
        let days = match layer {
            "bronze" => retention.bronze_days,
            "silver" => retention.silver_days,
            "gold" => retention.gold_days,
            _ => None,
        };
        let of_layer = retention.classes.iter().filter_map(|(name, days)| {
            let (of, class) = name.split_once('.')?;
            (of == layer).then(|| (class.to_owned(), *days))
        });
        Self { days, classes: of_layer.collect() }
    }

    fn is_empty(&self) -> bool {
        self.days.is_none() && self.classes.is_empty()
    }
}

impl Maintenance {
    /// Does what is due in a table: files whenever they are outdated, rows now and then.
    pub(super) async fn retain_if_due(
        &self,
        table: &Table,
        retention: &TableRetention,
        place: &mut MaintenancePlace,
    ) -> Result<Retained, CompactorError> {
        if retention.is_empty() {
            return Ok(Retained::default());
        }
        let looked = place.looked_through.get(table.ident());
        let is_due = looked.is_none_or(|at| at.elapsed() >= ROWS_INTERVAL);
        let retained = self.retain(table, retention, is_due).await?;
        if is_due {
            place.looked_through.insert(table.ident().clone(), Instant::now());
        }
        Ok(retained)
    }

    /// Takes what is outdated out of a table, single rows only if `by_row`.
    pub(super) async fn retain(
        &self,
        table: &Table,
        retention: &TableRetention,
        by_row: bool,
    ) -> Result<Retained, CompactorError> {
        let mut retained = Retained::default();
        if let Some(days) = retention.days {
            retained.removed_files = self.remove_outdated_files(table, days).await?;
            if let (true, false, Some(before)) = (by_row, is_partitioned_by_time(table), days_ago(days)) {
                retained.deleted_rows = self.delete_outdated_rows(&again(table).await?, before).await?;
            }
        }
        for (class, days) in retention.classes.iter().filter(|_| by_row) {
            let Some(before) = days_ago(*days) else { continue };
            retained.emptied_rows += self.empty_outdated_values(&again(table).await?, class, before).await?;
        }
        if retained != Retained::default() {
            tracing::info!(tenant = table.client().name(), table = %table.ident(), ?retained, "retention");
        }
        Ok(retained)
    }

    /// What [`Maintenance::retain`] would take of whole rows.
    pub(super) async fn outdated(&self, table: &Table, days: u32) -> Result<Retained, CompactorError> {
        let mut retained =
            Retained { removed_files: outdated_files(table, days).await?.len(), ..Retained::default() };
        if let (false, Some(before)) = (is_partitioned_by_time(table), days_ago(days)) {
            retained.deleted_rows = self.count_outdated_rows(table, before).await?;
        }
        Ok(retained)
    }

    async fn remove_outdated_files(&self, table: &Table, days: u32) -> Result<usize, CompactorError> {
        let outdated = outdated_files(table, days).await?;
        if outdated.is_empty() {
            return Ok(0);
        }
        let remove = outdated.iter().map(|file| file.location.clone()).collect();
        let operation =
            Operation::Overwrite { remove: Some(remove), add: Vec::new(), base_snapshot_id: None };
        self.commit(table, operation, RETENTION).await?;
        Ok(outdated.len())
    }
}

/// The table as it is now: places of rows hold for the files that it has, and those were just packed, perhaps.
async fn again(table: &Table) -> Result<Table, CompactorError> {
    Ok(Table::load(table.client(), table.file_io(), table.reference(), table.ident()).await?)
}

fn days_ago(days: u32) -> Option<DateTime<Utc>> {
    Utc::now().checked_sub_days(Days::new(u64::from(days)))
}

/// Whether new rows go into partitions by time, so that they go with these.
fn is_partitioned_by_time(table: &Table) -> bool {
    let spec_id = table.metadata()["default-spec-id"].as_i64().unwrap_or_default();
    units(table.metadata()).keys().any(|(id, _)| *id == spec_id)
}

/// Live files of partitions that ended so many days ago.
async fn outdated_files(table: &Table, days: u32) -> Result<Vec<DataFileEntry>, CompactorError> {
    if table.current_snapshot().is_none() {
        return Ok(Vec::new());
    }
    let Some(before) = days_ago(days) else { return Ok(Vec::new()) };
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
