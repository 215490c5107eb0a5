//! Garbage collection of one tenant: mark from all references to commits, states, metadata, manifests and files, then sweep
//! what is older than the safety age and was not reached.
//!
//! Order makes it safe beside writers: old objects are listed before the mark begins, files after it; and before each
//! batch of deletions the references are read again, and what they newly reach is marked.

mod files;
mod run;

#[cfg(test)]
mod tests;

use chrono::{DateTime, TimeDelta, Utc};
use firn_catalog_client::{GcReport, GcRequest};

use crate::{CatalogError, version::SAFETY_AGE};

pub(crate) use run::collect;

/// Shorter than this, and a file could be taken whose commit is under way.
const MIN_SAFETY_AGE: TimeDelta = TimeDelta::hours(1);

/// What to keep.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Only say what would go.
    pub(crate) dry_run: bool,
    /// What is younger stays in any case.
    pub(crate) safety_age: TimeDelta,
    /// How old states may be; all if `None`.
    pub(crate) history: Option<TimeDelta>,
    /// By reference, instead of that.
    pub(crate) history_of: Vec<(String, TimeDelta)>,
}

impl Settings {
    /// Of a request; a safety age that is dangerous is refused.
    pub(crate) fn of(request: &GcRequest) -> Result<Self, CatalogError> {
        let age = |seconds: u64| {
            i64::try_from(seconds)
                .ok()
                .and_then(TimeDelta::try_seconds)
                .ok_or_else(|| CatalogError::Invalid(format!("an age of {seconds} seconds is out of range")))
        };
        let safety_age = request.safety_age_s.map(age).transpose()?.unwrap_or(SAFETY_AGE);
        if safety_age < MIN_SAFETY_AGE {
            return Err(CatalogError::Invalid(format!(
                "the safety age is at least {} seconds: a younger file may belong to a commit under way",
                MIN_SAFETY_AGE.num_seconds()
            )));
        }
        let history_of = request.history_of.iter().map(|(name, seconds)| Ok((name.clone(), age(*seconds)?)));
        Ok(Self {
            dry_run: request.dry_run,
            safety_age,
            history: request.history_s.map(age).transpose()?,
            history_of: history_of.collect::<Result<_, CatalogError>>()?,
        })
    }

    /// Since when a reference's states are kept.
    fn keep_since(&self, reference: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let own = self.history_of.iter().find(|(name, _)| name == reference).map(|(_, age)| *age);
        own.or(self.history).map(|age| now - age.max(self.safety_age))
    }
}

/// More removed files than this are counted, not listed.
const MAX_LISTED: usize = 1000;

/// Adds a file to a report.
fn list_file(report: &mut GcReport, location: String, bytes: u64, reason: String) {
    report.files_removed += 1;
    report.bytes_removed += bytes;
    if report.removed.len() < MAX_LISTED {
        report.removed.push(firn_catalog_client::GcFile { location, bytes, reason });
    }
}
