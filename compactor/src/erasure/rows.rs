//! Which rows an erasure means.

use firn_catalog_client::{ErasureJob, subject_hash};
use firn_table::{RowMatch, Survey};

use crate::engine::remembered_columns;

const HOST: &str = "host_id";
/// Host and event name a record, in every table that was made of it.
const EVENT: [&str; 2] = [HOST, "event_id"];
/// Columns of free text, beside all binary ones.
const FREE_TEXT: [&str; 5] = ["extra", "org_attributes", "evidence", "reason", "comment"];

/// The rows: those whose column has the value or whose free text names it, what was made of the same records, and, if it is asked
/// for, all of the computers that they name.
pub(super) fn of(job: &ErasureJob) -> RowMatch {
    let value = job.value.clone().unwrap_or_default();
    let column = job.erasure.column.as_str();
    let rows = RowMatch::default().with_text(&value, &FREE_TEXT);
    let mut rows = with_values(rows, column, &[value]);
    if column == HOST {
        return rows;
    }
    if job.erasure.with_hosts {
        let hosts: Vec<String> = job.events.iter().filter_map(|event| event.first().cloned()).collect();
        rows = with_values(rows, HOST, &hosts);
        return rows.gathering(&[HOST]);
    }
    rows.with_keys(&EVENT, job.events.iter().cloned()).gathering(&EVENT)
}

/// In a column, and in what aggregates remember of their input.
fn with_values(rows: RowMatch, column: &str, values: &[String]) -> RowMatch {
    let tuples = || values.iter().map(|value| vec![value.clone()]);
    let rows = rows.with_keys(&[column], tuples());
    remembered_columns().fold(rows, |rows, remembered| rows.with_keys(&[remembered.as_str()], tuples()))
}

/// Takes in what a survey gathered; `true` if some of it was new, so that everything has to be looked at again.
pub(super) fn learn(job: &mut ErasureJob, survey: &Survey) -> bool {
    let known = job.events.len();
    job.events.extend(survey.keys.iter().cloned());
    if job.erasure.with_hosts {
        let hosts = job.events.iter().filter_map(|event| event.first());
        let hashes: Vec<String> = hosts.map(|host| subject_hash(&job.key, HOST, host)).collect();
        job.listed.entry(HOST.to_owned()).or_default().extend(hashes);
    }
    job.events.len() > known
}
