//! Consume-transform-produce.

use super::{Member, PATIENCE, all_of, append, at, both_until, name, options, text, topic, value};
use crate::{Log, StreamErrorKind};

pub(super) async fn move_records_and_positions_together(log: &dyn Log) {
    let (input, output, group) = (topic(log, 1).await, topic(log, 2).await, name("group"));
    append(log, vec![text(&input, 0, "a"), text(&input, 0, "b")]).await;
    let mut producer = log.transactional(&name("producer")).await.expect("a producer");
    let mut member = Member::join(log, options(&group, &[&input])).await;
    member.until("the input is read", |member| member.count() == 2).await;
    for (next, record) in [(1, "A"), (2, "B")] {
        let records = (0..2).map(|partition| text(&output, partition, record)).collect();
        producer
            .commit(records, &[(at(&input, 0), next)], Some(member.consumer.as_ref()))
            .await
            .expect("committed");
        assert_eq!(log.committed(&group, &input).await.expect("committed"), [Some(next)]);
    }
    producer.commit(vec![text(&output, 0, "C")], &[], None).await.expect("a transaction without positions");
    assert_eq!(all_of(log, &at(&output, 0)).await.iter().map(value).collect::<Vec<_>>(), ["A", "B", "C"]);
    assert_eq!(all_of(log, &at(&output, 1)).await.iter().map(value).collect::<Vec<_>>(), ["A", "B"]);
    let mut reader = Member::join(log, options(&name("group"), &[&output])).await;
    reader.until("a group reads them too", |member| member.count() == 5).await;
    reader.consumer.close().await;
    member.consumer.close().await;
}

pub(super) async fn of_an_older_producer_are_fenced(log: &dyn Log) {
    let (output, id) = (topic(log, 1).await, name("producer"));
    let mut old = log.transactional(&id).await.expect("a producer");
    old.commit(vec![text(&output, 0, "old")], &[], None).await.expect("committed");
    let mut new = log.transactional(&id).await.expect("its successor");
    let error = old.commit(vec![text(&output, 0, "zombie")], &[], None).await.expect_err("fenced");
    assert_eq!(error.kind, StreamErrorKind::Fenced, "{error}");
    new.commit(vec![text(&output, 0, "new")], &[], None).await.expect("committed");
    assert_eq!(all_of(log, &at(&output, 0)).await.iter().map(value).collect::<Vec<_>>(), ["old", "new"]);
}

pub(super) async fn that_fail_leave_nothing(log: &dyn Log) {
    let (input, output, group) = (topic(log, 1).await, topic(log, 1).await, name("group"));
    append(log, vec![text(&input, 0, "a")]).await;
    let mut producer = log.transactional(&name("producer")).await.expect("a producer");
    let mut member = Member::join(log, options(&group, &[&input])).await;
    member.until("the input is read", |member| member.count() == 1).await;
    let offsets = [(at(&input, 0), 1)];

    let records = vec![text(&output, 0, "lost"), text(&name("missing"), 0, "x")];
    let error =
        producer.commit(records, &offsets, Some(member.consumer.as_ref())).await.expect_err("refused");
    assert_eq!(error.kind, StreamErrorKind::NoSuchTopic, "{error}");
    let error =
        producer.commit(vec![text(&output, 0, "lost")], &offsets, None).await.expect_err("whose offsets?");
    assert_eq!(error.kind, StreamErrorKind::Config, "{error}");
    assert_eq!(log.committed(&group, &input).await.expect("committed"), [None]);

    producer
        .commit(vec![text(&output, 0, "kept")], &offsets, Some(member.consumer.as_ref()))
        .await
        .expect("goes on");
    assert_eq!(all_of(log, &at(&output, 0)).await.iter().map(value).collect::<Vec<_>>(), ["kept"]);
    assert_eq!(log.committed(&group, &input).await.expect("committed"), [Some(1)]);
    member.consumer.close().await;
}

pub(super) async fn of_a_member_that_lost_its_partition_are_fenced(log: &dyn Log) {
    let (input, output, group) = (topic(log, 2).await, topic(log, 1).await, name("group"));
    append(log, vec![text(&input, 0, "a"), text(&input, 1, "b")]).await;
    let mut one = Member::join(log, options(&group, &[&input])).await;
    one.until("the only member has both", |member| member.partitions.len() == 2).await;
    let mut two = Member::join(log, options(&group, &[&input])).await;
    both_until(&mut one, &mut two, "each has one", |one, two| {
        one.partitions.len() == 1 && two.partitions.len() == 1
    })
    .await;
    let moved = two.partitions[0].clone();
    let mut producer = log.transactional(&name("producer")).await.expect("a producer");
    let records = vec![text(&output, 0, "zombie")];
    let error = producer
        .commit(records, &[(moved, 1)], Some(one.consumer.as_ref()))
        .await
        .expect_err("not its own any more");
    assert_eq!(error.kind, StreamErrorKind::Fenced, "{error}");
    let left = log.read(&at(&output, 0), 0, 1, std::time::Duration::from_secs(1)).await.expect("read");
    assert!(left.is_empty(), "nothing of it is visible");
    assert_eq!(log.committed(&group, &input).await.expect("committed"), [None, None]);
    one.consumer.close().await;
    tokio::time::timeout(PATIENCE, two.consumer.close()).await.expect("closes");
}
