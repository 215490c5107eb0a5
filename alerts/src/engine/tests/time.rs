//! Windows, silence and timers.

use super::*;

fn load(host: &str, second: i64, cpu: i64) -> Record {
    record(host, second, &json!({ "cpu_usage": cpu }))
}

fn load_policy() -> Policy {
    let window = "[window]\nsize_s=10\nin_a_row=2\nlateness_s=5\n";
    let toml = format!("id='cpu'\ntitle='T'\nseverity='low'\nrule='avg(cpu_usage) <= 9000'\n{window}");
    parse(&toml, "test.toml").unwrap()
}

pub(super) fn silence_policy(after_s: u64) -> Policy {
    parse(&format!("id='mute'\ntitle='T'\nseverity='low'\nabsence_s={after_s}\n"), "test.toml").unwrap()
}

#[test]
fn windows_in_a_row_open_a_finding_and_a_good_one_ends_it() {
    let mut lab = Lab::new(&[load_policy()]);
    let records = [(1, 9_500), (12, 9_200), (14, 9_100), (21, 100), (40, 100)];
    let told_now = lab.records(records.iter().map(|(at, cpu)| load("a", *at, *cpu)).collect());
    assert_eq!(told(&told_now), [("a", Compliant, Open, 20), ("a", Open, Resolved, 30)]);
    let opened = &told_now[0];
    assert_eq!(
        (opened.cause, opened.offset),
        (Cause::Window, 21),
        "the last record before the window closed"
    );
    assert_eq!(
        opened.evidence,
        json!({ "window_start": "1970-01-01T00:00:10Z", "window_end": "1970-01-01T00:00:20Z", "avg(cpu_usage)": 9150.0,
            "windows_in_breach": 2 })
    );
}

#[test]
fn idle_hosts_windows_close_by_the_partitions_time_after_the_lateness() {
    let mut lab = Lab::new(&[load_policy()]);
    assert!(lab.records(vec![load("a", 1, 9_500), load("a", 12, 9_500)]).is_empty());
    assert!(lab.clock(24).is_empty(), "samples may still come");
    // Received within the lateness though its window is over: the average of the second window falls to 5,000.
    let mut behind = load("a", 24, 500);
    behind.value = Some(
        json!({ "host_id": "a", "cpu_usage": 500, "collected_at": "1970-01-01T00:00:00Z", "sent_at": "1970-01-01T00:00:08Z" })
            .to_string()
            .into_bytes()
            .into(),
    );
    assert!(lab.records(vec![behind]).is_empty());
    assert!(lab.clock(25).is_empty());
    lab.records(vec![load("b", 31, 9_500), load("b", 41, 9_500)]);
    assert_eq!(told(&lab.clock(55)), [("b", Compliant, Open, 50)]);
}

#[test]
fn late_samples_are_counted_and_change_nothing() {
    let mut lab = Lab::new(&[load_policy()]);
    lab.records(vec![load("a", 1, 9_500)]);
    let mut late = load("a", 30, 100);
    late.value = Some(
        json!({ "host_id": "a", "cpu_usage": 100, "collected_at": "1970-01-01T00:00:00Z", "sent_at": "1970-01-01T00:00:28Z" })
            .to_string()
            .into_bytes()
            .into(),
    );
    let records = BTreeMap::from([(0, vec![late])]);
    let batch = Batch { records, rules: lab.rules.clone(), ..Batch::default() };
    assert_eq!(lab.engine.process(&batch).counts["acme"].late, 1);
}

#[test]
fn windows_survive_a_restart_and_a_new_revision_starts_anew() {
    let mut lab = Lab::new(&[load_policy()]);
    lab.records(vec![load("a", 1, 9_500), load("a", 12, 9_500)]);
    let saved = lab.engine.host(0, &key("a")).unwrap();
    let restored = || HashMap::from([(Arc::new(key("a")), Packed::read(saved.bytes()).unwrap())]);
    let mut again = Lab::new(&[load_policy()]);
    again.engine.assign(0, restored());
    again.clock(13);
    assert_eq!(told(&again.clock(25)), [("a", Compliant, Open, 20)]);
    let mut changed = Lab::new(&[Policy { rule: "max(cpu_usage) <= 9000".to_owned(), ..load_policy() }]);
    changed.engine.assign(0, restored());
    changed.clock(13);
    assert!(changed.clock(60).is_empty());
}

#[test]
fn silent_host_is_told_after_its_time_also_over_a_restart_and_until_it_reports() {
    let mut lab = Lab::new(&[silence_policy(100)]);
    lab.records(vec![encrypted("a", 1, true), encrypted("b", 50, true)]);
    assert!(lab.clock(100).is_empty());
    let saved = lab.engine.host(0, &key("a")).unwrap();
    let mut again = Lab::new(&[silence_policy(100)]);
    again.engine.assign(0, HashMap::from([(Arc::new(key("a")), Packed::read(saved.bytes()).unwrap())]));
    again.clock(5);
    let silent = again.clock(500);
    assert_eq!(told(&silent), [("a", Compliant, Open, 101)]);
    assert_eq!(silent[0].evidence, json!({ "last_received_at": "1970-01-01T00:00:01Z" }));
    assert!(again.clock(600).is_empty());
    assert_eq!(told(&again.records(vec![encrypted("a", 601, true)])), [("a", Open, Resolved, 601)]);
    // Without a timer in between, the next record tells both.
    assert_eq!(
        told(&lab.records(vec![encrypted("a", 300, true)])),
        [("a", Compliant, Open, 101), ("a", Open, Resolved, 300), ("b", Compliant, Open, 150)]
    );
}

#[test]
fn older_record_that_is_dropped_shows_that_the_host_is_alive() {
    let mut lab = Lab::new(&[silence_policy(100)]);
    lab.records(vec![encrypted("a", 1, true)]);
    let mut stale = encrypted("a", 90, true);
    stale.value = Some(
        json!({ "host_id": "a", "collected_at": "1970-01-01T00:00:00Z", "sent_at": "1970-01-01T00:01:30Z" })
            .to_string()
            .into_bytes()
            .into(),
    );
    assert!(lab.records(vec![stale]).is_empty());
    assert!(lab.clock(150).is_empty());
    assert_eq!(told(&lab.clock(190)), [("a", Compliant, Open, 190)]);
}

#[test]
fn timers_survive_a_restart() {
    let mut lab = Lab::new(&[policy("enc", "disk_encrypted", 10)]);
    lab.records(vec![encrypted("a", 1, false)]);
    let saved = lab.engine.host(0, &key("a")).unwrap();
    let mut again = Lab::new(&[policy("enc", "disk_encrypted", 10)]);
    again.engine.assign(0, HashMap::from([(Arc::new(key("a")), Packed::read(saved.bytes()).unwrap())]));
    again.clock(5);
    assert_eq!(told(&again.clock(11)), [("a", Pending, Open, 11)]);
}

/// A host's silence is waited for by one timer, which isn't moved by each of its records.
#[test]
fn host_that_reports_again_is_looked_at_once_in_vain_and_then_at_its_time() {
    let mut lab = Lab::new(&[silence_policy(100)]);
    lab.records(vec![encrypted("a", 1, true)]);
    // From here on the tenant's rules count as adopted: no later step sets its hosts' timers anew.
    lab.clock(2);
    lab.records(vec![encrypted("a", 60, true)]);
    let clock = |second: i64| Batch {
        clock_us: BTreeMap::from([(0, second * SECOND)]),
        rules: lab.rules.clone(),
        ..Batch::default()
    };
    assert!(!lab.engine.has_work(&clock(100)));
    let vain = clock(101);
    assert!(lab.engine.has_work(&vain), "as its first record had it");
    let step = lab.engine.process(&vain);
    assert!(step.partitions[&0].changed.is_empty(), "nothing is written for it");
    assert!(step.partitions[&0].transitions.is_empty());
    lab.engine.accept(&step, &vain.rules);
    assert!(!lab.engine.has_work(&clock(159)), "it was put off");
    assert!(lab.engine.has_work(&clock(160)));
    assert_eq!(told(&lab.clock(200)), [("a", Compliant, Open, 160)]);
    assert!(!lab.engine.has_work(&Batch { rules: lab.rules.clone(), ..Batch::default() }));
}
