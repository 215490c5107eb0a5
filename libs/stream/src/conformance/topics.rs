//! Topics.

use std::time::Duration;

use super::{PATIENCE, at, name, options, text};
use crate::{Log, StreamErrorKind, TopicSpec};

pub(super) async fn are_made_once_and_only_grow(log: &dyn Log) {
    let mut spec = TopicSpec {
        name: name("grows"),
        partitions: 2,
        compacted: false,
        retention: Some(Duration::from_secs(3600)),
    };
    let made = log.ensure_topic(&spec).await.expect("made");
    assert_eq!((made.name.as_str(), made.partitions), (spec.name.as_str(), 2));
    assert!(!made.id.is_empty());
    assert_eq!(log.ensure_topic(&spec).await.expect("answered"), made);

    spec.partitions = 4;
    assert_eq!(log.ensure_topic(&spec).await.expect("raised").partitions, 4);
    spec.partitions = 1;
    let kept = log.ensure_topic(&spec).await.expect("left");
    assert_eq!((kept.partitions, &kept.id), (4, &made.id), "partitions never go, and the id stays");
    assert_eq!(log.topic(&spec.name).await.expect("known"), Some(kept));

    let compacted = TopicSpec { name: name("compacted"), partitions: 1, compacted: true, retention: None };
    let other = log.ensure_topic(&compacted).await.expect("made compacted");
    assert_ne!(other.id, made.id);
    let all = log.topics().await.expect("listed");
    assert!(all.contains(&spec.name) && all.contains(&compacted.name), "{all:?}");
}

pub(super) async fn that_do_not_exist_are_named(log: &dyn Log) {
    let missing = name("missing");
    assert_eq!(log.topic(&missing).await.expect("no failure"), None);
    let mut failures = vec![
        log.append(vec![text(&missing, 0, "x")]).await.remove(0).expect_err("append"),
        log.offsets(&missing).await.expect_err("offsets"),
        log.committed("group", &missing).await.expect_err("committed"),
        log.read(&at(&missing, 0), 0, 1, PATIENCE).await.expect_err("read"),
    ];
    failures.extend(log.subscribe(options(&name("group"), &[&missing])).await.err());
    assert_eq!(failures.len(), 5, "a group of a missing topic can't be joined");
    for error in failures {
        assert_eq!(error.kind, StreamErrorKind::NoSuchTopic, "{error}");
        assert!(error.message.contains(&missing), "{error}");
    }
}
