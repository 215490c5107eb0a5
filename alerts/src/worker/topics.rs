//! The topics of this worker: one owner per host needs equal partition counts.

use firn_inventory::tables::{ALERTS_COMMANDS_TOPIC, ALERTS_STATE_TOPIC, COMPLIANCE_TOPIC, INVENTORY_TOPIC};
use firn_stream::{Assigned, Log, Topic, TopicSpec, partition_for_key};

use super::GROUP;
use crate::{AlertsError, host::HostKey};

/// What has as many partitions as `inventory`, and whether it is compacted.
const OURS: [(&str, bool); 3] =
    [(ALERTS_STATE_TOPIC, true), (COMPLIANCE_TOPIC, false), (ALERTS_COMMANDS_TOPIC, false)];
/// The way out where partitions don't fit together.
pub(super) const REPARTITION: &str = "run 'firn alerts repartition'";

/// What makes lost states anew.
const REBUILD: &str = "run 'firn alerts rebuild', which makes the states anew from the ledger";

/// Makes what is missing and checks the rest; answers the topic `inventory`. Without the states that were kept of records that
/// were judged, all computers would begin anew: then nothing is made.
pub(super) async fn ensure(log: &dyn Log, partitions: i32) -> Result<Topic, AlertsError> {
    let failed = || AlertsError::stream("asking for the topics of alerts");
    let has = async |name: &str| Ok::<_, AlertsError>(log.topic(name).await.map_err(failed())?.is_some());
    if has(INVENTORY_TOPIC).await? && !has(ALERTS_STATE_TOPIC).await? {
        let committed = log.committed(GROUP, INVENTORY_TOPIC).await.map_err(failed())?;
        if committed.iter().any(|judged| judged.is_some_and(|offset| offset > 0)) {
            return Err(AlertsError::Config(format!(
                "topic '{ALERTS_STATE_TOPIC}' is gone, and '{INVENTORY_TOPIC}' has records that were judged already: {REBUILD}"
            )));
        }
    }
    make(log, partitions).await
}

/// The same, whatever was lost.
pub(super) async fn make(log: &dyn Log, partitions: i32) -> Result<Topic, AlertsError> {
    let failed = || AlertsError::stream("making the topics of alerts");
    let inventory = match log.topic(INVENTORY_TOPIC).await.map_err(failed())? {
        Some(topic) => topic,
        None => log.ensure_topic(&spec(INVENTORY_TOPIC, partitions, false)).await.map_err(failed())?,
    };
    for (name, compacted) in OURS {
        let topic = match log.topic(name).await.map_err(failed())? {
            Some(topic) => topic,
            None => log.ensure_topic(&spec(name, inventory.partitions, compacted)).await.map_err(failed())?,
        };
        if topic.partitions != inventory.partitions {
            return Err(unequal(&topic, &inventory));
        }
    }
    Ok(inventory)
}

/// The topic `inventory`, if those of ours that are there have as many partitions.
pub(super) async fn inventory(log: &dyn Log) -> Result<Topic, AlertsError> {
    let inventory = known(log, INVENTORY_TOPIC).await?;
    for (name, _) in OURS {
        let topic = log.topic(name).await.map_err(AlertsError::stream("asking for the topics of alerts"))?;
        if let Some(topic) = topic.filter(|topic| topic.partitions != inventory.partitions) {
            return Err(unequal(&topic, &inventory));
        }
    }
    Ok(inventory)
}

fn unequal(topic: &Topic, inventory: &Topic) -> AlertsError {
    AlertsError::Config(format!(
        "topic '{}' has {} partitions and '{INVENTORY_TOPIC}' has {}: hosts would change their owner and lose their state; \
         {REPARTITION}",
        topic.name, topic.partitions, inventory.partitions
    ))
}

/// How many partitions each topic has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    /// The topic that the others follow.
    pub(super) inventory: Topic,
    pub(super) states: i32,
    pub(super) compliance: i32,
    pub(super) commands: i32,
}

impl Counts {
    pub(super) fn are_equal(&self) -> bool {
        let all = self.inventory.partitions;
        [self.states, self.compliance, self.commands] == [all; 3]
    }
}

/// Counts the partitions of topics that are all there; none has more than `inventory`.
pub(super) async fn counts(log: &dyn Log) -> Result<Counts, AlertsError> {
    let inventory = known(log, INVENTORY_TOPIC).await?;
    let count = async |name: &str| {
        let partitions = known(log, name).await?.partitions;
        if partitions <= inventory.partitions {
            return Ok(partitions);
        }
        Err(AlertsError::Config(format!(
            "topic '{name}' has {partitions} partitions and '{INVENTORY_TOPIC}' has {}, and no topic ever shrinks: raise \
             '{INVENTORY_TOPIC}' to {partitions}, then run this again",
            inventory.partitions
        )))
    };
    Ok(Counts {
        states: count(ALERTS_STATE_TOPIC).await?,
        compliance: count(COMPLIANCE_TOPIC).await?,
        commands: count(ALERTS_COMMANDS_TOPIC).await?,
        inventory,
    })
}

async fn known(log: &dyn Log, name: &str) -> Result<Topic, AlertsError> {
    let topic = log.topic(name).await.map_err(AlertsError::stream("asking for the topics of alerts"))?;
    topic.ok_or_else(|| {
        AlertsError::Config(format!("topic '{name}' is not there: start the alerts worker, which makes it"))
    })
}

/// A command that is read where its host isn't known would be lost: who has a partition of commands has that of inventories.
pub(super) fn check_assigned(assigned: &[Assigned]) -> Result<(), AlertsError> {
    let has = |topic: &str, partition: i32| {
        assigned.iter().any(|ours| ours.partition.topic == topic && ours.partition.partition == partition)
    };
    let mut commands = assigned.iter().filter(|ours| ours.partition.topic == ALERTS_COMMANDS_TOPIC);
    if commands.all(|ours| has(INVENTORY_TOPIC, ours.partition.partition)) {
        return Ok(());
    }
    Err(AlertsError::Config(format!(
        "topic '{ALERTS_COMMANDS_TOPIC}' has not as many partitions as '{INVENTORY_TOPIC}': {REPARTITION}"
    )))
}

/// What is said of a record whose host is known in another partition.
pub(super) fn astray(partition: i32, offset: i64) -> AlertsError {
    AlertsError::Config(format!(
        "{INVENTORY_TOPIC}/{partition} offset {offset}: the record's key belongs to another partition, as when partitions \
         were added: its host would begin anew; {REPARTITION}"
    ))
}

/// Brings one of our topics to so many partitions.
pub(super) async fn grow(log: &dyn Log, name: &str, partitions: i32) -> Result<(), AlertsError> {
    let compacted = OURS.iter().any(|(ours, compacted)| *ours == name && *compacted);
    let grown = log.ensure_topic(&spec(name, partitions, compacted)).await;
    grown.map(drop).map_err(AlertsError::stream("adding partitions to the topics of alerts"))
}

/// The partition, of so many, that a host's records come to.
pub(super) fn home(key: &HostKey, partitions: i32) -> i32 {
    partition_for_key(&key.to_bytes(), partitions)
}

fn spec(name: &str, partitions: i32, compacted: bool) -> TopicSpec {
    TopicSpec { name: name.to_owned(), partitions, compacted, retention: None }
}
