#![allow(clippy::unwrap_used)]

mod time;

use firn_inventory::tables::{RECEIVED_AT_HEADER, TENANT_HEADER};
use firn_policy::{Cause, FindingStatus, Policy, parse};
use serde_json::{Value, json};

use super::*;

const SECOND: i64 = 1_000_000;

fn policy(id: &str, rule: &str, grace_s: u64) -> Policy {
    let toml = format!(
        "id='{id}'\ntitle='Title of {id}'\nseverity='high'\ngrace_s={grace_s}\nrule=\"\"\"{rule}\"\"\""
    );
    parse(&toml, "test.toml").unwrap()
}

fn rules(policies: &[Policy]) -> HashMap<String, Arc<TenantRules>> {
    let before = TenantRules::default();
    let rules =
        TenantRules::new(policies.iter().cloned().map(Ok).collect(), "commit-1".to_owned(), Some(&before));
    HashMap::from([("acme".to_owned(), Arc::new(rules))])
}

fn key(host: &str) -> HostKey {
    HostKey { tenant: "acme".to_owned(), host_id: host.to_owned() }
}

/// A record received at a second, which is also its offset.
fn record(host: &str, second: i64, fields: &Value) -> Record {
    let mut inventory = json!({ "host_id": host, "hostname": format!("name of {host}") });
    inventory.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    Record {
        partition: 0,
        offset: second,
        timestamp_ms: second * 1_000,
        key: Some(key(host).to_bytes()),
        value: Some(inventory.to_string().into_bytes().into()),
        headers: vec![
            (TENANT_HEADER.to_owned(), "acme".into()),
            (RECEIVED_AT_HEADER.to_owned(), (second * SECOND).to_string().into()),
        ],
    }
}

fn encrypted(host: &str, second: i64, on: bool) -> Record {
    record(host, second, &json!({ "disk_encrypted": on }))
}

struct Lab {
    engine: Engine,
    rules: HashMap<String, Arc<TenantRules>>,
}

impl Lab {
    fn new(policies: &[Policy]) -> Self {
        let mut engine = Engine::default();
        engine.assign(0, HashMap::new());
        Self { engine, rules: rules(policies) }
    }

    fn step(&mut self, mut batch: Batch) -> Vec<TransitionRecord> {
        batch.rules = self.rules.clone();
        let mut step = self.engine.process(&batch);
        self.engine.accept(&step, &batch.rules);
        step.partitions.remove(&0).unwrap().transitions
    }

    fn records(&mut self, records: Vec<Record>) -> Vec<TransitionRecord> {
        self.step(Batch { records: BTreeMap::from([(0, records)]), ..Batch::default() })
    }

    fn command(&mut self, host: &str, command: Command, at: i64) -> Vec<TransitionRecord> {
        let value = CommandRecord {
            rule_id: "enc".to_owned(),
            command,
            by: "alice".to_owned(),
            note: String::new(),
            at_us: at * SECOND,
        };
        let record =
            Record { value: Some(serde_json::to_vec(&value).unwrap().into()), ..encrypted(host, at, true) };
        self.step(Batch { commands: BTreeMap::from([(0, vec![record])]), ..Batch::default() })
    }

    fn clock(&mut self, second: i64) -> Vec<TransitionRecord> {
        self.step(Batch { clock_us: BTreeMap::from([(0, second * SECOND)]), ..Batch::default() })
    }
}

fn told(transitions: &[TransitionRecord]) -> Vec<(&str, FindingStatus, FindingStatus, i64)> {
    transitions.iter().map(|t| (t.host_id.as_str(), t.from, t.to, t.at_us / SECOND)).collect()
}

use FindingStatus::{Acknowledged, Compliant, Open, Pending, Resolved, Snoozed};

#[test]
fn breach_opens_and_resolves_with_its_whole_story() {
    let mut lab = Lab::new(&[policy("enc", "disk_encrypted", 0)]);
    let transitions =
        lab.records(vec![encrypted("a", 1, true), encrypted("a", 2, false), encrypted("b", 3, true)]);
    assert_eq!(told(&transitions), [("a", Compliant, Open, 2)]);
    let opened = &transitions[0];
    assert_eq!(opened.version, (1 << 40) + 1);
    assert_eq!((opened.partition, opened.offset, opened.cause), (0, 2, Cause::Record));
    assert_eq!(opened.evidence, json!({ "disk_encrypted": false }));
    assert_eq!((opened.title.as_str(), opened.catalog_commit.as_str()), ("Title of enc", "commit-1"));
    assert_eq!(opened.hostname.as_deref(), Some("name of a"));
    assert_eq!(opened.revision.len(), 16);
    let resolved = lab.records(vec![encrypted("a", 4, true)]);
    assert_eq!(told(&resolved), [("a", Open, Resolved, 4)]);
    assert_eq!(resolved[0].evidence, json!({ "disk_encrypted": true }));
}

#[test]
fn erased_hosts_are_forgotten_and_nobody_is_told() {
    use firn_catalog_client::{Erasure, ErasureJob, ErasureList, subject_hash};
    let mut lab = Lab::new(&[policy("enc", "disk_encrypted", 0)]);
    lab.records(vec![encrypted("a", 1, false), encrypted("b", 2, false)]);
    let listed = BTreeMap::from([("host_id".to_owned(), [subject_hash("k", "host_id", "a")].into())]);
    let erasure = Erasure { tenant: "acme".to_owned(), ..Erasure::default() };
    let job = ErasureJob { erasure, listed, key: "k".to_owned(), ..ErasureJob::default() };
    let erased = Arc::new(ErasureList::of(&[job]));
    let records = BTreeMap::from([(0, vec![encrypted("a", 3, true), encrypted("b", 4, true)])]);
    let mut batch = Batch {
        records,
        rules: lab.rules.clone(),
        erased: erased.clone(),
        sweeps_erased: true,
        ..Batch::default()
    };
    batch.leave_out_erased();
    assert_eq!(batch.records[&0].len(), 1, "its records are passed over");
    let step = lab.engine.process(&batch);
    assert_eq!(step.partitions[&0].removed, BTreeSet::from([Arc::new(key("a"))]));
    assert_eq!(told(&step.partitions[&0].transitions), [("b", Open, Resolved, 4)]);
    lab.engine.accept(&step, &batch.rules);
    assert!(lab.engine.host(0, &key("a")).is_none() && lab.engine.host(0, &key("b")).is_some());
    // What was read before its list was known is not kept either.
    let records = BTreeMap::from([(0, vec![encrypted("a", 5, false)])]);
    let late = Batch { records, rules: lab.rules.clone(), erased, ..Batch::default() };
    let step = lab.engine.process(&late);
    assert!(step.partitions[&0].changed.is_empty() && step.partitions[&0].transitions.is_empty());
}

#[test]
fn process_changes_nothing_until_it_is_accepted() {
    let lab = Lab::new(&[policy("enc", "disk_encrypted", 0)]);
    let records = BTreeMap::from([(0, vec![encrypted("a", 1, false)])]);
    let batch = Batch { records, rules: lab.rules.clone(), ..Batch::default() };
    let (first, second) = (lab.engine.process(&batch), lab.engine.process(&batch));
    assert_eq!(first.partitions[&0].transitions, second.partitions[&0].transitions);
    assert_eq!(lab.engine.host(0, &key("a")), None);
}

#[test]
fn repeated_and_older_records_tell_nothing() {
    let mut lab = Lab::new(&[policy("enc", "disk_encrypted", 0)]);
    assert_eq!(lab.records(vec![encrypted("a", 5, false)]).len(), 1);
    assert!(lab.records(vec![encrypted("a", 5, false), encrypted("a", 4, true)]).is_empty());
}

#[test]
fn grace_ends_by_the_records_of_others_and_by_the_clock() {
    let mut lab = Lab::new(&[policy("enc", "disk_encrypted", 10)]);
    assert!(lab.records(vec![encrypted("a", 1, false), encrypted("b", 2, false)]).is_empty());
    assert!(lab.records(vec![encrypted("c", 10, true)]).is_empty());
    let opened = lab.records(vec![encrypted("c", 11, true)]);
    assert_eq!(told(&opened), [("a", Pending, Open, 11)]);
    assert_eq!((opened[0].cause, &opened[0].evidence), (Cause::Time, &json!({ "disk_encrypted": false })));
    assert_eq!(told(&lab.clock(100)), [("b", Pending, Open, 12)]);
    assert!(lab.clock(200).is_empty());
}

#[test]
fn grace_that_ended_before_a_record_is_told_before_it() {
    let mut lab = Lab::new(&[policy("enc", "disk_encrypted", 10)]);
    lab.records(vec![encrypted("a", 1, false)]);
    let transitions = lab.records(vec![encrypted("a", 30, true)]);
    assert_eq!(told(&transitions), [("a", Pending, Open, 11), ("a", Open, Resolved, 30)]);
}

#[test]
fn retired_host_is_over_until_it_reports_again_and_its_versions_go_on() {
    let mut lab = Lab::new(&[policy("enc", "disk_encrypted", 0), time::silence_policy(100)]);
    lab.records(vec![encrypted("a", 1, false)]);
    let retired = lab.command("a", Command::Retire, 2);
    assert_eq!(told(&retired), [("a", Open, Resolved, 2)]);
    assert_eq!((retired[0].by.as_deref(), retired[0].reason.as_str()), (Some("alice"), "host retired"));
    assert!(lab.clock(1_000).is_empty(), "nobody waits for it");
    assert!(lab.command("a", Command::Retire, 3).is_empty());
    let back = lab.records(vec![encrypted("a", 2_000, false)]);
    assert_eq!(told(&back), [("a", Resolved, Open, 2_000)]);
    assert_eq!(back[0].version, (1 << 40) + 3);
}

#[test]
fn host_that_is_silent_for_long_is_retired_by_itself() {
    let mut lab = Lab::new(&[policy("enc", "disk_encrypted", 0), time::silence_policy(100)]);
    lab.engine = Engine::new(Some(500 * SECOND));
    lab.engine.assign(0, HashMap::new());
    lab.records(vec![encrypted("a", 1, false)]);
    let silent = lab.clock(2_000);
    assert_eq!(
        told(&silent),
        [("a", Compliant, Open, 101), ("a", Open, Resolved, 501), ("a", Open, Resolved, 501)]
    );
    assert_eq!(silent[1].cause, Cause::Retirement);
    assert!(lab.clock(3_000).is_empty());
}

#[test]
fn commands_are_told_with_who_gave_them() {
    let mut lab = Lab::new(&[policy("enc", "disk_encrypted", 0)]);
    lab.records(vec![encrypted("a", 1, false)]);
    let taken = lab.command("a", Command::Acknowledge, 2);
    assert_eq!(told(&taken), [("a", Open, Acknowledged, 2)]);
    assert_eq!((taken[0].by.as_deref(), taken[0].cause), (Some("alice"), Cause::Command));
    assert!(lab.command("nobody", Command::Acknowledge, 3).is_empty());
    let quiet = lab.command("a", Command::Snooze { until_us: 60 * SECOND }, 4);
    assert_eq!(told(&quiet), [("a", Acknowledged, Snoozed, 4)]);
    assert_eq!(told(&lab.clock(61)), [("a", Snoozed, Open, 60)]);
}

#[test]
fn withdrawn_rule_resolves_its_findings_and_keeps_its_words() {
    let mut lab = Lab::new(&[policy("enc", "disk_encrypted", 0), policy("fw", "firewall_enabled", 0)]);
    lab.records(vec![encrypted("a", 1, false)]);
    let before = Arc::clone(&lab.rules["acme"]);
    let fewer = vec![Ok(policy("fw", "firewall_enabled", 0))];
    lab.rules
        .insert("acme".to_owned(), Arc::new(TenantRules::new(fewer, "commit-2".to_owned(), Some(&before))));
    let ended = lab.step(Batch::default());
    assert_eq!(told(&ended), [("a", Open, Resolved, 1)]);
    assert_eq!((ended[0].cause, ended[0].title.as_str()), (Cause::Rules, "Title of enc"));
    assert_eq!(ended[0].catalog_commit, "commit-2");
    assert!(lab.step(Batch::default()).is_empty());
}

#[test]
fn new_revision_judges_from_the_next_record_on() {
    let mut lab = Lab::new(&[policy("enc", "disk_encrypted", 0)]);
    lab.records(vec![encrypted("a", 1, true)]);
    lab.rules = rules(&[policy("enc", "NOT disk_encrypted", 0)]);
    assert!(lab.step(Batch::default()).is_empty());
    assert_eq!(told(&lab.records(vec![encrypted("a", 2, true)])), [("a", Compliant, Open, 2)]);
}

/// A row of `silver.device` as the record with the same arguments made it.
fn device(host: &str, second: i64, encrypted: Option<bool>) -> Batch {
    let mut builder = firn_inventory::BronzeBuilder::default();
    let inventory = json!({ "host_id": host, "disk_encrypted": encrypted }).to_string();
    let position = firn_inventory::LogPosition {
        topic_id: "t".to_owned(),
        partition: 0,
        offset: second,
        received_at_us: second * SECOND,
        source: "native".to_owned(),
    };
    builder.push(&firn_inventory::decode(inventory.as_bytes()).unwrap(), &position);
    let devices = Devices { tenant: "acme".to_owned(), rows: builder.finish() };
    Batch { devices: Some(devices), ..Batch::default() }
}

#[test]
fn changed_rule_judges_known_hosts_again_by_the_record_they_were_judged_by() {
    let mut lab = Lab::new(&[policy("enc", "disk_encrypted", 0)]);
    lab.records(vec![encrypted("a", 1, true), encrypted("b", 2, false), encrypted("c", 3, true)]);
    assert!(lab.step(device("a", 1, Some(true))).is_empty(), "the same rule says the same");
    lab.rules = rules(&[policy("enc", "NOT disk_encrypted", 0)]);
    let opened = lab.step(device("a", 1, Some(true)));
    assert_eq!(told(&opened), [("a", Compliant, Open, 3)], "at the partition's time");
    assert_eq!((opened[0].cause, opened[0].offset), (Cause::Rules, 1));
    assert_eq!(opened[0].evidence, json!({ "disk_encrypted": true }));
    assert_eq!(told(&lab.step(device("b", 2, Some(false)))), [("b", Open, Resolved, 3)]);
    assert!(lab.step(device("c", 2, Some(true))).is_empty(), "a newer record was judged");
    assert!(lab.step(device("a", 1, Some(true))).is_empty(), "a review may be repeated");
    lab.command("b", Command::Retire, 9);
    assert!(lab.step(device("b", 2, Some(true))).is_empty(), "it is retired");
}

#[test]
fn records_that_ingest_quarantines_are_skipped_and_counted() {
    let lab = Lab::new(&[policy("enc", "disk_encrypted", 0)]);
    let broken = vec![
        Record { key: None, ..encrypted("a", 1, false) },
        Record { value: None, ..encrypted("a", 2, false) },
        Record { value: Some("{".into()), ..encrypted("a", 3, false) },
        Record { key: Some(key("other").to_bytes()), ..encrypted("a", 4, false) },
        Record { headers: vec![(TENANT_HEADER.to_owned(), "evil".into())], ..encrypted("a", 5, false) },
        Record { key: Some("unknown/a".into()), headers: Vec::new(), ..encrypted("a", 6, false) },
    ];
    let batch =
        Batch { records: BTreeMap::from([(0, broken)]), rules: lab.rules.clone(), ..Batch::default() };
    let step = lab.engine.process(&batch);
    assert_eq!((step.unreadable, step.counts.len()), (6, 0));
}

#[test]
fn rule_that_fails_at_run_time_is_no_result_and_is_reported() {
    let mut lab = Lab::new(&[policy("div", "disk_free_bytes / disk_total_bytes > 0", 0)]);
    let records = vec![record("a", 1, &json!({ "disk_free_bytes": 1, "disk_total_bytes": 0 }))];
    let batch = Batch {
        records: BTreeMap::from([(0, records.clone())]),
        rules: lab.rules.clone(),
        ..Batch::default()
    };
    let errors = lab.engine.process(&batch).rule_errors;
    assert!(errors[&("acme".to_owned(), "div".to_owned())].to_lowercase().contains("zero"), "{errors:?}");
    assert!(lab.records(records).is_empty());
}
