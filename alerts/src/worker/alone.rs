//! Being the only member of the group, for commands that change what workers keep.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use firn_stream::{Event, Topic, TopicPartition};

use super::{Worker, membership, session::Session};
use crate::AlertsError;

/// One look at the group.
const LOOK: Duration = Duration::from_millis(250);
/// How long one look at the group takes, at the most; without any wait Kafka isn't asked.
const GLANCE: Duration = Duration::from_millis(1);

/// Joins the group and waits until every partition is ours, of the topic `inventory` and of so many of commands: which it never
/// is while a worker is at work. `producer` is the command's name: a killed run's open transaction is ended by the next one.
pub(super) async fn alone<'a>(
    worker: &'a Worker,
    (inventory, commands): (Topic, i32),
    patience: Duration,
    producer: &str,
) -> Result<Session<'a>, AlertsError> {
    let log = worker.log.as_ref();
    let joining = || AlertsError::stream("joining the group");
    let mut consumer = log.subscribe(membership(None)).await.map_err(joining())?;
    let mut positions = BTreeMap::new();
    let all = usize::try_from(inventory.partitions + commands).unwrap_or(usize::MAX);
    let began = Instant::now();
    while positions.len() < all {
        match consumer.poll(1, LOOK).await.map_err(joining())? {
            Some(Event::Assigned(assigned)) => {
                let ours: Vec<TopicPartition> = assigned.iter().map(|ours| ours.partition.clone()).collect();
                // It is read by partition, in the order of receipt.
                consumer.pause(&ours).await.map_err(joining())?;
                positions.extend(assigned.into_iter().map(|ours| (ours.partition, ours.offset)));
            }
            Some(Event::Revoked(lost)) => positions.retain(|ours, _| !lost.contains(ours)),
            Some(Event::Records(..)) | None => {}
        }
        if began.elapsed() >= patience {
            let (has, of) = (positions.len(), all);
            consumer.close().await;
            return Err(AlertsError::Config(format!(
                "alerts workers are at work: after {} s they still have {} of {of} partitions; stop all of them ('firn \
                 alerts serve', 'firn up'), then run this again",
                patience.as_secs(),
                of - has
            )));
        }
    }
    // Only now: it would fence another run off.
    let producer = log.transactional(producer).await;
    let producer = producer.map_err(AlertsError::stream("opening the transactional producer"))?;
    let mut session = Session::of(worker, inventory, consumer, producer);
    session.positions = positions;
    Ok(session)
}

/// A member that polls nothing for minutes is put out of its group. Another one ends this.
pub(super) async fn still_alone(session: &mut Session<'_>) -> Result<(), AlertsError> {
    let event = session.consumer.poll(1, GLANCE).await.map_err(AlertsError::stream("asking the group"))?;
    match event {
        Some(Event::Assigned(_) | Event::Revoked(_)) => Err(AlertsError::Config(
            "an alerts worker, or another run of this command, was started meanwhile: stop it, then run this again to complete \
             it"
            .to_owned(),
        )),
        Some(Event::Records(..)) | None => Ok(()),
    }
}
