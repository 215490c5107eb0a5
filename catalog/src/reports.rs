//! Metrics reports of engines, kept for a while.
//!
//! A third of all requests of some engines are reports, so they are collected in memory and written once a second, in a fixed number
//! of documents per tenant that each hold the newest of their tables: what they take is bounded, and nothing has to be swept. What
//! was not written when a process ends is lost, which is no loss of data.

mod redact;

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use firn_catalog_client::MetricsReport;
use serde_json::json;

use crate::{
    CatalogError,
    store::{DocumentPut, DocumentRow, DocumentSelection, Hash, Store, Write, Written},
};

pub(crate) use redact::without_values;

const KIND: &str = "metrics-reports";
/// Documents of a tenant.
const SHARDS: u8 = 32;
/// Reports of a document, and their size.
const KEPT: usize = 100;
const KEPT_BYTES: usize = 128 << 10;
/// Age at which reports are forgotten.
const MAX_AGE: TimeDelta = TimeDelta::days(7);
/// Reports that wait to be written; more are dropped.
const WAITING: usize = 10_000;
const PAUSE: Duration = Duration::from_secs(1);
/// Tries against other replicas that write the same document.
const ATTEMPTS: usize = 5;

/// Tenant and number of a document.
type Shard = (String, u8);

/// Collects reports. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reports {
    store: Arc<dyn Store>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    reports: HashMap<Shard, Vec<MetricsReport>>,
    count: usize,
    /// Whether a task is there that will write them.
    is_written: bool,
}

impl Reports {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, waiting: Arc::default() }
    }

    /// Takes a report, to be written soon.
    pub(crate) fn add(&self, tenant: &str, report: MetricsReport) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.count >= WAITING {
            dropped(tenant, 1);
            return;
        }
        waiting.count += 1;
        let shard = (tenant.to_owned(), shard_of(&report));
        waiting.reports.entry(shard).or_default().push(report);
        if !mem::replace(&mut waiting.is_written, true) {
            tokio::spawn(self.clone().write_all());
        }
    }

    /// Reports of a tenant that `wanted` takes, newest first. With a table only the document that has it is read.
    pub(crate) async fn find(
        &self,
        tenant: &str,
        table: Option<&[String]>,
        wanted: impl Fn(&MetricsReport) -> bool,
        limit: usize,
    ) -> Result<Vec<MetricsReport>, CatalogError> {
        let key = table.map(|table| number_of(table).to_string());
        let selection = match &key {
            Some(key) => DocumentSelection::One { tenant, key },
            None => DocumentSelection::Tenant(tenant),
        };
        let rows = self.store.documents(KIND, selection).await?;
        let mut reports: Vec<MetricsReport> = rows.iter().flat_map(decode).filter(wanted).collect();
        reports.retain(|report| is_young(report, Utc::now()));
        reports.sort_by(|one, other| other.received_at.cmp(&one.received_at));
        reports.truncate(limit);
        Ok(reports)
    }

    /// Writes what waits, until nothing does.
    async fn write_all(self) {
        loop {
            tokio::time::sleep(PAUSE).await;
            let reports = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                waiting.count = 0;
                if waiting.reports.is_empty() {
                    waiting.is_written = false;
                    return;
                }
                mem::take(&mut waiting.reports)
            };
            for ((tenant, shard), reports) in reports {
                let count = reports.len();
                if let Err(error) = self.write(&tenant, shard, reports).await {
                    tracing::debug!(tenant, %error, "metrics reports were not stored");
                    dropped(&tenant, count);
                }
            }
        }
    }

    async fn write(&self, tenant: &str, shard: u8, new: Vec<MetricsReport>) -> Result<(), CatalogError> {
        let key = shard.to_string();
        for _ in 0..ATTEMPTS {
            let selection = DocumentSelection::One { tenant, key: &key };
            let row = self.store.documents(KIND, selection).await?.into_iter().next();
            let mut all = row.as_ref().map(decode).unwrap_or_default();
            all.extend(new.iter().cloned());
            let put = DocumentPut {
                kind: KIND.to_owned(),
                tenant: tenant.to_owned(),
                key: key.clone(),
                expected_version: Some(row.map_or(0, |row| row.version)),
                body: Some(Bytes::from(json!(newest(all, Utc::now())).to_string())),
            };
            let write = Write { repository: tenant.to_owned(), documents: vec![put], ..Write::default() };
            if self.store.write(&write).await? == Written::Done {
                return Ok(());
            }
        }
        Err(CatalogError::Unavailable("other servers write the same document".to_owned()))
    }
}

/// The newest reports that fit a document, oldest first.
fn newest(mut all: Vec<MetricsReport>, now: DateTime<Utc>) -> Vec<MetricsReport> {
    all.retain(|report| is_young(report, now));
    let (mut count, mut bytes) = (0, 0);
    for report in all.iter().rev() {
        bytes += json!(report).to_string().len();
        if count == KEPT || bytes > KEPT_BYTES {
            break;
        }
        count += 1;
    }
    all.drain(..all.len() - count);
    all
}

fn is_young(report: &MetricsReport, now: DateTime<Utc>) -> bool {
    DateTime::parse_from_rfc3339(&report.received_at).is_ok_and(|at| now - at.to_utc() <= MAX_AGE)
}

/// What can't be read is of another version, and makes room.
fn decode(row: &DocumentRow) -> Vec<MetricsReport> {
    serde_json::from_slice(&row.body).unwrap_or_default()
}

fn shard_of(report: &MetricsReport) -> u8 {
    let mut elements = report.table.namespace.clone();
    elements.push(report.table.name.clone());
    number_of(&elements)
}

/// The document that has a table's reports.
fn number_of(table: &[String]) -> u8 {
    Hash::of(table.join("\u{1f}").as_bytes()).0[0] % SHARDS
}

fn dropped(tenant: &str, count: usize) {
    let tenant = tenant.to_owned();
    metrics::counter!("firn_catalog_metrics_reports_dropped_total", "tenant" => tenant)
        .increment(count as u64);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use firn_catalog_client::iceberg::TableIdent;

    use super::*;

    fn report(minutes: i64, bytes: usize) -> MetricsReport {
        let at = DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes);
        MetricsReport {
            table: TableIdent::new("ns", "t"),
            reference: None,
            received_at: at.to_rfc3339(),
            report: json!({"filler": "x".repeat(bytes)}),
        }
    }

    #[test]
    fn a_document_keeps_the_newest_that_fit_it() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(8);
        let week = TimeDelta::days(8).num_minutes();
        let kept = newest((0..week).map(|minute| report(minute, 1)).collect(), now);
        assert_eq!((kept.len(), &kept[99]), (KEPT, &report(week - 1, 1)));
        let large = newest((0..9).map(|minute| report(week - 9 + minute, 30 << 10)).collect(), now);
        assert_eq!((large.len(), &large[3]), (4, &report(week - 1, 30 << 10)));
        assert!(newest(vec![report(0, 1)], now).is_empty(), "too old");
    }
}
