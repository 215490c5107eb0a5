//! What is decided as records.

use bytes::Bytes;
use firn_inventory::tables::{ALERTS_STATE_TOPIC, COMPLIANCE_TOPIC, TENANT_HEADER};
use firn_stream::ProduceRecord;

use crate::{engine::Step, host::HostKey, packed::Packed};

/// A step as records: one state per host, and the transitions; of an erased host a record without a value in both topics, which
/// ends what is kept of it: there, and where transitions are delivered to.
pub(super) fn outputs(step: &Step) -> Vec<ProduceRecord> {
    let mut records = Vec::new();
    for (partition, part) in &step.partitions {
        for (key, changed) in &part.changed {
            records.push(state(*partition, key, Some(&changed.state)));
        }
        for key in &part.removed {
            records.push(state(*partition, key, None));
            records.push(record(COMPLIANCE_TOPIC, *partition, key, None));
        }
        for transition in &part.transitions {
            let key = HostKey { tenant: transition.tenant.clone(), host_id: transition.host_id.clone() };
            // Plain data with text keys: serializing it can't fail.
            let value = serde_json::to_vec(transition).unwrap_or_default();
            records.push(record(COMPLIANCE_TOPIC, *partition, &key, Some(value.into())));
        }
    }
    records
}

/// A host's state for a partition of the topic of states; without one, the host is no longer there.
pub(super) fn state(partition: i32, key: &HostKey, state: Option<&Packed>) -> ProduceRecord {
    let value = state.map(|state| Bytes::copy_from_slice(state.bytes()));
    record(ALERTS_STATE_TOPIC, partition, key, value)
}

fn record(topic: &str, partition: i32, key: &HostKey, value: Option<Bytes>) -> ProduceRecord {
    ProduceRecord {
        topic: topic.to_owned(),
        key: Some(key.to_bytes()),
        partition: Some(partition),
        value,
        headers: vec![(TENANT_HEADER.to_owned(), key.tenant.clone().into_bytes().into())],
    }
}
