//! Reading a partition's states back from the compacted topic.

use std::{collections::HashMap, time::Duration};

use firn_inventory::tables::ALERTS_STATE_TOPIC;
use firn_stream::{Log, Record, TopicPartition};

use crate::{
    AlertsError, codec,
    host::{HostKey, HostState},
};

const RECORDS_PER_READ: usize = 5_000;
/// How long to wait for a record that should be there. The last offsets may hold none: transaction markers.
const READ_WAIT: Duration = Duration::from_secs(3);

/// All states of a partition. Nobody else writes them while we own it.
pub(super) async fn restore(
    log: &dyn Log,
    partition: i32,
) -> Result<HashMap<HostKey, HostState>, AlertsError> {
    let failed = || AlertsError::stream("restoring state");
    let ranges = log.offsets(ALERTS_STATE_TOPIC).await.map_err(failed())?;
    let range = usize::try_from(partition).ok().and_then(|at| ranges.get(at)).copied().ok_or_else(|| {
        AlertsError::Config(format!(
            "topic '{ALERTS_STATE_TOPIC}' has no partition {partition}: run 'firn alerts repartition'"
        ))
    })?;
    let from = TopicPartition { topic: ALERTS_STATE_TOPIC.to_owned(), partition };
    let (mut hosts, mut offset) = (HashMap::new(), range.start);
    while offset < range.end {
        let records = log.read(&from, offset, RECORDS_PER_READ, READ_WAIT).await.map_err(failed())?;
        let Some(last) = records.last() else { break };
        offset = last.offset + 1;
        for record in &records {
            take(&mut hosts, record)?;
        }
    }
    tracing::debug!(partition, hosts = hosts.len(), "alerts state restored");
    Ok(hosts)
}

fn take(hosts: &mut HashMap<HostKey, HostState>, record: &Record) -> Result<(), AlertsError> {
    let broken = |message: String| AlertsError::State {
        topic: ALERTS_STATE_TOPIC,
        partition: record.partition,
        offset: record.offset,
        message,
    };
    let key = record.key.as_deref().and_then(HostKey::parse);
    let key = key.ok_or_else(|| {
        broken("the record's key is not tenant/host: another program writes here".to_owned())
    })?;
    match &record.value {
        Some(value) => {
            hosts.insert(key, codec::decode(value).map_err(broken)?);
        }
        None => {
            hosts.remove(&key);
        }
    }
    Ok(())
}
