//! Erasures on a real catalog: what is gone, what stays, what stops them, and that they may be killed anywhere.

#![allow(clippy::unwrap_used)]

mod restored;

use std::sync::Arc;

use apache_avro::{Reader, types::Value as Avro};
use datafusion::arrow::util::pretty::pretty_format_batches;
use firn_auth::verify_document;
use firn_catalog_client::{Erasure, ErasureRequest, GcRequest, HoldRequest, RECEIPT_TYPE, Subject};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;

use super::*;
use crate::{
    Compactor, CompactorConfig,
    maintenance::MaintenancePlace,
    promotion::TenantPlace,
    testing::{Lake, growing, inventory, kill_after},
};

const EMAIL: &str = "jo@example.org";
const HOST: &str = "pc-of-jo";

fn subject(column: &str, value: &str) -> Subject {
    Subject { column: column.to_owned(), value: value.to_owned() }
}

fn request(column: &str, value: &str) -> ErasureRequest {
    ErasureRequest {
        subject: subject(column, value),
        with_hosts: false,
        dry_run: false,
        reason: "asked to".to_owned(),
    }
}

/// Two computers on main, a tag and a branch, with promotions and changes between them.
async fn history(lake: &Lake, compactor: &Compactor) {
    let of_jo = json!({"owner_email": EMAIL, "disk_encrypted": true, "cpu_usage": 100, "note": EMAIL});
    let of_al = json!({"owner_email": "al@example.org", "disk_encrypted": false});
    lake.report(&[inventory(0, HOST, "e0", of_jo.clone()), inventory(1, "pc-of-al", "e1", of_al.clone())])
        .await;
    promote(lake, compactor).await;
    lake.client.create_tag("v1", "main").await.unwrap();
    lake.client.create_branch("dev", "main").await.unwrap();
    lake.report(&[inventory(2, HOST, "e2", of_jo), inventory(3, "pc-of-al", "e3", of_al)]).await;
    promote(lake, compactor).await;
    compact(lake, compactor).await;
}

/// Packs what it can: the files before stay in the history.
async fn compact(lake: &Lake, compactor: &Compactor) {
    let mut maintenance = compactor.maintenance.clone();
    let mut config = CompactorConfig::clone(&maintenance.config);
    config.maintenance.min_small_files = 2;
    maintenance.config = Arc::new(config);
    maintenance.visit(&lake.client, &mut MaintenancePlace::default(), &CancellationToken::new()).await;
    let bronze = lake.table("main", "bronze.inventory").await.unwrap();
    assert_eq!(bronze.current_snapshot().unwrap().operation, "replace");
}

async fn promote(lake: &Lake, compactor: &Compactor) {
    compactor.promotion.visit(&lake.client, &mut TenantPlace::default(), &CancellationToken::new()).await;
    let status = &lake.board.all()[&(PROMOTION.to_owned(), "acme".to_owned())];
    assert_eq!(status.state, StageState::Running, "{status:?}");
}

/// Carries out what is open, as the service does.
async fn visit(lake: &Lake, compactor: &Compactor) {
    let mut jobs = lake.catalog.erasure_jobs().await.unwrap();
    jobs.retain(|job| job.erasure.state != ErasureState::Done);
    compactor
        .erasures
        .visit(&lake.client, jobs, &mut ErasurePlace::default(), &CancellationToken::new())
        .await;
}

async fn erase(lake: &Lake, compactor: &Compactor, request: &ErasureRequest) -> Erasure {
    let asked = lake.client.erase(request).await.unwrap();
    visit(lake, compactor).await;
    lake.client.erasure(&asked.id).await.unwrap()
}

/// Whether a value of Avro holds a text, in bytes such as bounds of columns, too.
fn holds(value: &Avro, text: &str) -> bool {
    let within = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    match value {
        Avro::Bytes(bytes) | Avro::Fixed(_, bytes) => within(bytes),
        Avro::String(string) => string.contains(text),
        Avro::Union(_, value) => holds(value, text),
        Avro::Array(values) => values.iter().any(|value| holds(value, text)),
        Avro::Map(values) => values.iter().any(|(key, value)| key.contains(text) || holds(value, text)),
        Avro::Record(fields) => fields.iter().any(|(_, value)| holds(value, text)),
        _ => false,
    }
}

/// Files of the tenant that hold a text, as it is or in Parquet or Avro.
async fn mentions(lake: &Lake, text: &str) -> Vec<String> {
    let root = lake.client.tenant().await.unwrap().location;
    let mut found = Vec::new();
    for (location, _) in lake.file_io.list(&root).await.unwrap() {
        let bytes = lake.file_io.read(&location).await.unwrap();
        let plain = bytes.windows(text.len()).any(|window| window == text.as_bytes());
        let decoded = location.ends_with(".parquet").then(|| {
            let batches = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap().build().unwrap();
            let batches = batches.collect::<Result<Vec<_>, _>>().unwrap();
            pretty_format_batches(&batches).unwrap().to_string()
        });
        let in_avro = location.ends_with(".avro")
            && Reader::new(&bytes[..]).unwrap().any(|record| holds(&record.unwrap(), text));
        if plain || in_avro || decoded.is_some_and(|decoded| decoded.contains(text)) {
            found.push(location);
        }
    }
    found
}

/// How many rows of a table there are of each owner.
async fn owners(lake: &Lake, reference: &str, table: &str) -> String {
    lake.rows(reference, table, "SELECT host_id, count(*) AS n FROM t GROUP BY 1 ORDER BY 1").await
}

#[tokio::test]
async fn nothing_of_a_computer_is_left_on_any_reference_and_all_else_stays() {
    let lake = Lake::start().await;
    let compactor = lake.compactor("one");
    history(&lake, &compactor).await;
    let tagged = lake.client.reference("v1").await.unwrap();
    let commits = lake.client.log("main", 100, false).await.unwrap().len();
    assert!(owners(&lake, "v1", "silver.device").await.contains(HOST));
    let named = mentions(&lake, HOST).await;
    assert!(
        [".parquet", ".avro"].iter().all(|end| named.iter().any(|file| file.ends_with(end))),
        "{named:?}"
    );
    let erasure = erase(&lake, &compactor, &request("host_id", HOST)).await;

    assert_eq!(erasure.state, ErasureState::Done, "{}", erasure.message);
    assert_eq!(mentions(&lake, HOST).await, [""; 0]);
    for (reference, rows) in [("main", 2), ("dev", 1), ("v1", 1)] {
        let left = owners(&lake, reference, "bronze.inventory").await;
        assert!(
            left.contains(&format!("| pc-of-al | {rows} |")) && !left.contains(HOST),
            "{reference}: {left}"
        );
        let left = owners(&lake, reference, "silver.device").await;
        assert!(left.contains("| pc-of-al | 1 |") && !left.contains(HOST), "{reference}: {left}");
    }
    assert_eq!(lake.client.reference("v1").await.unwrap(), tagged, "a tag stays where it is");
    let log = lake.client.log("main", 100, false).await.unwrap();
    let fences = log.len() - commits;
    assert_eq!(fences, erasure.tables.len(), "each table was fenced once on main");
    // What is done for the others goes on, from increments.
    lake.report(&[inventory(4, "pc-of-al", "e4", json!({}))]).await;
    promote(&lake, &compactor).await;
    assert!(owners(&lake, "main", "silver.inventory").await.contains("| pc-of-al | 3 |"));
    let job = lake.catalog.erasure_jobs().await.unwrap().pop().unwrap();
    assert!(job.value.is_none() && job.events.is_empty() && !json!(job).to_string().contains(HOST));
}

#[tokio::test]
async fn a_receipt_is_genuine_names_nobody_and_can_not_be_changed() {
    let lake = Lake::start().await;
    let compactor = lake.compactor("one");
    history(&lake, &compactor).await;
    let erasure = erase(&lake, &compactor, &request("host_id", HOST)).await;
    let (receipt, keys) = (erasure.receipt.clone().unwrap(), lake.catalog.keys().await.unwrap());
    let told: Erasure = verify_document(RECEIPT_TYPE, &receipt, &keys).unwrap();
    assert_eq!(told, Erasure { receipt: None, ..erasure.clone() });
    assert!(told.counts.rows > 0 && !told.removed.is_empty() && !json!(told).to_string().contains(HOST));
    for file in &told.removed {
        assert!(!lake.file_io.exists(file).await.unwrap(), "{file}");
    }
    let mut forged = receipt.clone().into_bytes();
    let middle = receipt.find('.').unwrap() + 20;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    assert!(verify_document::<Erasure>(RECEIPT_TYPE, &forged, &keys).is_err());
}

#[tokio::test]
async fn a_person_goes_with_what_was_made_of_the_records_and_the_computer_stays() {
    let lake = Lake::start().await;
    let compactor = lake.compactor("one");
    history(&lake, &compactor).await;
    lake.report(&[inventory(9, HOST, "e9", json!({"owner_email": "successor@example.org"}))]).await;
    let erasure = erase(&lake, &compactor, &request("owner_email", EMAIL)).await;
    assert_eq!(erasure.state, ErasureState::Done, "{}", erasure.message);
    assert_eq!(mentions(&lake, EMAIL).await, [""; 0]);
    assert!(owners(&lake, "main", "bronze.inventory").await.contains(&format!("| {HOST} | 1 |")));
    let job = lake.catalog.erasure_jobs().await.unwrap().pop().unwrap();
    assert_eq!(job.listed.keys().collect::<Vec<_>>(), ["owner_email"]);

    let all = ErasureRequest { with_hosts: true, ..request("owner_email", "successor@example.org") };
    let erasure = erase(&lake, &compactor, &all).await;
    assert_eq!(erasure.state, ErasureState::Done, "{}", erasure.message);
    assert_eq!(mentions(&lake, HOST).await, [""; 0], "with the computers");
    let lists = firn_catalog_client::ErasureList::of(&lake.catalog.erasure_jobs().await.unwrap());
    assert!(lists["acme"].has("host_id", HOST), "ingest takes them no more");
}

#[tokio::test]
async fn a_dry_run_tells_and_changes_nothing() {
    let lake = Lake::start().await;
    let compactor = lake.compactor("one");
    history(&lake, &compactor).await;
    let before = lake.client.reference("main").await.unwrap();
    let trial = ErasureRequest { dry_run: true, ..request("host_id", HOST) };
    let erasure = erase(&lake, &compactor, &trial).await;
    assert_eq!((erasure.state, erasure.receipt.is_none()), (ErasureState::Done, true));
    assert!(erasure.counts.rows >= 2 && !erasure.removed.is_empty() && !erasure.tables.is_empty());
    assert_eq!(lake.client.reference("main").await.unwrap(), before);
    assert!(owners(&lake, "main", "bronze.inventory").await.contains(HOST));
    let lists = firn_catalog_client::ErasureList::of(&lake.catalog.erasure_jobs().await.unwrap());
    assert!(lists.is_empty(), "nobody is listed");
}

#[tokio::test]
async fn legal_holds_win_and_what_waits_for_them_goes_on() {
    let lake = Lake::start().await;
    let compactor = lake.compactor("one");
    history(&lake, &compactor).await;
    let hold = |subject, table: Option<&str>, reference: Option<&str>| HoldRequest {
        subject,
        table: table.map(str::to_owned),
        reference: reference.map(str::to_owned),
        reason: "case 7".to_owned(),
        until: None,
    };
    // The subject itself: refused at once, by name.
    let on_host = lake.client.place_hold(&hold(Some(subject("host_id", HOST)), None, None)).await.unwrap();
    let refused = lake.client.erase(&request("host_id", HOST)).await.unwrap_err().to_string();
    assert!(refused.contains(&on_host.id) && refused.contains("case 7"), "{refused}");
    // Rows that a held subject shares with another: found in the files.
    let waiting = erase(&lake, &compactor, &request("owner_email", EMAIL)).await;
    assert_eq!(waiting.state, ErasureState::Held);
    assert!(waiting.message.contains(&on_host.id), "{}", waiting.message);
    assert_ne!(mentions(&lake, EMAIL).await, [""; 0]);
    let collected = lake.client.start_gc(&GcRequest::default()).await.unwrap_err().to_string();
    assert!(collected.contains("garbage collection"), "{collected}");
    lake.client.release_hold(&on_host.id).await.unwrap();

    for held in [hold(None, Some("silver.device"), None), hold(None, None, Some("v1"))] {
        let placed = lake.client.place_hold(&held).await.unwrap();
        visit(&lake, &compactor).await;
        let waiting = lake.client.erasure(&waiting.id).await.unwrap();
        assert_eq!(waiting.state, ErasureState::Held, "{held:?}");
        if held.reference.is_some() {
            let refused = lake.client.delete_reference("v1").await.unwrap_err().to_string();
            assert!(refused.contains(&placed.id), "{refused}");
        }
        lake.client.release_hold(&placed.id).await.unwrap();
    }
    visit(&lake, &compactor).await;
    let done = lake.client.erasure(&waiting.id).await.unwrap();
    assert_eq!(done.state, ErasureState::Done, "{}", done.message);
    assert_eq!(mentions(&lake, EMAIL).await, [""; 0]);
    let holds = lake.client.holds().await.unwrap();
    assert!(holds.len() == 3 && holds.iter().all(|hold| !hold.active && hold.released_by.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_anywhere_it_goes_on_and_ends() {
    let lake = Lake::start().await;
    let compactor = lake.compactor("one");
    history(&lake, &compactor).await;
    let asked = lake.client.erase(&request("host_id", HOST)).await.unwrap();
    let mut kills = 0;
    for polls in growing() {
        // A process that starts anew remembers nothing.
        let compactor = lake.compactor("one");
        let ended = kill_after(polls, visit(&lake, &compactor)).await;
        for reference in ["main", "dev", "v1"] {
            let left = owners(&lake, reference, "bronze.inventory").await;
            assert!(left.contains("pc-of-al"), "after {polls} polls {reference} can't be read: {left}");
        }
        if ended && lake.client.erasure(&asked.id).await.unwrap().state == ErasureState::Done {
            break;
        }
        kills += 1;
    }
    assert!(kills > 5, "it was killed {kills} times only");
    assert_eq!(mentions(&lake, HOST).await, [""; 0]);
    let done = lake.client.erasure(&asked.id).await.unwrap();
    assert!(done.receipt.is_some() && done.counts.files_removed > 0);
    let left = owners(&lake, "main", "silver.device").await;
    assert!(left.contains("| pc-of-al | 1 |") && !left.contains(HOST), "{left}");
}

#[tokio::test]
async fn who_began_on_replaced_files_begins_anew() {
    use firn_table::{DataFileWriter, Operation, WriteOptions};
    let lake = Lake::start().await;
    let compactor = lake.compactor("one");
    history(&lake, &compactor).await;
    let before = lake.table("main", "bronze.inventory").await.unwrap();
    erase(&lake, &compactor, &request("host_id", HOST)).await;
    // A writer that computed from what it loaded before is refused, and has to load it again.
    let files = DataFileWriter::new(&before, WriteOptions::default()).unwrap().close().await.unwrap();
    let replace = Operation::Overwrite {
        remove: None,
        add: files,
        base_snapshot_id: Some(before.current_snapshot().map(|snapshot| snapshot.id)),
    };
    let transaction = firn_table::Transaction {
        reference: "main".to_owned(),
        operations: vec![firn_table::TableOperation {
            table: before.ident().clone(),
            operation: replace,
            summary: [].into(),
            assert_properties: [].into(),
            set_properties: [].into(),
        }],
        max_attempts: 3,
    };
    let refused = transaction.commit(&lake.client, &lake.file_io).await.unwrap_err();
    assert_eq!(refused.kind, firn_table::TableErrorKind::Conflict, "{refused}");
    lake.report(&[inventory(5, "pc-of-al", "e5", json!({}))]).await;
    assert!(owners(&lake, "main", "bronze.inventory").await.contains("| pc-of-al | 3 |"));
}
