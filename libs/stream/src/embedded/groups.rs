//! Consumer groups within the process: who is a member, who shall have which partition, who has it.
//!
//! Pure and synchronous; time is handed in. A group's topics are co-partitioned, so that a partition number is assigned
//! once for all of them. Rebalancing is cooperative: a partition that shall move goes on with its owner until that one
//! polls and gives it up, or is evicted for not polling; only then may the new one claim it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use crate::{StreamError, StreamErrorKind};

/// A member that polls this late is taken for hung, and its partitions go to others.
const EVICTED_AFTER: Duration = Duration::from_secs(60);

/// A member of a group; numbers are never used twice in a process.
pub(super) type Member = u64;

/// What a member has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Steady,
    /// Give these up.
    Revoke(Vec<i32>),
    /// Claim these.
    Claim(Vec<i32>),
    /// It was evicted: give everything up and join again.
    Evicted,
    /// Another member took its instance id.
    Replaced,
}

#[derive(Debug)]
struct State {
    instance_id: Option<String>,
    seen: Instant,
}

#[derive(Debug, Default)]
struct Group {
    topics: Vec<String>,
    members: BTreeMap<Member, State>,
    /// By partition number: who shall have it.
    target: Vec<Option<Member>>,
    /// By partition number: who has it. Invariant: one member at most, so that two never process one partition.
    owner: Vec<Option<Member>>,
    /// The last members that lost their instance id to another.
    replaced: BTreeSet<Member>,
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: HashMap<String, Group>,
    last_member: Member,
}

impl Groups {
    /// Adds a member. One with the same instance id is replaced, and its partitions go to the new one.
    pub(super) fn join(
        &mut self,
        name: &str,
        topics: &[String],
        partitions: usize,
        instance_id: Option<&str>,
        now: Instant,
    ) -> Result<Member, StreamError> {
        let group = self.groups.entry(name.to_owned()).or_default();
        if !group.members.is_empty() && group.topics != topics {
            return Err(StreamError::new(
                StreamErrorKind::Config,
                format!(
                    "group {name} reads {}: a member can't join for {}",
                    group.topics.join(", "),
                    topics.join(", ")
                ),
            ));
        }
        self.last_member += 1;
        let member = self.last_member;
        topics.clone_into(&mut group.topics);
        if let Some(id) = instance_id {
            let before = group.members.iter().find(|(_, state)| state.instance_id.as_deref() == Some(id));
            if let Some(before) = before.map(|(before, _)| *before) {
                group.remove(before);
                group.replaced.insert(before);
            }
        }
        group.members.insert(member, State { instance_id: instance_id.map(str::to_owned), seen: now });
        group.resize(partitions);
        group.rebalance();
        Ok(member)
    }

    /// Partitions were added to a topic.
    pub(super) fn grow(&mut self, topic: &str, partitions: usize) {
        for group in self.groups.values_mut().filter(|group| group.topics.iter().any(|name| name == topic)) {
            group.resize(partitions);
            group.rebalance();
        }
    }

    /// A member polls, holding these partitions. Hung members are evicted on the way.
    pub(super) fn step(&mut self, name: &str, member: Member, held: &BTreeSet<i32>, now: Instant) -> Step {
        let Some(group) = self.groups.get_mut(name) else { return Step::Evicted };
        if group.replaced.contains(&member) {
            return Step::Replaced;
        }
        let Some(state) = group.members.get_mut(&member) else { return Step::Evicted };
        state.seen = now;
        group.evict(now);
        let lost: Vec<i32> =
            held.iter().copied().filter(|number| group.target_of(*number) != Some(member)).collect();
        if !lost.is_empty() {
            for number in &lost {
                group.release(*number, member);
            }
            return Step::Revoke(lost);
        }
        let claimable: Vec<i32> = (0..)
            .zip(group.target.iter().zip(&group.owner))
            .filter(|(number, (target, owner))| {
                **target == Some(member)
                    && owner.is_none_or(|owner| owner == member)
                    && !held.contains(number)
            })
            .map(|(number, _)| number)
            .collect();
        if claimable.is_empty() { Step::Steady } else { Step::Claim(claimable) }
    }

    /// Takes those of the partitions that are still free and meant for the member.
    pub(super) fn claim(&mut self, name: &str, member: Member, numbers: &[i32]) -> Vec<i32> {
        let Some(group) = self.groups.get_mut(name) else { return Vec::new() };
        let mut granted = Vec::new();
        for number in numbers {
            let Ok(index) = usize::try_from(*number) else { continue };
            let free = group.owner.get(index).is_some_and(|owner| owner.is_none_or(|owner| owner == member));
            if free && group.target_of(*number) == Some(member) {
                group.owner[index] = Some(member);
                granted.push(*number);
            }
        }
        granted
    }

    /// Whether the member has the partition: only then does a commit for it count.
    pub(super) fn owns(&self, name: &str, member: Member, number: i32) -> bool {
        let owner = |group: &Group| usize::try_from(number).ok().and_then(|index| *group.owner.get(index)?);
        self.groups.get(name).and_then(owner) == Some(member)
    }

    /// A member goes. What an instance had waits for its return, until it counts as hung; the others share the rest.
    pub(super) fn leave(&mut self, name: &str, member: Member) {
        let Some(group) = self.groups.get_mut(name) else { return };
        group.replaced.remove(&member);
        match group.members.get(&member) {
            Some(State { instance_id: Some(_), .. }) => {
                for owner in group.owner.iter_mut().filter(|owner| **owner == Some(member)) {
                    *owner = None;
                }
            }
            Some(_) => {
                group.remove(member);
                group.rebalance();
            }
            None => {}
        }
        if group.members.is_empty() && group.replaced.is_empty() {
            self.groups.remove(name);
        }
    }
}

impl Group {
    fn target_of(&self, number: i32) -> Option<Member> {
        *self.target.get(usize::try_from(number).ok()?)?
    }

    fn release(&mut self, number: i32, member: Member) {
        if let Some(owner) = usize::try_from(number).ok().and_then(|index| self.owner.get_mut(index))
            && *owner == Some(member)
        {
            *owner = None;
        }
    }

    fn resize(&mut self, partitions: usize) {
        let partitions = partitions.max(self.target.len());
        self.target.resize(partitions, None);
        self.owner.resize(partitions, None);
    }

    fn remove(&mut self, member: Member) {
        self.members.remove(&member);
        for slot in self.owner.iter_mut().chain(&mut self.target) {
            if *slot == Some(member) {
                *slot = None;
            }
        }
    }

    fn evict(&mut self, now: Instant) {
        let hung: Vec<Member> = self
            .members
            .iter()
            .filter(|(_, state)| now.duration_since(state.seen) > EVICTED_AFTER)
            .map(|(member, _)| *member)
            .collect();
        for member in &hung {
            self.remove(*member);
        }
        if !hung.is_empty() {
            self.rebalance();
        }
    }

    /// Gives each member its share and moves as little as possible: who has a partition keeps it, up to its share.
    fn rebalance(&mut self) {
        if self.members.is_empty() {
            return;
        }
        let least = self.target.len() / self.members.len();
        let mut larger_shares = self.target.len() % self.members.len();
        let mut count: BTreeMap<Member, usize> = self.members.keys().map(|member| (*member, 0)).collect();
        for slot in &mut self.target {
            let Some(held) = slot.and_then(|member| count.get_mut(&member)) else {
                *slot = None;
                continue;
            };
            if *held < least {
                *held += 1;
            } else if *held == least && larger_shares > 0 {
                *held += 1;
                larger_shares -= 1;
            } else {
                *slot = None;
            }
        }
        for slot in self.target.iter_mut().filter(|slot| slot.is_none()) {
            if let Some((member, held)) = count.iter_mut().min_by_key(|(_, held)| **held) {
                *held += 1;
                *slot = Some(*member);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn topics() -> Vec<String> {
        vec!["inventory".to_owned()]
    }

    fn settle(groups: &mut Groups, member: Member, held: &mut BTreeSet<i32>, now: Instant) {
        loop {
            match groups.step("g", member, held, now) {
                Step::Steady => return,
                Step::Revoke(lost) => held.retain(|number| !lost.contains(number)),
                Step::Claim(numbers) => {
                    let granted = groups.claim("g", member, &numbers);
                    assert!(!granted.is_empty());
                    held.extend(granted);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_partition_moves_only_after_its_owner_gave_it_up() {
        let (mut groups, now) = (Groups::default(), Instant::now());
        let first = groups.join("g", &topics(), 4, None, now).unwrap();
        let mut of_first = BTreeSet::new();
        settle(&mut groups, first, &mut of_first, now);
        assert_eq!(of_first.len(), 4);

        let second = groups.join("g", &topics(), 4, None, now).unwrap();
        assert_eq!(groups.step("g", second, &BTreeSet::new(), now), Step::Steady);
        settle(&mut groups, first, &mut of_first, now);
        let mut of_second = BTreeSet::new();
        settle(&mut groups, second, &mut of_second, now);
        assert_eq!((of_first.len(), of_second.len()), (2, 2));
        assert!(of_first.is_disjoint(&of_second));
        for number in of_second {
            assert!(!groups.owns("g", first, number) && groups.owns("g", second, number));
        }
    }

    #[test]
    fn a_hung_member_is_evicted_and_its_commits_no_longer_count() {
        let (mut groups, now) = (Groups::default(), Instant::now());
        let hung = groups.join("g", &topics(), 2, None, now).unwrap();
        let mut of_hung = BTreeSet::new();
        settle(&mut groups, hung, &mut of_hung, now);
        let later = now + EVICTED_AFTER + Duration::from_secs(1);
        let other = groups.join("g", &topics(), 2, None, later).unwrap();
        let mut of_other = BTreeSet::new();
        settle(&mut groups, other, &mut of_other, later);
        assert_eq!(of_other.len(), 2);
        assert!(!groups.owns("g", hung, 0));
        assert_eq!(groups.step("g", hung, &of_hung, later), Step::Evicted);
    }

    #[test]
    fn a_member_with_the_same_instance_id_replaces_the_old_one() {
        let (mut groups, now) = (Groups::default(), Instant::now());
        let old = groups.join("g", &topics(), 2, Some("a"), now).unwrap();
        let mut of_old = BTreeSet::new();
        settle(&mut groups, old, &mut of_old, now);
        let new = groups.join("g", &topics(), 2, Some("a"), now).unwrap();
        let mut of_new = BTreeSet::new();
        settle(&mut groups, new, &mut of_new, now);
        assert_eq!(of_new, of_old);
        assert_eq!(groups.step("g", old, &of_old, now), Step::Replaced);
        groups.leave("g", old);
        assert!(groups.owns("g", new, 0));
    }

    #[test]
    fn shares_differ_by_one_at_most_and_little_moves() {
        let (mut groups, now) = (Groups::default(), Instant::now());
        let members: Vec<Member> =
            (0..3).map(|_| groups.join("g", &topics(), 8, None, now).unwrap()).collect();
        let before = groups.groups["g"].target.clone();
        groups.leave("g", members[1]);
        let after = &groups.groups["g"].target;
        let stayed = before.iter().zip(after).filter(|(b, a)| **b != Some(members[1]) && b == a).count();
        assert_eq!(stayed, before.iter().filter(|target| **target != Some(members[1])).count());
        let share = |member| after.iter().filter(|target| **target == Some(member)).count();
        assert_eq!((share(members[0]), share(members[2])), (4, 4));
    }

    #[test]
    fn new_partitions_are_shared_out() {
        let (mut groups, now) = (Groups::default(), Instant::now());
        let member = groups.join("g", &topics(), 1, None, now).unwrap();
        groups.grow("inventory", 3);
        let mut held = BTreeSet::new();
        settle(&mut groups, member, &mut held, now);
        assert_eq!(held, BTreeSet::from([0, 1, 2]));
    }

    #[test]
    fn a_member_for_other_topics_is_refused() {
        let (mut groups, now) = (Groups::default(), Instant::now());
        groups.join("g", &topics(), 1, None, now).unwrap();
        let error = groups.join("g", &["compliance".to_owned()], 1, None, now).unwrap_err();
        assert_eq!(error.kind, StreamErrorKind::Config);
        assert!(error.message.contains("inventory"), "{error}");
    }
}
