//! Records into Arrow rows: the CPU's part of a commit.

use arrow::array::RecordBatch;
use firn_inventory::{
    BronzeBuilder, LogPosition, QuarantineBuilder, Rejection, RejectionKind, Row, is_record_key, read,
    tables::COMPLIANCE_TOPIC,
};
use firn_policy::{TransitionRecord, TransitionsBuilder};

use super::address::Taken;

/// What quarantine names as the source of transitions, which no adapter took: many of them read as inventories, too.
pub(super) const TRANSITION_SOURCE: &str = COMPLIANCE_TOPIC;

/// Rows of both tables.
pub(super) struct Rows {
    pub(super) taken: RecordBatch,
    pub(super) quarantine: RecordBatch,
}

/// Judges each inventory; every one ends in exactly one of the two.
pub(super) fn judge(tenant: &str, topic_id: &str, records: &[Taken]) -> Rows {
    let mut bronze = BronzeBuilder::with_capacity(records.len());
    let mut quarantine = QuarantineBuilder::default();
    let topic_id = topic_id.to_owned();
    let mut position =
        LogPosition { topic_id, partition: 0, offset: 0, received_at_us: 0, source: String::new() };
    for taken in records {
        move_to(&mut position, taken);
        match verdict(tenant, taken) {
            Ok(row) => bronze.push_row(&row, &position),
            Err(rejection) => reject(&mut quarantine, &rejection, taken, &position),
        }
    }
    Rows { taken: bronze.finish(), quarantine: quarantine.finish() }
}

/// Judges each transition. Only alerts write them: one that can't be read is another program's, or a newer version's.
pub(super) fn judge_transitions(tenant: &str, topic_id: &str, records: &[Taken]) -> Rows {
    let mut transitions = TransitionsBuilder::default();
    let mut quarantine = QuarantineBuilder::default();
    for taken in records {
        match transition(tenant, taken) {
            Ok(transition) => {
                let place = (taken.partition, taken.offset);
                transitions.push(&transition, topic_id, place, taken.received_at_us);
            }
            Err(rejection) => {
                let source = TRANSITION_SOURCE.to_owned();
                let position = LogPosition { source, ..position(topic_id, taken) };
                reject(&mut quarantine, &rejection, taken, &position);
            }
        }
    }
    Rows { taken: transitions.finish(), quarantine: quarantine.finish() }
}

fn position(topic_id: &str, taken: &Taken) -> LogPosition {
    LogPosition {
        topic_id: topic_id.to_owned(),
        partition: taken.partition,
        offset: taken.offset,
        received_at_us: taken.received_at_us,
        source: taken.source.as_ref().to_owned(),
    }
}

/// The same position, of another record. Most have the same source, so nothing is copied for it.
fn move_to(position: &mut LogPosition, taken: &Taken) {
    position.partition = taken.partition;
    position.offset = taken.offset;
    position.received_at_us = taken.received_at_us;
    if position.source != *taken.source {
        position.source = taken.source.as_ref().to_owned();
    }
}

fn reject(quarantine: &mut QuarantineBuilder, rejection: &Rejection, taken: &Taken, position: &LogPosition) {
    quarantine.push(rejection, taken.value.as_deref().unwrap_or_default(), position);
    metrics::counter!("firn_ingest_rejections_total", "kind" => rejection.kind.as_str()).increment(1);
}

/// The payload of a record that is addressed well.
fn payload(taken: &Taken) -> Result<&[u8], Rejection> {
    if let Some(rejection) = &taken.rejection {
        return Err(Rejection::clone(rejection));
    }
    let tombstone = || Rejection::new(RejectionKind::Tombstone, "the record has no payload");
    taken.value.as_deref().ok_or_else(tombstone)
}

fn transition(tenant: &str, taken: &Taken) -> Result<TransitionRecord, Rejection> {
    let value = payload(taken)?;
    let transition: TransitionRecord = serde_json::from_slice(value).map_err(|error| {
        Rejection::new(RejectionKind::WrongType, format!("the record is no transition of a finding: {error}"))
    })?;
    if transition.tenant != tenant {
        let reason =
            format!("the transition is of tenant '{}', the record's key of '{tenant}'", transition.tenant);
        return Err(Rejection::new(RejectionKind::Misaddressed, reason));
    }
    Ok(transition)
}

fn verdict<'a>(tenant: &str, taken: &'a Taken) -> Result<Row<'a>, Rejection> {
    let row = read(payload(taken)?)?;
    if !taken.key.as_deref().is_some_and(|key| is_record_key(key, tenant, row.host_id())) {
        let reason = format!("field 'host_id' is '{}', the record's key names another host", row.host_id());
        return Err(Rejection::new(RejectionKind::Misaddressed, reason));
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;

    #[test]
    fn every_record_ends_in_exactly_one_table() {
        let taken = |offset, key: &'static str, value: Option<&'static str>| Taken {
            traceparent: None,
            partition: 0,
            offset,
            received_at_us: 1,
            source: Arc::from("native"),
            key: Some(Bytes::from_static(key.as_bytes())),
            value: value.map(|value| Bytes::from_static(value.as_bytes())),
            rejection: None,
        };
        let rows = judge(
            "acme",
            "t",
            &[
                taken(0, "acme/a", Some(r#"{"host_id":"a"}"#)),
                taken(1, "acme/a", Some(r#"{"host_id":"a","seq":"x"}"#)),
                taken(2, "acme/a", None),
                taken(3, "acme/a", Some(r#"{"host_id":"b"}"#)),
                taken(4, "acme/pc%2F1", Some(r#"{"host_id":"pc/1"}"#)),
            ],
        );
        assert_eq!((rows.taken.num_rows(), rows.quarantine.num_rows()), (2, 3));
    }
}
