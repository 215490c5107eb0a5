//! Errors of the compactor.

use datafusion::error::DataFusionError;
use firn_catalog_client::{ClientError, ClientErrorKind};
use firn_table::{TableError, TableErrorKind};

use crate::{history::FailingCheck, model::ModelError};

/// Why a promotion or maintenance did not get through.
#[derive(Debug, thiserror::Error)]
pub enum CompactorError {
    /// A model's file is wrong.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The catalog can't be reached or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A table can't be read or written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A query failed.
    #[error("{what}: the query failed: {message}")]
    Query {
        /// Model or table.
        what: String,
        /// What the engine says.
        message: String,
    },
    /// Checks of severity `fail` do not hold: nothing was published.
    #[error(
        "{} row(s) of {} break check '{}' and {} check(s) failed in all: nothing was published, the branch {branch} shows what would have been",
        failing[0].violations, failing[0].model, failing[0].check, failing.len()
    )]
    Checks {
        /// Branch that holds the run's output.
        branch: String,
        /// The checks, at least one.
        failing: Vec<FailingCheck>,
    },
    /// What was asked for can't be done; says why, and what can.
    #[error("{0}")]
    Refused(String),
    /// `main` changed one of the outputs during the run.
    #[error("main moved during the run ({0}): the run is repeated from the new main")]
    MainMoved(String),
    /// Another process holds the lease.
    #[error("the lease '{0}' is held by another process")]
    LeaseHeld(String),
    /// The lease was lost in mid-run.
    #[error(
        "the lease '{0}' could not be renewed in time: the run was given up before it published anything"
    )]
    LeaseLost(String),
    /// Rows of an erased subject come in as fast as they go.
    #[error(
        "after {0} passes there are still rows of the subject: somebody writes them; the list keeps them out of ingest only"
    )]
    Restless(u64),
    /// The service is stopping.
    #[error("stopped before publishing; the next start repeats the run")]
    Stopped,
}

impl CompactorError {
    /// A failed query.
    pub(crate) fn query(what: impl ToString, error: &DataFusionError) -> Self {
        Self::Query { what: what.to_string(), message: error.strip_backtrace() }
    }

    /// Whether trying again on a fresh `main` is the cure.
    pub(crate) fn is_conflict(&self) -> bool {
        match self {
            Self::MainMoved(_) => true,
            Self::Client(error) => error.kind == ClientErrorKind::Conflict,
            Self::Table(error) => error.kind == TableErrorKind::Conflict,
            _ => false,
        }
    }

    /// Whether the table or reference does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        match self {
            Self::Client(error) => error.kind == ClientErrorKind::NotFound,
            Self::Table(error) => error.kind == TableErrorKind::NotFound,
            _ => false,
        }
    }
}
