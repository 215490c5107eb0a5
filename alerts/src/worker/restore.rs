//! Reading a partition's states back from the compacted topic.

use std::{collections::HashMap, sync::Arc};

use firn_inventory::tables::{ALERTS_STATE_TOPIC, INVENTORY_TOPIC};
use firn_stream::{Contents, Log, Record, TopicPartition};

use super::topics::{REPARTITION, home};
use crate::{AlertsError, host::HostKey, packed::Packed};

/// The states of a partition, by host.
pub(super) type States = HashMap<Arc<HostKey>, Packed>;

/// All states of a partition, of so many. Nobody else writes them while we own it. A host whose records come to another
/// partition is refused: it would begin anew there.
pub(super) async fn restore(log: &dyn Log, partition: i32, partitions: i32) -> Result<States, AlertsError> {
    let hosts = states(log, partition).await?;
    if let Some(astray) = hosts.keys().find(|key| home(key, partitions) != partition) {
        return Err(AlertsError::Config(format!(
            "topic '{ALERTS_STATE_TOPIC}' keeps host '{}' of tenant '{}' in partition {partition}, and '{INVENTORY_TOPIC}' \
             has its records in partition {}: it would lose its state; {REPARTITION}",
            astray.host_id,
            astray.tenant,
            home(astray, partitions)
        )));
    }
    tracing::debug!(partition, hosts = hosts.len(), "alerts state restored");
    Ok(hosts)
}

/// What lies in a partition of the topic of states, wherever the hosts' records come to.
pub(super) async fn states(log: &dyn Log, partition: i32) -> Result<States, AlertsError> {
    let failed = || AlertsError::stream("restoring state");
    let ranges = log.offsets(ALERTS_STATE_TOPIC).await.map_err(failed())?;
    let range = usize::try_from(partition).ok().and_then(|at| ranges.get(at)).copied().ok_or_else(|| {
        AlertsError::Config(format!(
            "topic '{ALERTS_STATE_TOPIC}' has no partition {partition}: {REPARTITION}"
        ))
    })?;
    let from = TopicPartition { topic: ALERTS_STATE_TOPIC.to_owned(), partition };
    let mut hosts = HashMap::new();
    let mut contents = Contents::new(log, from, range);
    while let Some(records) = contents.next().await.map_err(failed())? {
        records.iter().try_for_each(|record| take(&mut hosts, record))?;
    }
    Ok(hosts)
}

fn take(hosts: &mut States, record: &Record) -> Result<(), AlertsError> {
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
            hosts.insert(Arc::new(key), Packed::read(value).map_err(broken)?);
        }
        None => {
            hosts.remove(&key);
        }
    }
    Ok(())
}
