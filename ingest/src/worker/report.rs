//! What the worker says of itself: status board, metrics, log.

use std::{collections::HashSet, time::Duration};

use chrono::Utc;
use firn_catalog_client::Suspension;
use firn_runtime::{StageState, StageStatus, StatusBoard};

use super::{
    book::Book,
    commit::{Committed, Failure},
    feed::Feed,
};

/// Writes to the board and the metrics.
pub(super) struct Report {
    feed: &'static Feed,
    board: StatusBoard,
    /// Tenants whose lag on the board is not zero.
    lagging: HashSet<String>,
}

impl Report {
    pub(super) fn new(feed: &'static Feed, board: StatusBoard) -> Self {
        board.update(feed.stage, "*", |status| {
            status.state = StageState::Running;
            status.message.clear();
        });
        let report = Self { feed, board, lagging: HashSet::new() };
        // Of an earlier run: this one will say again who is suspended.
        for ((stage, tenant), status) in report.board.all() {
            if stage == feed.stage && status.state == StageState::Suspended {
                report.resumed(&tenant);
            }
        }
        report
    }

    pub(super) fn committed(&self, tenant: &str, committed: &Committed) {
        let tenant_label = || tenant.to_owned();
        metrics::counter!("firn_ingest_records_total", "tenant" => tenant_label(), "table" => self.feed.table.1)
            .increment(committed.taken);
        metrics::counter!("firn_ingest_records_total", "tenant" => tenant_label(), "table" => "quarantine")
            .increment(committed.quarantined);
        if let Some(newest_us) = committed.newest_us {
            metrics::counter!("firn_ingest_commits_total", "tenant" => tenant_label()).increment(1);
            let age_us = Utc::now().timestamp_micros().saturating_sub(newest_us).max(0);
            let age = Duration::from_micros(age_us.unsigned_abs());
            metrics::histogram!("firn_ingest_freshness_seconds", "topic" => self.feed.topic)
                .record(age.as_secs_f64());
            #[allow(clippy::cast_precision_loss, reason = "a gauge")]
            metrics::gauge!("firn_ingest_tenant_fresh_until_seconds", "topic" => self.feed.topic, "tenant" => tenant_label())
                .set(newest_us as f64 / 1e6);
            let (taken, quarantined) = (committed.taken, committed.quarantined);
            tracing::debug!(tenant, taken, quarantined, "committed a batch");
        }
        for name in ["*", tenant] {
            self.board.update(self.feed.stage, name, |status| add(status, committed));
        }
        self.board.update(self.feed.stage, tenant, |status| {
            status.state = StageState::Running;
            status.message.clear();
        });
    }

    pub(super) fn failed(&self, tenant: &str, failure: &Failure, delay: Duration) {
        metrics::counter!("firn_ingest_failures_total", "tenant" => tenant.to_owned()).increment(1);
        match failure {
            // Part of normal life when partitions move between workers.
            Failure::Raced(_) => tracing::info!(tenant, %failure, "batch dropped, reading it again"),
            Failure::Later(_) => {
                tracing::warn!(tenant, %failure, ?delay, "batch not committed, trying again");
            }
            Failure::Stopped(_) => tracing::error!(tenant, %failure, ?delay, "tenant stopped"),
        }
        if !matches!(failure, Failure::Raced(_)) {
            self.board.update(self.feed.stage, tenant, |status| {
                status.state = StageState::Failing;
                status.message = failure.to_string();
            });
        }
    }

    /// The worker as a whole can't go on right now.
    pub(super) fn troubled(&self, what: &str, error: &dyn std::error::Error) {
        tracing::warn!(%error, "{what}; trying again");
        self.board.update(self.feed.stage, "*", |status| {
            status.state = StageState::Failing;
            status.message = format!("{what}: {error}");
        });
    }

    pub(super) fn recovered(&self) {
        self.board.update(self.feed.stage, "*", |status| {
            if status.state != StageState::Running {
                status.state = StageState::Running;
                status.message.clear();
            }
        });
    }

    /// A tenant stands still on request; `ending`: its last commit is still on the way.
    pub(super) fn suspended(&self, suspension: &Suspension, ending: bool) {
        let tenant = suspension.tenant.as_str();
        metrics::gauge!("firn_ingest_suspended", "tenant" => tenant.to_owned()).set(1.0);
        let why =
            if suspension.reason.is_empty() { String::new() } else { format!(": {}", suspension.reason) };
        let (by, since) = (&suspension.by, &suspension.since);
        self.board.update(self.feed.stage, tenant, |status| {
            status.state = if ending { StageState::Running } else { StageState::Suspended };
            let what = if ending { "its last commit ends, then it is suspended" } else { "suspended" };
            status.message = format!("{what} by {by} since {since}{why}");
        });
    }

    pub(super) fn resumed(&self, tenant: &str) {
        metrics::gauge!("firn_ingest_suspended", "tenant" => tenant.to_owned()).set(0.0);
        self.board.update(self.feed.stage, tenant, |status| {
            status.state = StageState::Running;
            status.message.clear();
        });
    }

    /// Once a second.
    pub(super) fn progress(&mut self, book: &Book, lag_records: u64, interval: Duration) {
        #[allow(clippy::cast_precision_loss, reason = "a gauge")]
        {
            metrics::gauge!("firn_ingest_lag_records", "topic" => self.feed.topic).set(lag_records as f64);
            metrics::gauge!("firn_ingest_buffered_bytes", "topic" => self.feed.topic)
                .set(book.buffered_bytes() as f64);
        }
        metrics::gauge!("firn_ingest_commit_interval_seconds", "topic" => self.feed.topic)
            .set(interval.as_secs_f64());
        self.board.update(self.feed.stage, "*", |status| {
            status.lag_records = Some(lag_records);
            status.totals.insert("buffered_bytes".into(), book.buffered_bytes() as u64);
        });
        let waiting: HashSet<String> = book.waiting().map(|(tenant, _)| tenant.to_owned()).collect();
        for tenant in self.lagging.difference(&waiting) {
            self.lag(tenant, 0);
        }
        for (tenant, records) in book.waiting() {
            self.lag(tenant, records);
        }
        self.lagging = waiting;
    }

    /// Records of a tenant that were read and are in no table yet.
    fn lag(&self, tenant: &str, records: usize) {
        #[allow(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!("firn_ingest_tenant_lag_records", "topic" => self.feed.topic, "tenant" => tenant.to_owned())
            .set(records as f64);
        self.board.update(self.feed.stage, tenant, |status| status.lag_records = Some(records as u64));
    }
}

fn add(status: &mut StageStatus, committed: &Committed) {
    let mut add = |name: &str, count: u64| *status.totals.entry(name.to_owned()).or_default() += count;
    add("records", committed.taken);
    add("quarantined", committed.quarantined);
    add("commits", u64::from(committed.newest_us.is_some()));
    let newest_ms = committed.newest_us.map(|newest_us| newest_us / 1000);
    status.fresh_until_ms = status.fresh_until_ms.max(newest_ms);
}
