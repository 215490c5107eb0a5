//! Brokers that ask who is there.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use firn_runtime::reload::Live;
use firn_stream::{
    BrokerTls, Compression, Consumer, Event, KafkaConfig, KafkaLog, Log, ProduceRecord, Sasl, ScramHash,
    Security, StreamError, StreamErrorKind, SubscribeOptions, TopicSpec, conformance,
};
use firn_tests::{Authority, Certificate, Kafka, until};
use serde_json::json;

const DEADLINE: Duration = Duration::from_secs(60);

fn trusting(authority: &Authority, identity: Option<&Certificate>) -> BrokerTls {
    let read = |path| std::fs::read_to_string(path).unwrap();
    let identity = identity.map(|identity| (read(identity.certificate.clone()), read(identity.key.clone())));
    BrokerTls { authorities: Some(read(authority.file())), identity }
}

/// A token as brokers take it that trust everybody: unsigned.
fn token(subject: &str, valid: Duration) -> Sasl {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let claims = json!({"sub": subject, "iat": now.as_secs(), "exp": (now + valid).as_secs()});
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    Sasl::OAuthBearer { token: format!("{}.{}.", part(json!({"alg": "none"})), part(claims)) }
}

fn scram(hash: ScramHash) -> Sasl {
    let (username, password) = Kafka::CREDENTIALS;
    Sasl::Scram { hash, username: username.to_owned(), password: password.to_owned() }
}

fn plain(password: &str) -> Sasl {
    Sasl::Plain { username: Kafka::CREDENTIALS.0.to_owned(), password: password.to_owned() }
}

async fn connect(
    servers: String,
    security: &Live<Security>,
    compression: Compression,
) -> Result<Arc<KafkaLog>, StreamError> {
    let security = security.clone();
    KafkaLog::connect(KafkaConfig { replication: 1, compression, security, ..KafkaConfig::new(servers) })
        .await
}

async fn topic(log: &dyn Log, name: &str) {
    let spec = TopicSpec { name: name.to_owned(), partitions: 2, compacted: false, retention: None };
    log.ensure_topic(&spec).await.unwrap();
}

async fn append(log: &dyn Log, topic: &str, value: &str) {
    let record = ProduceRecord {
        topic: topic.to_owned(),
        key: None,
        partition: Some(0),
        value: Some(value.to_owned().into()),
        headers: Vec::new(),
    };
    for appended in log.append(vec![record]).await {
        appended.unwrap();
    }
}

async fn join(log: &dyn Log, topic: &str, instance: Option<&str>) -> Box<dyn Consumer> {
    let options = SubscribeOptions {
        group: "group".to_owned(),
        topics: vec![topic.to_owned()],
        instance_id: instance.map(str::to_owned),
        from_beginning: true,
    };
    log.subscribe(options).await.unwrap()
}

/// The first record that comes, and whether partitions were given up before it.
async fn next(consumer: &mut dyn Consumer) -> (String, bool) {
    let mut gave_up = false;
    let mut read = None;
    until("a record is read", DEADLINE, async || {
        match consumer.poll(100, Duration::from_millis(100)).await.map_err(anyhow::Error::from)? {
            Some(Event::Records(partition, records)) => {
                let last = records.last().unwrap();
                consumer.commit(&[(partition, last.offset + 1)]).await?;
                read = Some(String::from_utf8(last.value.clone().unwrap().to_vec()).unwrap());
            }
            Some(Event::Revoked(_)) => gave_up = true,
            Some(Event::Assigned(_)) | None => {}
        }
        anyhow::ensure!(read.is_some(), "none yet");
        Ok(())
    })
    .await
    .unwrap();
    (read.unwrap(), gave_up)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mechanism_lets_in_who_has_the_secret_with_every_compression() {
    let authority = Authority::new().unwrap();
    let kafka = Kafka::secured(&authority).await.unwrap();
    let (_, password) = Kafka::CREDENTIALS;
    let by_sasl = |sasl| Security { tls: Some(trusting(&authority, None)), sasl: Some(sasl) };
    let client = authority.issue("client", &["DNS:client"]).unwrap();
    let certified = Security { tls: Some(trusting(&authority, Some(&client))), sasl: None };
    for (number, (servers, security, compression)) in [
        (kafka.sasl_servers(), by_sasl(plain(password)), Compression::None),
        (kafka.sasl_servers(), by_sasl(scram(ScramHash::Sha256)), Compression::Gzip),
        (kafka.sasl_servers(), by_sasl(scram(ScramHash::Sha512)), Compression::Lz4),
        (kafka.sasl_servers(), by_sasl(token("svc", Duration::from_secs(600))), Compression::Zstd),
        (kafka.tls_servers(), certified, Compression::Snappy),
    ]
    .into_iter()
    .enumerate()
    {
        let log = connect(servers, &Live::new(security), compression).await.unwrap();
        let topic_name = format!("topic-{number}");
        topic(log.as_ref(), &topic_name).await;
        let value = "inventory ".repeat(1000);
        append(log.as_ref(), &topic_name, &value).await;
        let mut consumer = join(log.as_ref(), &topic_name, None).await;
        assert_eq!(next(consumer.as_mut()).await.0, value, "{compression:?}");
        assert_eq!(log.committed("group", &topic_name).await.unwrap(), [Some(1), None]);
        consumer.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_keeps_its_contract_over_tls_with_tokens() {
    let authority = Authority::new().unwrap();
    let kafka = Kafka::secured(&authority).await.unwrap();
    let tls = Some(trusting(&authority, None));
    let security = Security { tls, sasl: Some(token("svc", Duration::from_secs(3600))) };
    let log = connect(kafka.sasl_servers(), &Live::new(security), Compression::Lz4).await.unwrap();
    conformance(log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_is_told_why_at_once() {
    let authority = Authority::new().unwrap();
    let kafka = Kafka::secured(&authority).await.unwrap();
    let refused = async |servers: String, security: Security| {
        let security = Live::new(security);
        let connected = connect(servers, &security, Compression::Zstd);
        let connected = tokio::time::timeout(Duration::from_secs(20), connected).await.expect("at once");
        connected.err().expect("refused")
    };
    let trusted = || Some(trusting(&authority, None));
    let error = refused(kafka.sasl_servers(), Security { tls: trusted(), sasl: Some(plain("wrong")) }).await;
    assert_eq!(error.kind, StreamErrorKind::Config, "{error}");
    assert!(error.message.contains("stream.sasl") && !error.message.contains("wrong"), "{error}");
    let wrong = Sasl::Scram {
        hash: ScramHash::Sha512,
        username: Kafka::CREDENTIALS.0.to_owned(),
        password: "wrong".to_owned(),
    };
    let error = refused(kafka.sasl_servers(), Security { tls: trusted(), sasl: Some(wrong) }).await;
    assert_eq!(error.kind, StreamErrorKind::Config, "{error}");
    let expired = Security { tls: trusted(), sasl: Some(token("svc", Duration::ZERO)) };
    let error = refused(kafka.sasl_servers(), expired).await;
    assert_eq!(error.kind, StreamErrorKind::Config, "{error}");

    let others = Authority::new().unwrap();
    let stranger = Security { tls: Some(trusting(&others, None)), sasl: Some(scram(ScramHash::Sha512)) };
    let error = refused(kafka.sasl_servers(), stranger).await;
    assert!(error.message.contains("certificate"), "{error}");
    let nobody = Security { tls: trusted(), sasl: None };
    let error = refused(kafka.tls_servers(), nobody).await;
    assert!(error.message.to_lowercase().contains("certificate"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_go_on_with_new_certificates_and_tokens() {
    let authority = Authority::new().unwrap();
    let kafka = Kafka::secured(&authority).await.unwrap();
    let of = |name: &str| {
        let identity = authority.issue(name, &["DNS:client"]).unwrap();
        Security { tls: Some(trusting(&authority, Some(&identity))), sasl: None }
    };
    let security = Live::new(of("first"));
    let log = connect(kafka.tls_servers(), &security, Compression::Zstd).await.unwrap();
    topic(log.as_ref(), "certified").await;
    let mut consumer = join(log.as_ref(), "certified", Some("one")).await;
    append(log.as_ref(), "certified", "a").await;
    assert_eq!(next(consumer.as_mut()).await, ("a".to_owned(), false));
    security.set(of("second"));
    append(log.as_ref(), "certified", "b").await;
    assert_eq!(next(consumer.as_mut()).await, ("b".to_owned(), true), "it joined anew, and missed nothing");
    assert_eq!(log.committed("group", "certified").await.unwrap(), [Some(2), None]);
    consumer.close().await;

    // A token that ends meanwhile: the next one is asked for, and nobody has to join again.
    let by_token = |valid: u64| Security {
        tls: Some(trusting(&authority, None)),
        sasl: Some(token("svc", Duration::from_secs(valid))),
    };
    let security = Live::new(by_token(15));
    let log = connect(kafka.sasl_servers(), &security, Compression::Zstd).await.unwrap();
    topic(log.as_ref(), "tokens").await;
    let mut consumer = join(log.as_ref(), "tokens", None).await;
    append(log.as_ref(), "tokens", "a").await;
    assert_eq!(next(consumer.as_mut()).await, ("a".to_owned(), false));
    security.set(by_token(600));
    let ended = SystemTime::now() + Duration::from_secs(16);
    until("the first token has ended", DEADLINE, async || {
        consumer.poll(1, Duration::from_millis(500)).await.map_err(|error| error.to_string())?;
        if SystemTime::now() > ended { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await
    .unwrap();
    append(log.as_ref(), "tokens", "b").await;
    assert_eq!(next(consumer.as_mut()).await, ("b".to_owned(), false));
    assert_eq!(log.topic("tokens").await.unwrap().unwrap().partitions, 2);
    consumer.close().await;
}
