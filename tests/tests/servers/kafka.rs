use std::{collections::BTreeMap, sync::Arc, time::Duration};

use firn_stream::{
    Consumer, Event, KafkaConfig, KafkaLog, Log, ProduceRecord, StreamErrorKind, SubscribeOptions,
    TopicPartition, TopicSpec, conformance,
};
use firn_tests::{Kafka, until};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
};

async fn connect(kafka: &Kafka, replication: i32) -> Arc<KafkaLog> {
    let config = KafkaConfig { replication, ..KafkaConfig::new(kafka.bootstrap_servers()) };
    KafkaLog::connect(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_passes_the_conformance_suite() {
    let kafka = Kafka::start().await.unwrap();
    conformance(connect(&kafka, 1).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_broker_is_said_so() {
    let port = firn_tests::free_port().unwrap();
    let config = KafkaConfig::new(format!("127.0.0.1:{port}"));
    let error = KafkaLog::connect(config).await.err().unwrap();
    assert_eq!(error.kind, StreamErrorKind::Unavailable);
    assert!(error.message.contains("bootstrap_servers"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_leader_loses_no_acknowledged_record() {
    let mut kafka = Kafka::cluster(3).await.unwrap();
    let log = connect(&kafka, 3).await;
    let spec = TopicSpec { name: "inventory".to_owned(), partitions: 1, compacted: false, retention: None };
    let topic = log.ensure_topic(&spec).await.unwrap();
    let mut acknowledged = BTreeMap::new();
    for number in 0..200 {
        if number == 50 {
            kafka.kill_node(leader(&kafka)).unwrap();
        }
        // The same record again after an unknown outcome may be a second one, but never a lost one.
        let offset = until("the record is acknowledged", Duration::from_secs(120), async || {
            let record = ProduceRecord {
                topic: "inventory".to_owned(),
                key: None,
                partition: Some(0),
                value: Some(number.to_string().into()),
                headers: Vec::new(),
            };
            log.append(vec![record]).await.remove(0)
        });
        acknowledged.insert(offset.await.unwrap().1, number.to_string());
    }
    assert_eq!(acknowledged.len(), 200);

    let from = TopicPartition { topic: "inventory".to_owned(), partition: 0 };
    let mut read = BTreeMap::new();
    let mut next = 0;
    loop {
        let records = log.read(&from, next, 1000, Duration::from_secs(5)).await.unwrap();
        let Some(last) = records.last() else { break };
        next = last.offset + 1;
        read.extend(
            records.into_iter().map(|r| (r.offset, String::from_utf8(r.value.unwrap().to_vec()).unwrap())),
        );
    }
    for (offset, value) in &acknowledged {
        assert_eq!(read.get(offset), Some(value), "acknowledged at {offset}");
    }
    assert_eq!(
        log.topic("inventory").await.unwrap(),
        Some(topic),
        "the id is the same behind another leader"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_committed_late_do_not_count_in_the_topic_made_anew() {
    let kafka = Kafka::start().await.unwrap();
    let log = connect(&kafka, 1).await;
    let spec = TopicSpec { name: "inventory".to_owned(), partitions: 1, compacted: false, retention: None };
    let old = log.ensure_topic(&spec).await.unwrap();
    write(log.as_ref(), ["a", "b"]).await;
    let mut late = join(log.as_ref(), true).await;
    assert_eq!(read(late.as_mut(), 2).await, ["a", "b"]);

    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka.bootstrap_servers()).create().unwrap();
    admin.delete_topics(&["inventory"], &AdminOptions::new()).await.unwrap();
    let new = until("the topic is made anew", Duration::from_secs(60), async || {
        let made = log.ensure_topic(&spec).await?;
        anyhow::ensure!(made.id != old.id, "still the old one");
        Ok(())
    });
    new.await.unwrap();
    write(log.as_ref(), ["c", "d", "e"]).await;

    // Kafka takes it: it knows the topic by its name.
    let partition = TopicPartition { topic: "inventory".to_owned(), partition: 0 };
    until("the late commit is taken", Duration::from_secs(60), async || {
        late.commit(&[(partition.clone(), 2)]).await
    })
    .await
    .unwrap();
    late.close().await;
    assert_eq!(log.committed("group", "inventory").await.unwrap(), [None]);
    // Though a new group would begin at the end: all of the new topic came after what was read of the old one.
    let mut next = join(log.as_ref(), false).await;
    assert_eq!(read(next.as_mut(), 3).await, ["c", "d", "e"]);
    next.commit(&[(partition, 3)]).await.unwrap();
    assert_eq!(log.committed("group", "inventory").await.unwrap(), [Some(3)]);
    next.close().await;
}

async fn write<const N: usize>(log: &dyn Log, values: [&'static str; N]) {
    let record = |value: &'static str| ProduceRecord {
        topic: "inventory".to_owned(),
        key: None,
        partition: Some(0),
        value: Some(value.into()),
        headers: Vec::new(),
    };
    for outcome in log.append(values.map(record).to_vec()).await {
        outcome.unwrap();
    }
}

async fn join(log: &dyn Log, from_beginning: bool) -> Box<dyn Consumer> {
    let options = SubscribeOptions {
        group: "group".to_owned(),
        topics: vec!["inventory".to_owned()],
        instance_id: None,
        from_beginning,
    };
    log.subscribe(options).await.unwrap()
}

/// The values of the first records.
async fn read(consumer: &mut dyn Consumer, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    until("the records are read", Duration::from_secs(60), async || {
        if let Some(Event::Records(_, records)) =
            consumer.poll(100, Duration::from_millis(100)).await.map_err(anyhow::Error::from)?
        {
            values.extend(records.into_iter().map(|r| String::from_utf8(r.value.unwrap().to_vec()).unwrap()));
        }
        anyhow::ensure!(values.len() >= count, "{values:?}");
        Ok(())
    })
    .await
    .unwrap();
    values
}

/// The node that leads the topic's only partition.
fn leader(kafka: &Kafka) -> usize {
    let observer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", kafka.bootstrap_servers()).create().unwrap();
    let metadata = observer.fetch_metadata(Some("inventory"), Duration::from_secs(30)).unwrap();
    usize::try_from(metadata.topics()[0].partitions()[0].leader()).unwrap()
}
