//! Groups and their members.

use std::collections::BTreeSet;

use super::{Member, append, at, both_until, name, options, text, topic};
use crate::{Assigned, Log, OffsetRange, StreamErrorKind, SubscribeOptions};

pub(super) async fn continue_at_what_they_committed(log: &dyn Log) {
    let (topic, group) = (topic(log, 1).await, name("group"));
    let partition = at(&topic, 0);
    append(log, ["a", "b", "c"].map(|value| text(&topic, 0, value)).to_vec()).await;
    assert_eq!(log.committed(&group, &topic).await.expect("committed"), [None]);

    let mut first = Member::join(log, options(&group, &[&topic])).await;
    first.until("all three are read", |member| member.count() == 3).await;
    assert_eq!(first.values_of(&partition), ["a", "b", "c"]);
    let topic_id = log.topic(&topic).await.expect("asked").expect("it exists").id;
    let given = |offset, end| {
        let (partition, topic_id) = (partition.clone(), topic_id.clone());
        [Assigned { partition, topic_id, offset, range: OffsetRange { start: 0, end } }]
    };
    assert_eq!(first.assigned, given(0, 3), "nothing was committed: from the beginning");
    first.consumer.commit(&[(partition.clone(), 2)]).await.expect("committed");
    assert_eq!(log.committed(&group, &topic).await.expect("committed"), [Some(2)]);
    first.consumer.close().await;

    append(log, vec![text(&topic, 0, "d")]).await;
    let mut second = Member::join(log, options(&group, &[&topic])).await;
    second.until("the rest is read", |member| member.count() == 2).await;
    assert_eq!(second.values_of(&partition), ["c", "d"]);
    assert_eq!(second.assigned, given(2, 4), "at what was committed, and what the log holds");
    second.consumer.close().await;
}

pub(super) async fn start_at_the_end_if_asked(log: &dyn Log) {
    let topic = topic(log, 1).await;
    append(log, vec![text(&topic, 0, "before")]).await;
    let from_end = SubscribeOptions { from_beginning: false, ..options(&name("group"), &[&topic]) };
    let mut member = Member::join(log, from_end).await;
    member.until("the partition is assigned", |member| member.partitions.len() == 1).await;
    assert_eq!(member.assigned[0].offset, 1);
    append(log, vec![text(&topic, 0, "after")]).await;
    member.until("the new record is read", |member| member.count() == 1).await;
    assert_eq!(member.values_of(&at(&topic, 0)), ["after"]);
    member.consumer.close().await;
}

pub(super) async fn read_again_after_a_seek(log: &dyn Log) {
    let topic = topic(log, 1).await;
    let partition = at(&topic, 0);
    let records: Vec<_> = (0..500).map(|number| text(&topic, 0, &number.to_string())).collect();
    append(log, records).await;
    let mut member = Member::join(log, options(&name("group"), &[&topic])).await;
    member.until("some records are read", |member| member.count() > 0).await;

    member.values.clear();
    member.consumer.seek(&partition, 0).await.expect("sought");
    member.until("all are read again", |member| member.count() >= 500).await;
    let wanted: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    assert_eq!(member.values_of(&partition), wanted, "from the sought offset on, nothing stale, in order");

    member.values.clear();
    member.consumer.seek(&partition, 498).await.expect("sought");
    member.until("the last two are read", |member| member.count() >= 2).await;
    assert_eq!(member.values_of(&partition), ["498", "499"]);
    let error = member.consumer.seek(&at(&topic, 5), 0).await.expect_err("a partition that isn't ours");
    assert_eq!(error.kind, StreamErrorKind::Fenced, "{error}");
    member.consumer.close().await;
}

pub(super) async fn hold_back_paused_partitions(log: &dyn Log) {
    let topic = topic(log, 2).await;
    let (held_back, other) = (at(&topic, 0), at(&topic, 1));
    let mut member = Member::join(log, options(&name("group"), &[&topic])).await;
    member.until("both are assigned", |member| member.partitions.len() == 2).await;
    member.consumer.pause(std::slice::from_ref(&held_back)).await.expect("paused");
    append(log, vec![text(&topic, 0, "held"), text(&topic, 1, "now")]).await;
    member.until("the other goes on", |member| member.count() == 1).await;
    append(log, vec![text(&topic, 0, "held too"), text(&topic, 1, "again")]).await;
    member.until("the other goes on", |member| member.count() == 2).await;
    assert_eq!(member.values_of(&other), ["now", "again"]);

    member.consumer.resume(std::slice::from_ref(&held_back)).await.expect("resumed");
    member.until("what was held back arrives", |member| member.count() == 4).await;
    assert_eq!(member.values_of(&held_back), ["held", "held too"]);
    member.consumer.close().await;
}

pub(super) async fn share_partitions_and_fence_who_lost_one(log: &dyn Log) {
    let (topic, group) = (topic(log, 4).await, name("group"));
    append(log, (0..4).map(|partition| text(&topic, partition, "x")).collect()).await;
    let mut one = Member::join(log, options(&group, &[&topic])).await;
    one.until("the only member has all", |member| member.partitions.len() == 4).await;
    let mut two = Member::join(log, options(&group, &[&topic])).await;
    both_until(&mut one, &mut two, "both have two", |one, two| {
        one.partitions.len() == 2 && two.partitions.len() == 2
    })
    .await;
    let union: BTreeSet<_> = one.partitions.iter().chain(&two.partitions).collect();
    assert_eq!(union.len(), 4, "no partition is with two members");

    let moved = two.partitions[0].clone();
    let error = one.consumer.commit(&[(moved.clone(), 1)]).await.expect_err("not its own any more");
    assert_eq!(error.kind, StreamErrorKind::Fenced, "{error}");
    two.consumer.commit(&[(moved.clone(), 1)]).await.expect("its own");
    let committed = log.committed(&group, &topic).await.expect("committed");
    assert_eq!(committed.iter().flatten().count(), 1);

    two.consumer.close().await;
    one.until("all come back", |member| member.partitions.len() == 4).await;
    one.consumer.close().await;
}

pub(super) async fn give_each_member_the_same_partitions_of_all_topics(log: &dyn Log) {
    let (left, right, group) = (topic(log, 4).await, topic(log, 4).await, name("group"));
    let mut one = Member::join(log, options(&group, &[&left, &right])).await;
    let mut two = Member::join(log, options(&group, &[&left, &right])).await;
    both_until(&mut one, &mut two, "both have half", |one, two| {
        one.partitions.len() == 4 && two.partitions.len() == 4
    })
    .await;
    for member in [&one, &two] {
        let numbers = |topic: &str| -> Vec<i32> {
            member.partitions.iter().filter(|p| p.topic == topic).map(|p| p.partition).collect()
        };
        assert_eq!(numbers(&left), numbers(&right));
    }
    one.consumer.close().await;
    two.consumer.close().await;
}

pub(super) async fn give_an_instance_its_partitions_back(log: &dyn Log) {
    let (topic, group) = (topic(log, 4).await, name("group"));
    let instance =
        |id: &str| SubscribeOptions { instance_id: Some(id.to_owned()), ..options(&group, &[&topic]) };
    let mut one = Member::join(log, instance("one")).await;
    let mut two = Member::join(log, instance("two")).await;
    both_until(&mut one, &mut two, "both have two", |one, two| {
        one.partitions.len() == 2 && two.partitions.len() == 2
    })
    .await;
    let (before, revocations) = (one.partitions.clone(), two.revocations);
    one.consumer.close().await;
    let mut again = Member::join(log, instance("one")).await;
    both_until(&mut again, &mut two, "it has its partitions", |again, _| again.partitions.len() == 2).await;
    assert_eq!(again.partitions, before);
    assert_eq!(two.revocations, revocations, "the other member kept its own all the time");
    again.consumer.close().await;
    two.consumer.close().await;
}
