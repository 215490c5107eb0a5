//! The topics of this worker: one owner per host needs equal partition counts.

use firn_inventory::tables::{ALERTS_COMMANDS_TOPIC, ALERTS_STATE_TOPIC, COMPLIANCE_TOPIC, INVENTORY_TOPIC};
use firn_stream::{Log, Topic, TopicSpec};

use crate::AlertsError;

/// Makes what is missing and checks the rest; answers the topic `inventory`.
pub(super) async fn ensure(log: &dyn Log, partitions: i32) -> Result<Topic, AlertsError> {
    let failed = || AlertsError::stream("making the topics of alerts");
    let spec = |name: &str, partitions, compacted| TopicSpec {
        name: name.to_owned(),
        partitions,
        compacted,
        retention: None,
    };
    let inventory = match log.topic(INVENTORY_TOPIC).await.map_err(failed())? {
        Some(topic) => topic,
        None => log.ensure_topic(&spec(INVENTORY_TOPIC, partitions, false)).await.map_err(failed())?,
    };
    for (name, compacted) in
        [(ALERTS_STATE_TOPIC, true), (COMPLIANCE_TOPIC, false), (ALERTS_COMMANDS_TOPIC, false)]
    {
        let topic = match log.topic(name).await.map_err(failed())? {
            Some(topic) => topic,
            None => log.ensure_topic(&spec(name, inventory.partitions, compacted)).await.map_err(failed())?,
        };
        if topic.partitions != inventory.partitions {
            return Err(AlertsError::Config(format!(
                "topic '{name}' has {} partitions and '{INVENTORY_TOPIC}' has {}: hosts would change their owner and lose \
                 their state; run 'firn alerts repartition'",
                topic.partitions, inventory.partitions
            )));
        }
    }
    Ok(inventory)
}
