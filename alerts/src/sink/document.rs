//! Documents with the field names of the Elastic Common Schema, where it has one; Firn's own below `firn`.

use chrono::{DateTime, Datelike};
use firn_policy::{FindingStatus, TransitionRecord};
use firn_stream::Record;
use serde_json::{Value, json};

use crate::index::rfc3339;

/// Alias of the present state of all findings.
pub(crate) const STATE_ALIAS: &str = "firn-findings";
/// The index behind it.
pub(super) const STATE_INDEX: &str = "firn-findings-000001";
/// Prefix of the monthly indices of transitions.
pub(crate) const TRANSITIONS_PREFIX: &str = "firn-transitions-";

/// How a document goes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Replaces an older version; external versioning.
    Index(i64),
    /// Once and for all.
    Create,
}

/// One document of a bulk request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Document {
    /// The record it was made from, by its place.
    pub(super) record: usize,
    pub(super) index: String,
    pub(super) id: String,
    pub(super) action: Action,
    pub(super) source: Value,
}

impl Document {
    /// Whose it is.
    pub(super) fn tenant(&self) -> &str {
        self.source["firn"]["tenant"].as_str().unwrap_or_default()
    }
}

/// A transition's two documents: the finding's state after it, and the transition itself.
pub(super) fn of(at: usize, record: &Record) -> Result<[Document; 2], String> {
    let value = record.value.as_deref().ok_or("the record has no payload")?;
    let transition: TransitionRecord =
        serde_json::from_slice(value).map_err(|error| format!("the record is no transition: {error}"))?;
    let version = i64::try_from(transition.version).map_err(|_| "the version is too large".to_owned())?;
    let instant = DateTime::from_timestamp_micros(transition.at_us).ok_or("the instant is out of range")?;
    let month = format!("{TRANSITIONS_PREFIX}{:04}.{:02}", instant.year(), instant.month());
    let source = source(&transition, record.timestamp_ms);
    Ok([
        Document {
            record: at,
            index: STATE_INDEX.to_owned(),
            id: transition.finding_id.clone(),
            action: Action::Index(version),
            source: source.clone(),
        },
        Document {
            record: at,
            index: month,
            id: format!("{}-{}", transition.finding_id, transition.version),
            action: Action::Create,
            source,
        },
    ])
}

fn source(transition: &TransitionRecord, published_ms: i64) -> Value {
    let outcome = match transition.to {
        FindingStatus::Resolved | FindingStatus::Compliant => "success",
        _ => "failure",
    };
    // Evidence differs by rule: as text it never runs into another rule's mapping.
    let evidence =
        if transition.evidence.is_null() { Value::Null } else { json!(transition.evidence.to_string()) };
    json!({
        "@timestamp": rfc3339(transition.at_us),
        "event": {
            "created": rfc3339(published_ms.saturating_mul(1_000)),
            "kind": "alert",
            "category": ["configuration", "host"],
            "type": ["info"],
            "action": format!("finding-{}", transition.to.as_str()),
            "outcome": outcome,
            "severity": transition.severity as u8,
            "reason": transition.reason,
        },
        "host": { "id": transition.host_id, "hostname": transition.hostname, "name": transition.hostname },
        "organization": { "id": transition.organization_id },
        "rule": { "id": transition.rule_id, "name": transition.title, "version": transition.revision },
        "user": { "name": transition.by },
        "firn": {
            "tenant": transition.tenant,
            "finding_id": transition.finding_id,
            "severity": transition.severity,
            "status": transition.to,
            "previous_status": transition.from,
            "version": transition.version,
            "cause": transition.cause,
            "assignee": transition.assignee,
            // From the fact to the log.
            "delay_ms": published_ms.saturating_sub(transition.at_us / 1_000).max(0),
            "evidence": evidence,
            "catalog_commit": transition.catalog_commit,
            "topic": transition.topic,
            "partition": transition.partition,
            "offset": transition.offset,
        },
    })
}
