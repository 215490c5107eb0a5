//! Records taken once more: onto branches and from quarantine, never twice on main.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    body::Body,
    http::{Request, header},
};
use firn_auth::{Claims, Role};
use firn_catalog_client::{
    ClientErrorKind, SuspensionRequest,
    iceberg::TableIdent,
    nessie::{MergeRequest, TableMerge},
};
use firn_ingest::{PartitionOffset, ReplayFrom, ReplayRequest, ReplayStep, Standing};
use firn_inventory::{LogPosition, QuarantineBuilder, Rejection, RejectionKind, tables::INVENTORY_TOPIC};
use firn_runtime::StageState;
use firn_stream::Log;
use firn_table::{DataFileWriter, Operation, TableOperation, Transaction, WriteOptions};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{
    exactly_once::{check, check_at},
    house::{House, Running},
};

/// Asks the worker's API as somebody with a role in `acme`.
async fn ask(house: &House, role: Role, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let mut claims = Claims::new("somebody", Duration::from_secs(600));
    claims.tenants.insert("acme".parse().unwrap(), role);
    let token = house.key.sign(&claims);
    let request = Request::builder().method(method).uri(path);
    let request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    let router = house.worker().router(house.key.verifier());
    let response = router.oneshot(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap())
}

/// All steps of a replay together: records into inventory, into quarantine, and that were there already.
pub(crate) async fn replay(house: &House, branch: &str, from: ReplayFrom) -> (u64, u64, u64) {
    let mut total = (0, 0, 0);
    let mut next = Some(from);
    while let Some(from) = next {
        let request = ReplayRequest { branch: branch.to_owned(), from };
        let path = "/v1/tenants/acme/ingest/replay";
        let (status, answer) = ask(house, Role::Maintainer, "POST", path, &json!(request)).await;
        assert_eq!(status, 200, "{answer}");
        let step: ReplayStep = serde_json::from_value(answer).unwrap();
        total = (total.0 + step.inventory, total.1 + step.quarantined, total.2 + step.present);
        next = step.next;
    }
    total
}

const EVERYTHING: ReplayFrom = ReplayFrom::Time { since_ms: 0 };
pub(crate) const QUARANTINE: ReplayFrom = ReplayFrom::Quarantine { kinds: Vec::new(), cursor: None };

async fn branch(house: &House, name: &str) {
    house.catalog.tenant("acme").create_branch(name, "main").await.unwrap();
}

/// Merges a branch into main; false if there were conflicts.
async fn merge(house: &House, name: &str) -> bool {
    let client = house.catalog.tenant("acme");
    let from = client.reference(name).await.unwrap();
    let request = MergeRequest {
        from_ref_name: name.to_owned(),
        from_hash: from.hash().to_owned(),
        message: None,
        commit_meta: None,
        dry_run: false,
        table_merge: TableMerge::default(),
    };
    match client.merge("main", &request).await {
        Ok(merged) => merged.was_applied,
        Err(error) if error.kind == ClientErrorKind::Conflict => false,
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn branch_gets_what_it_lacks_once_and_its_positions_move_along() {
    let house = House::new(&["acme", "other"]).await;
    let mut sent = house.send("acme", 0..50).await;
    house.send("other", 0..20).await;
    let running = Running::start(house.worker());
    house.await_rows("acme", 45, 5).await;
    branch(&house, "old").await;
    sent.extend(house.send("acme", 50..100).await);
    house.await_rows("acme", 90, 10).await;
    running.drain().await;

    assert_eq!(replay(&house, "old", EVERYTHING).await, (45, 5, 50));
    check_at(&house, "acme", "old", &sent).await;
    assert_eq!(replay(&house, "old", EVERYTHING).await, (0, 0, 100), "a second time finds everything there");
    check_at(&house, "acme", "old", &sent).await;
    check(&house, "acme", &sent).await;

    assert!(!merge(&house, "old").await, "both sides took the same records: merging them would be twice");
    check(&house, "acme", &sent).await;
    let request = json!(ReplayRequest { branch: "main".into(), from: EVERYTHING });
    let path = "/v1/tenants/acme/ingest/replay";
    let (status, answer) = ask(&house, Role::Maintainer, "POST", path, &request).await;
    assert_eq!(status, 400);
    assert!(answer["error"]["message"].as_str().unwrap().contains("make a branch"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merged_replay_is_not_taken_again_by_ingest() {
    let house = House::new(&["acme"]).await;
    let mut sent = house.send("acme", 0..20).await;
    let running = Running::start(house.worker());
    house.await_rows("acme", 18, 2).await;
    house.catalog.tenant("acme").suspend("ingest", &SuspensionRequest::default()).await.unwrap();
    house.until("it stands", async || house.status("acme").state == StageState::Suspended).await;
    sent.extend(house.send("acme", 20..60).await);
    branch(&house, "ahead").await;
    assert_eq!(replay(&house, "ahead", EVERYTHING).await, (36, 4, 20));
    assert!(merge(&house, "ahead").await, "main did not move meanwhile");
    house.catalog.tenant("acme").resume("ingest").await.unwrap();
    sent.extend(house.send("acme", 60..70).await);
    house.await_rows("acme", 63, 7).await;
    running.drain().await;
    check(&house, "acme", &sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_rows_come_back_from_the_log() {
    let house = House::new(&["acme"]).await;
    let sent = house.send("acme", 0..50).await;
    let running = Running::start(house.worker());
    house.await_rows("acme", 45, 5).await;
    // Somebody empties the table; the positions stay.
    commit(
        &house,
        "inventory",
        Operation::Overwrite { remove: None, add: Vec::new(), base_snapshot_id: None },
    )
    .await;
    house.await_rows("acme", 0, 5).await;
    branch(&house, "repair").await;
    let partition = sent[0].0;
    let one = vec![PartitionOffset { partition, offset: 0 }];
    let (some, _, _) = replay(&house, "repair", ReplayFrom::Offsets { offsets: one }).await;
    assert!(some > 0 && some < 45, "of one partition alone: {some}");
    assert_eq!(replay(&house, "repair", EVERYTHING).await, (45 - some, 0, 5 + some));
    assert!(merge(&house, "repair").await);
    running.drain().await;
    check(&house, "acme", &sent).await;

    let beyond = ReplayFrom::Offsets { offsets: vec![PartitionOffset { partition, offset: 1_000 }] };
    let request = json!(ReplayRequest { branch: "repair".into(), from: beyond });
    let path = "/v1/tenants/acme/ingest/replay";
    let (status, answer) = ask(&house, Role::Maintainer, "POST", path, &request).await;
    assert_eq!(status, 400);
    assert!(answer["error"]["message"].as_str().unwrap().contains("not 1000"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quarantined_records_move_once_they_are_understood() {
    let house = House::new(&["acme"]).await;
    let sent = house.send("acme", 0..30).await;
    let running = Running::start(house.worker());
    house.await_rows("acme", 27, 3).await;
    running.drain().await;
    assert_eq!(replay(&house, "main", QUARANTINE).await, (0, 3, 0), "nothing was fixed");

    // What an older build could not read: two that this one can, one of another kind, one that nobody can.
    let topic_id = house.log.topic(INVENTORY_TOPIC).await.unwrap().unwrap().id;
    let mut rows = QuarantineBuilder::default();
    let record = |offset: i64| {
        let position = LogPosition {
            topic_id: topic_id.clone(),
            partition: 0,
            offset: 1_000 + offset,
            received_at_us: 1_000_000 * offset,
            source: "native".into(),
        };
        (format!(r#"{{"host_id":"h{offset}"}}"#), position)
    };
    for (offset, kind) in
        [(0, RejectionKind::WrongType), (1, RejectionKind::WrongType), (2, RejectionKind::OutOfRange)]
    {
        let (raw, position) = record(offset);
        rows.push(&Rejection::new(kind, "an older build's reason"), raw.as_bytes(), &position);
    }
    let (raw, position) = record(3);
    rows.push(&Rejection::new(RejectionKind::Misaddressed, "another host's"), raw.as_bytes(), &position);
    let table = house.table("acme", "quarantine").await.unwrap();
    let mut writer = DataFileWriter::new(&table, WriteOptions::default()).unwrap();
    writer.write(&rows.finish()).await.unwrap();
    commit(&house, "quarantine", Operation::Append { files: writer.close().await.unwrap() }).await;
    house.await_rows("acme", 27, 7).await;

    let wrong_types = ReplayFrom::Quarantine { kinds: vec!["wrong_type".into()], cursor: None };
    assert_eq!(replay(&house, "main", wrong_types).await, (2, 5, 0));
    house.await_rows("acme", 29, 5).await;
    assert_eq!(replay(&house, "main", QUARANTINE).await, (1, 4, 0));
    house.await_rows("acme", 30, 4).await;
    assert_eq!(replay(&house, "main", QUARANTINE).await, (0, 4, 0), "what is misaddressed stays");

    let mut all = house.places("acme", "inventory").await;
    all.extend(house.places("acme", "quarantine").await);
    all.sort_unstable();
    let mut expected = sent;
    expected.extend((0..4).map(|offset| (0, 1_000 + offset)));
    expected.sort_unstable();
    assert_eq!(all, expected, "each record in exactly one table");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_are_shown_beside_the_log() {
    let house = House::new(&["acme"]).await;
    let path = "/v1/tenants/acme/ingest/positions";
    let standing = async || -> Standing {
        let (status, answer) = ask(&house, Role::Reader, "GET", path, &Value::Null).await;
        assert_eq!(status, 200, "{answer}");
        serde_json::from_value(answer).unwrap()
    };
    house.send("acme", 0..50).await;
    let before = standing().await;
    assert_eq!((before.partitions.len(), before.lag_records), (8, 50));
    assert!(before.partitions.iter().all(|line| line.position.is_none()));
    let running = Running::start(house.worker());
    house.await_rows("acme", 45, 5).await;
    running.drain().await;
    let after = standing().await;
    assert_eq!((after.lag_records, after.problems), (0, Vec::<String>::new()));
    let shown: BTreeMap<i32, i64> =
        after.partitions.iter().filter_map(|line| Some((line.partition, line.position?))).collect();
    assert_eq!(shown, house.positions("acme").await);
    assert!(after.partitions.iter().all(|line| line.position.is_none_or(|next| next == line.log_end)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_may_sees_positions_and_replays() {
    let house = House::new(&["acme", "other"]).await;
    let replay = json!(ReplayRequest { branch: "main".into(), from: QUARANTINE });
    let status = async |role, method: &str, path: &str| ask(&house, role, method, path, &replay).await.0;
    assert_eq!(status(Role::Agent, "GET", "/v1/tenants/acme/ingest/positions").await, 403);
    assert_eq!(status(Role::Admin, "GET", "/v1/tenants/other/ingest/positions").await, 403);
    assert_eq!(status(Role::Writer, "POST", "/v1/tenants/acme/ingest/replay").await, 403);
    assert_eq!(status(Role::Maintainer, "POST", "/v1/tenants/acme/ingest/replay").await, 200);
    for wrong in
        [json!({"branch": "main"}), json!(ReplayRequest { branch: "nowhere".into(), from: QUARANTINE })]
    {
        let path = "/v1/tenants/acme/ingest/replay";
        let (status, answer) = ask(&house, Role::Maintainer, "POST", path, &wrong).await;
        assert_eq!(status, 400, "{answer}");
    }
}

pub(crate) async fn commit(house: &House, table: &str, operation: Operation) {
    let operation = TableOperation {
        table: TableIdent::new("bronze", table),
        operation,
        summary: BTreeMap::new(),
        assert_properties: BTreeMap::new(),
        set_properties: BTreeMap::new(),
    };
    let transaction = Transaction { reference: "main".into(), operations: vec![operation], max_attempts: 3 };
    transaction.commit(&house.catalog.tenant("acme"), &house.file_io).await.unwrap();
}
