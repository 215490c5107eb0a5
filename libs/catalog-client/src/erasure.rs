//! Erasures and legal holds: what is asked for, how it goes on, and the list by which records of erased subjects are known.

use std::collections::{BTreeMap, BTreeSet};

use hmac::{Hmac, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// What a receipt says that it is, in its header.
pub const RECEIPT_TYPE: &str = "firn-erasure-receipt+jwt";

/// Whose data: rows whose `column` holds `value`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Subject {
    /// Column of the tables, such as `host_id` or `owner_email`.
    pub column: String,
    /// Its value there.
    pub value: String,
}

/// Body of `POST /v1/tenants/{tenant}/erasures`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ErasureRequest {
    /// Whose data goes.
    pub subject: Subject,
    /// Whether everything of the computers whose records name the subject goes, too.
    #[serde(default)]
    pub with_hosts: bool,
    /// Only find out what would go.
    #[serde(default)]
    pub dry_run: bool,
    /// Why, for the receipt and the audit log. It should not name the subject.
    #[serde(default)]
    pub reason: String,
}

/// How an erasure stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ErasureState {
    /// Nobody works on it yet.
    #[default]
    Waiting,
    /// It is being done.
    Running,
    /// A legal hold keeps some of the data: it goes on when the hold ends.
    Held,
    /// Everything is gone, and the receipt is there.
    Done,
}

/// What was done so far, or what would be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub struct ErasureCounts {
    /// Passes over all files.
    pub passes: u64,
    /// Files that the last pass listed.
    pub files_listed: u64,
    /// Rows that went, counted once per data file.
    pub rows: u64,
    /// Data and delete files that were written anew or left out.
    pub files_rewritten: u64,
    /// Manifests and manifest lists that were written anew.
    pub manifests_rewritten: u64,
    /// States of tables that were changed, over all branches, tags and commits.
    pub states_changed: u64,
    /// Files that were deleted.
    pub files_removed: u64,
}

/// An erasure as it is told. It holds no value of the subject.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Erasure {
    /// Id.
    pub id: String,
    /// Tenant.
    pub tenant: String,
    /// The subject's column.
    pub column: String,
    /// Keyed hash of column and value.
    pub subject_hash: String,
    /// See [`ErasureRequest::with_hosts`].
    pub with_hosts: bool,
    /// See [`ErasureRequest::dry_run`].
    pub dry_run: bool,
    /// Why.
    pub reason: String,
    /// Who asked for it.
    pub requested_by: String,
    /// When, RFC 3339.
    pub requested_at: String,
    /// How it stands.
    pub state: ErasureState,
    /// What is being done, or waited for, for a person.
    pub message: String,
    /// What was done.
    pub counts: ErasureCounts,
    /// Tables that held rows of the subject, by uuid.
    pub tables: BTreeSet<String>,
    /// Files that were deleted; of a dry run those that would be.
    pub removed: Vec<String>,
    /// When it was done.
    pub finished_at: Option<String>,
    /// The signed receipt, as a compact JWS.
    pub receipt: Option<String>,
}

/// An erasure with what those need who carry it out; for operators.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ErasureJob {
    /// What everybody may know.
    #[serde(flatten)]
    pub erasure: Erasure,
    /// The subject's value; absent once it is done.
    #[serde(default)]
    pub value: Option<String>,
    /// Host and event of the records that name the subject, by which rows made of them are known; none once it is done.
    #[serde(default)]
    pub events: BTreeSet<Vec<String>>,
    /// Tables of which some branch may still take commits that were begun on files that are replaced, by uuid.
    #[serde(default)]
    pub unfenced: BTreeSet<String>,
    /// Keyed hashes by column: records that have one of them are dropped wherever they come in.
    #[serde(default)]
    pub listed: BTreeMap<String, BTreeSet<String>>,
    /// Key of the hashes.
    #[serde(default)]
    pub key: String,
    /// Root of the tenant's files.
    #[serde(default)]
    pub root: String,
    /// Rises with each change.
    #[serde(default)]
    pub version: i64,
}

/// Body of `POST /v1/tenants/{tenant}/holds`: what is to stay. Exactly one of subject, table and reference, or none of them: then
/// all of the tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HoldRequest {
    /// Rows of a subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// A table, `namespace.name`, on all branches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// A branch or tag with all that it reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Why; needed.
    pub reason: String,
    /// When it ends by itself, RFC 3339; else when it is released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// A legal hold. Released ones are kept, so that it can be told later what was held, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Hold {
    /// Id.
    pub id: String,
    /// What is held.
    #[serde(flatten)]
    pub held: HoldRequest,
    /// Who placed it.
    pub placed_by: String,
    /// When, RFC 3339.
    pub placed_at: String,
    /// Who released it.
    #[serde(default)]
    pub released_by: Option<String>,
    /// When.
    #[serde(default)]
    pub released_at: Option<String>,
    /// Whether it holds now.
    pub active: bool,
}

impl Hold {
    /// Names it in a refusal: what is held, why and who knows more.
    #[must_use]
    pub fn describe(&self) -> String {
        let HoldRequest { subject, table, reference, reason, .. } = &self.held;
        let what = match (subject, table, reference) {
            (Some(subject), ..) => format!("a subject by {}", subject.column),
            (_, Some(table), _) => format!("the table {table}"),
            (_, _, Some(reference)) => format!("the reference {reference}"),
            _ => "all of the tenant".to_owned(),
        };
        format!("the legal hold {} of {} on {what} ({reason})", self.id, self.placed_by)
    }
}

/// The keyed hash of a subject: HMAC-SHA-256 of column and value, in hexadecimal digits. It tells nothing to who lacks the key.
#[must_use]
pub fn subject_hash(key: &str, column: &str, value: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(column.as_bytes());
    mac.update(&[0]);
    mac.update(value.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

/// The subjects whose records a tenant takes no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErasureList {
    key: String,
    hashes: BTreeMap<String, BTreeSet<String>>,
}

impl ErasureList {
    /// The lists of all tenants that have one.
    #[must_use]
    pub fn of(jobs: &[ErasureJob]) -> BTreeMap<String, Self> {
        let mut lists: BTreeMap<String, Self> = BTreeMap::new();
        for job in jobs.iter().filter(|job| !job.erasure.dry_run) {
            let list = lists.entry(job.erasure.tenant.clone()).or_default();
            list.key.clone_from(&job.key);
            for (column, hashes) in &job.listed {
                list.hashes.entry(column.clone()).or_default().extend(hashes.iter().cloned());
            }
        }
        lists
    }

    /// The columns that are looked at.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.hashes.keys().map(String::as_str)
    }

    /// Whether a subject is listed.
    #[must_use]
    pub fn has(&self, column: &str, value: &str) -> bool {
        let hashes = self.hashes.get(column);
        hashes.is_some_and(|hashes| hashes.contains(&subject_hash(&self.key, column, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_knows_its_subjects_by_tenant_and_column() {
        let key = "k".to_owned();
        let hash = subject_hash(&key, "host_id", "h1");
        let erasure = Erasure { tenant: "acme".to_owned(), ..Erasure::default() };
        let listed = BTreeMap::from([("host_id".to_owned(), BTreeSet::from([hash]))]);
        let job = ErasureJob { erasure, listed, key, ..ErasureJob::default() };
        let mut trial = job.clone();
        trial.erasure.dry_run = true;
        trial.erasure.tenant = "other".to_owned();
        let lists = ErasureList::of(&[job, trial]);
        assert!(lists["acme"].has("host_id", "h1"));
        assert!(!lists["acme"].has("host_id", "h2") && !lists["acme"].has("hostname", "h1"));
        assert!(!lists.contains_key("other"), "a dry run lists nobody");
    }

    #[test]
    fn the_hash_needs_the_key_and_tells_columns_apart() {
        assert_ne!(subject_hash("a", "c", "v"), subject_hash("b", "c", "v"));
        assert_ne!(subject_hash("a", "c", "dv"), subject_hash("a", "cd", "v"));
    }
}
