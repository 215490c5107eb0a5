use std::{collections::BTreeMap, sync::Arc, time::Duration};

use firn_stream::{
    KafkaConfig, KafkaLog, Log, ProduceRecord, StreamErrorKind, TopicPartition, TopicSpec, conformance,
};
use firn_tests::{Kafka, until};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};

async fn connect(kafka: &Kafka, replication: i32) -> Arc<KafkaLog> {
    let config = KafkaConfig { bootstrap_servers: kafka.bootstrap_servers(), replication };
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
    let config = KafkaConfig { bootstrap_servers: format!("127.0.0.1:{port}"), replication: 1 };
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

/// The node that leads the topic's only partition.
fn leader(kafka: &Kafka) -> usize {
    let observer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", kafka.bootstrap_servers()).create().unwrap();
    let metadata = observer.fetch_metadata(Some("inventory"), Duration::from_secs(30)).unwrap();
    usize::try_from(metadata.topics()[0].partitions()[0].leader()).unwrap()
}
