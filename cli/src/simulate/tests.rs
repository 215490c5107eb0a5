#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use super::{
    ledger::{Ledger, Outcome},
    malformed::Destination,
    script::Line,
    *,
};

fn lines(seed: u64, devices: u32, count: u64, malformed: f64) -> Vec<Line> {
    let mut script = Script::new(seed, devices, malformed);
    let start: DateTime<Utc> = "2026-11-22T10:00:00Z".parse().unwrap();
    let pace = Pace { rate: 10.0, batch: 10, limit: Some(count), start };
    (0..count).map(|number| script.next(number, at(&pace, number))).collect()
}

#[test]
fn same_seed_and_start_give_the_same_bytes() {
    let bytes = |seed| lines(seed, 20, 300, 0.2).into_iter().map(|line| line.bytes).collect::<Vec<_>>();
    assert_eq!(bytes(7), bytes(7));
    assert_ne!(bytes(7), bytes(8));
}

#[test]
fn well_formed_records_are_unique_and_pass_the_real_decoder() {
    let lines = lines(3, 50, 1000, 0.0);
    let ids: BTreeSet<_> = lines.iter().map(|line| &line.event_id).collect();
    assert_eq!(ids.len(), 1000);
    for line in &lines {
        let decoded = firn_inventory::decode(&line.bytes).unwrap();
        assert_eq!(decoded.extra, None);
        assert_eq!(decoded.inventory.host_id, line.host_id);
        assert_eq!(line.destination(), Destination::Bronze);
    }
}

#[test]
fn fleet_is_believable() {
    let lines = lines(11, 400, 8000, 0.0);
    let fails = |rule: &str| {
        let verdicts = lines.iter().filter_map(|line| line.verdicts.as_ref()?.get(rule).copied().flatten());
        let (mut fails, mut all) = (0, 0);
        verdicts.for_each(|pass| (fails, all) = (fails + u32::from(!pass), all + 1));
        assert!(all > 2000, "{rule} has results");
        f64::from(fails) / f64::from(all)
    };
    let shares: Vec<_> = lines[0].verdicts.iter().flatten().map(|(rule, _)| (*rule, fails(rule))).collect();
    assert_eq!(shares.len(), 11);
    assert!(shares.iter().all(|(_, share)| (0.005..0.6).contains(share)), "shares in breach: {shares:?}");
    let old = Fleet::new(11, 1000).supported().filter(|supported| !supported).count();
    assert!((20..120).contains(&old), "{old} of 1000 are past their end of life");
}

#[test]
fn malformed_share_is_kept() {
    let spoilt = lines(5, 50, 2000, 0.1).iter().filter(|line| line.malformed.is_some()).count();
    assert!((120..280).contains(&spoilt), "{spoilt}");
}

#[test]
fn ledger_tells_every_records_fate() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.jsonl");
    let lines = lines(5, 2, 40, 0.3);
    let mut ledger = Ledger::open(Some(&path)).unwrap();
    let begun = ledger.begin(&lines[..20]);
    let fate = |line: &Line| match line.destination() {
        Destination::Refused => Outcome::Rejected,
        _ => Outcome::Acknowledged,
    };
    let outcomes: Vec<_> = lines[..20].iter().map(fate).collect();
    ledger.record(begun, &lines[..20], &outcomes).unwrap();
    // The second half was on its way when the run was interrupted.
    let _ = ledger.begin(&lines[20..]);
    let summary = ledger.close().unwrap();

    assert_eq!((summary.sent, summary.unknown), (40, 20));
    let acknowledged = outcomes.iter().filter(|outcome| **outcome == Outcome::Acknowledged).count() as u64;
    assert_eq!((summary.acknowledged, summary.bronze + summary.quarantine), (acknowledged, acknowledged));
    assert!(summary.breaches.is_empty(), "nobody knows what the hosts look like now");
    let text = std::fs::read_to_string(&path).unwrap();
    let entries: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(entries.iter().filter(|entry| entry["type"] == "record").count(), 40);
    assert_eq!(entries.last().unwrap()["type"], "summary");
}

#[test]
fn numbered_records_tell_their_number_however_spoilt() {
    for spoilt in [0.0, 1.0] {
        let mut script = Script::numbered(9, 20, spoilt);
        for number in 0..300 {
            let line = script.next(number, DateTime::UNIX_EPOCH);
            assert_eq!((number_of(&line.event_id), number_in(&line.bytes)), (Some(number), Some(number)));
        }
    }
    assert_eq!(number_of("7"), None);
}
