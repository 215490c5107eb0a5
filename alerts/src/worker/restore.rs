//! Reading a partition's states back from the compacted topic.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

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
    check_places(&hosts, partition, partitions)?;
    tracing::debug!(partition, hosts = hosts.len(), "alerts state restored");
    Ok(hosts)
}

/// Whether all of a partition's hosts belong there.
pub(super) fn check_places(hosts: &States, partition: i32, partitions: i32) -> Result<(), AlertsError> {
    if let Some(astray) = hosts.keys().find(|key| home(key, partitions) != partition) {
        return Err(AlertsError::Config(format!(
            "topic '{ALERTS_STATE_TOPIC}' keeps host '{}' of tenant '{}' in partition {partition}, and '{INVENTORY_TOPIC}' \
             has its records in partition {}: it would lose its state; {REPARTITION}",
            astray.host_id,
            astray.tenant,
            home(astray, partitions)
        )));
    }
    Ok(())
}

/// What lies in a partition of the topic of states, wherever the hosts' records come to.
pub(super) async fn states(log: &dyn Log, partition: i32) -> Result<States, AlertsError> {
    let Read { hosts, broken } = read(log, partition).await?;
    broken.into_values().next().map_or(Ok(hosts), Err)
}

/// States, and those of the hosts whose newest can't be read.
#[derive(Default)]
pub(super) struct Read {
    pub(super) hosts: States,
    pub(super) broken: BTreeMap<HostKey, AlertsError>,
}

/// The same, with what can't be read.
pub(super) async fn read(log: &dyn Log, partition: i32) -> Result<Read, AlertsError> {
    let failed = || AlertsError::stream("restoring state");
    let ranges = log.offsets(ALERTS_STATE_TOPIC).await.map_err(failed())?;
    let range = usize::try_from(partition).ok().and_then(|at| ranges.get(at)).copied().ok_or_else(|| {
        AlertsError::Config(format!(
            "topic '{ALERTS_STATE_TOPIC}' has no partition {partition}: {REPARTITION}"
        ))
    })?;
    let from = TopicPartition { topic: ALERTS_STATE_TOPIC.to_owned(), partition };
    let mut read = Read::default();
    let mut contents = Contents::new(log, from, range);
    while let Some(records) = contents.next().await.map_err(failed())? {
        records.iter().try_for_each(|record| read.take(record))?;
    }
    Ok(read)
}

impl Read {
    fn take(&mut self, record: &Record) -> Result<(), AlertsError> {
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
        self.broken.remove(&key);
        match record.value.as_deref().map(Packed::read) {
            Some(Ok(state)) => {
                self.hosts.insert(Arc::new(key), state);
            }
            Some(Err(message)) => {
                self.hosts.remove(&key);
                let message = format!("{message}; if no newer version wrote it, run 'firn alerts rebuild'");
                self.broken.insert(key, broken(message));
            }
            None => {
                self.hosts.remove(&key);
            }
        }
        Ok(())
    }
}
