//! What librdkafka tells of a group's rebalances while it is polled.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rdkafka::{
    ClientContext, TopicPartitionList,
    client::OAuthToken,
    consumer::{BaseConsumer, ConsumerContext, Rebalance},
};
use tokio::sync::Notify;

use super::security::Identity;
use crate::TopicPartition;

/// A change that the consumer has still to hear of.
#[derive(Debug)]
pub(super) enum Change {
    Assigned(Vec<TopicPartition>),
    Revoked(Vec<TopicPartition>),
}

#[derive(Default)]
struct State {
    /// Invariant: what we may commit. A partition leaves at the moment it is given up, before anyone hears of it.
    assigned: BTreeSet<TopicPartition>,
    /// A few per rebalance, and taken before anything else.
    changes: VecDeque<Change>,
}

/// Follows the assignment.
pub(super) struct GroupContext {
    identity: Identity,
    state: Mutex<State>,
    pub(super) changed: Notify,
}

impl GroupContext {
    pub(super) fn new(identity: Identity) -> Self {
        Self { identity, state: Mutex::default(), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_change(&self) -> Option<Change> {
        self.state().changes.pop_front()
    }

    /// A change that the consumer could not be told of yet.
    pub(super) fn put_back(&self, change: Change) {
        self.state().changes.push_front(change);
    }

    /// All that are ours now; from here on they are not.
    pub(super) fn give_up(&self) -> Vec<TopicPartition> {
        let mut state = self.state();
        state.changes.clear();
        std::mem::take(&mut state.assigned).into_iter().collect()
    }

    pub(super) fn has(&self, partition: &TopicPartition) -> bool {
        self.state().assigned.contains(partition)
    }
}

impl ClientContext for GroupContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.identity.generate_oauth_token(config)
    }
}

impl ConsumerContext for GroupContext {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(list) = rebalance {
            let lost = partitions(list);
            let mut state = self.state();
            state.assigned.retain(|partition| !lost.contains(partition));
            state.changes.push_back(Change::Revoked(lost));
            drop(state);
            self.changed.notify_one();
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance {
            let gained = partitions(list);
            let mut state = self.state();
            state.assigned.extend(gained.iter().cloned());
            state.changes.push_back(Change::Assigned(gained));
            drop(state);
            self.changed.notify_one();
        }
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements()
        .iter()
        .map(|element| TopicPartition { topic: element.topic().to_owned(), partition: element.partition() })
        .collect()
}
