//! Sorting the rows of a table's files on a Ballista cluster, for sorts that are too large for one machine.
//!
//! The cluster's executors read the files and sort them in parts; what they sorted lies on their disks, and is merged here while it is
//! read from all of them. So no machine holds all rows. Executors are the stock ones: a plan has nothing in it that only Firn knows.

#![cfg(feature = "client")]

mod job;
mod plan;
mod rows;
mod settings;

use std::time::Duration;

use datafusion::{physical_plan::SendableRecordBatchStream, prelude::SessionContext};
use firn_table::{SortCluster, SortJob, TableError, TableErrorKind};
use url::Url;

use job::Job;

/// A cluster, by its scheduler.
#[derive(Clone, Debug)]
pub struct BallistaCluster {
    config: BallistaConfig,
    /// Without a slash at its end.
    scheduler_url: String,
}

/// Which cluster, and what goes there.
#[derive(Clone, Debug)]
pub struct BallistaConfig {
    /// Where the scheduler listens: `http://host:port`.
    pub scheduler_url: String,
    /// Files that have fewer bytes together are sorted here.
    pub min_bytes: u64,
    /// Whether executors get the keys by which this process reads a table's files; otherwise they have their own.
    pub share_keys: bool,
    /// Longest time that the cluster may take for a sort.
    pub timeout: Duration,
}

impl BallistaCluster {
    /// A cluster that nobody has talked to yet. The error says what is wrong with the URL.
    pub fn new(config: BallistaConfig) -> Result<Self, String> {
        let url = &config.scheduler_url;
        // Host and port and nothing else: the URL is shown in errors, and 80 is no port that is meant unsaid.
        let is_plain = |parsed: &Url| {
            parsed.host_str().is_some_and(|host| {
                let port = parsed.port_or_known_default().unwrap_or_default();
                url.trim_end_matches('/').eq_ignore_ascii_case(&format!("http://{host}:{port}"))
            })
        };
        match Url::parse(url).ok().filter(is_plain) {
            Some(_) => Ok(Self { scheduler_url: url.trim_end_matches('/').to_owned(), config }),
            None => Err(format!("'{url}' is no scheduler's URL: write http://HOST:PORT")),
        }
    }
}

#[async_trait::async_trait]
impl SortCluster for BallistaCluster {
    fn takes(&self, bytes: u64) -> bool {
        bytes >= self.config.min_bytes
    }

    async fn sort(
        &self,
        session: &SessionContext,
        job: SortJob,
    ) -> Result<SendableRecordBatchStream, TableError> {
        let failure = Failure { table: job.table.clone(), scheduler_url: self.scheduler_url.clone() };
        let plan = plan::sorted_runs(&job).map_err(|error| failure.with("the plan can't be made", error))?;
        let settings = settings::of(&job, self.config.share_keys);
        let mut submitted = Job::submit(&failure, plan, settings).await?;
        let done = tokio::time::timeout(self.config.timeout, submitted.done(&failure)).await;
        let runs = done.map_err(|_| {
            let seconds = self.config.timeout.as_secs();
            failure.because(&format!(
                "it was not done within {seconds} s: give the cluster more executors, or raise maintenance.ballista.timeout"
            ))
        })??;
        rows::merged(session, &failure, &job.by, submitted, runs).await
    }
}

/// What every error says: what could not be sorted, and where.
#[derive(Clone)]
struct Failure {
    table: String,
    scheduler_url: String,
}

impl Failure {
    fn because(&self, reason: &str) -> TableError {
        TableError { kind: TableErrorKind::Storage, context: self.context(reason), source: None }
    }

    fn with(&self, reason: &str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TableError {
        TableError {
            kind: TableErrorKind::Storage,
            context: self.context(reason),
            source: Some(cause.into()),
        }
    }

    fn context(&self, reason: &str) -> String {
        let Self { table, scheduler_url } = self;
        format!("cannot sort rows of table {table} on the Ballista cluster at {scheduler_url}: {reason}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheduler_is_named_by_host_and_port() {
        let cluster = |url: &str| {
            let config = BallistaConfig {
                scheduler_url: url.to_owned(),
                min_bytes: 10,
                share_keys: false,
                timeout: Duration::from_secs(1),
            };
            BallistaCluster::new(config)
        };
        for good in ["http://scheduler:50050", "http://127.0.0.1:50050/"] {
            assert!(cluster(good).is_ok_and(|cluster| cluster.takes(10) && !cluster.takes(9)), "{good}");
        }
        for bad in ["", "scheduler:50050", "http://scheduler", "https://scheduler:50050", "http://s:1/x"] {
            assert!(cluster(bad).is_err_and(|error| error.contains("http://HOST:PORT")), "{bad}");
        }
    }
}
