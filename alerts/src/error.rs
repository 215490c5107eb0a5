//! Errors of the alerts worker.

use firn_catalog_client::ClientError;
use firn_stream::StreamError;
use firn_table::TableError;

/// Why the worker stopped, or could not do something. `Display` never repeats its source.
#[derive(Debug, thiserror::Error)]
pub enum AlertsError {
    /// The log failed. The worker ends; the next run restores its state from the log.
    #[error("{doing}")]
    Stream {
        /// What was being done.
        doing: &'static str,
        /// The cause.
        #[source]
        source: StreamError,
    },
    /// A tenant's rules could not be read or made.
    #[error("rules of tenant '{tenant}' could not be {doing}")]
    Rules {
        /// Tenant.
        tenant: String,
        /// `read`, `created` …
        doing: &'static str,
        /// The cause.
        #[source]
        source: TableError,
    },
    /// Nobody could be asked who was erased.
    #[error("erasures could not be listed")]
    Erasures(#[source] ClientError),
    /// Nobody could be asked which tenants there are.
    #[error("tenants could not be listed")]
    Tenants(#[source] ClientError),
    /// A table of a tenant could not be read.
    #[error("{table} of tenant '{tenant}' could not be read")]
    Lake {
        /// Tenant.
        tenant: String,
        /// Table.
        table: String,
        /// The cause.
        #[source]
        source: TableError,
    },
    /// A record of the state topic can't be read.
    #[error("{topic}/{partition} offset {offset}: {message}")]
    State {
        /// Topic.
        topic: &'static str,
        /// Partition.
        partition: i32,
        /// Offset.
        offset: i64,
        /// What is wrong, and what to do.
        message: String,
    },
    /// Topics don't fit together, or a setting is wrong.
    #[error("{0}")]
    Config(String),
    /// A bug: the engine panicked. Nothing of the step was written.
    #[error("the alerts engine crashed: {0}")]
    Crashed(String),
}

impl AlertsError {
    pub(crate) fn stream(doing: &'static str) -> impl FnOnce(StreamError) -> Self {
        move |source| Self::Stream { doing, source }
    }

    pub(crate) fn lake(tenant: &str, (namespace, name): (&str, &str)) -> impl FnOnce(TableError) -> Self {
        let (tenant, table) = (tenant.to_owned(), format!("{namespace}.{name}"));
        move |source| Self::Lake { tenant, table, source }
    }

    pub(crate) fn rules(tenant: &str, doing: &'static str) -> impl FnOnce(TableError) -> Self {
        move |source| Self::Rules { tenant: tenant.to_owned(), doing, source }
    }
}
