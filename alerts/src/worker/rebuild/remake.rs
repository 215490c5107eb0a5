//! Deciding: whether a state says what ledger and records say, and what it has to say.

use std::collections::{BTreeMap, BTreeSet};

use firn_policy::FindingStatus;

use super::ledger::Told;
use crate::{
    host::{FIRST_EPOCH, HostFinding, HostState, parts_of_version},
    index::rfc3339,
};

/// A rule, or none for all of the host; what the state says of it; what the ledger says.
pub(super) type Differs = (Option<String>, String, String);

/// Where they differ. What people were never told of, the ledger says nothing about; a state that is older than the host's records,
/// as an old copy is, doesn't know what they began.
pub(super) fn differences(
    known: Option<&HostState>,
    replayed: Option<&HostState>,
    told: &BTreeMap<String, Told>,
) -> Vec<Differs> {
    let Some(known) = known else {
        return vec![(None, "is not there".to_owned(), format!("{} findings told", told.len()))];
    };
    let heard_us = replayed.map_or(i64::MIN, |replayed| replayed.received_us);
    if known.received_us < heard_us {
        let until = |us: i64| format!("has records up to {}", rfc3339(us));
        return vec![(None, until(known.received_us), until(heard_us))];
    }
    let ids = known.findings.iter().map(|finding| finding.rule_id.as_str());
    let ids: BTreeSet<&str> = ids.chain(told.keys().map(String::as_str)).collect();
    let differs = |id: &str| {
        let finding = known.finding(id).filter(|finding| finding.version > 0);
        let (state, ledger) = match (finding, told.get(id)) {
            (None, None) => return None,
            (Some(finding), Some(told)) if agree(known.epoch, finding, told) => return None,
            (finding, told) => (finding.map(say_state), told.map(say_told)),
        };
        let nothing = || "nothing".to_owned();
        Some((Some(id.to_owned()), state.unwrap_or_else(nothing), ledger.unwrap_or_else(nothing)))
    };
    ids.into_iter().filter_map(differs).collect()
}

fn agree(epoch: u64, finding: &HostFinding, told: &Told) -> bool {
    let (told_epoch, counter) = parts_of_version(told.version);
    let has_told = (finding.version, &finding.assignee) == (counter, &told.assignee) && epoch >= told_epoch;
    if !finding.status.is_live() {
        return has_told && !told.status.is_live();
    }
    let snoozed = told.snoozed_until_us.is_none_or(|until_us| finding.snoozed_until_us == Some(until_us));
    has_told && (finding.status, finding.since_us) == (told.status, told.since_us) && snoozed
}

fn say_state(finding: &HostFinding) -> String {
    say(finding.status, finding.since_us, finding.version, finding.assignee.as_deref())
}

fn say_told(told: &Told) -> String {
    say(told.status, told.since_us, parts_of_version(told.version).1, told.assignee.as_deref())
}

fn say(status: FindingStatus, since_us: i64, version: u64, assignee: Option<&str>) -> String {
    let whose = assignee.map(|assignee| format!(", {assignee}'s")).unwrap_or_default();
    format!("{} since {}, version {version}{whose}", status.as_str(), rfc3339(since_us))
}

/// A host as the ledger has it, on top of what its records say; without records on top of what is known. `None` if nobody knows
/// anything: then what lies in the log is to go.
pub(super) fn remake(
    known: Option<HostState>,
    replayed: Option<HostState>,
    told: &BTreeMap<String, Told>,
    retired_us: Option<i64>,
) -> Option<HostState> {
    let epochs = told.values().map(|told| parts_of_version(told.version).0);
    let epoch = epochs.chain(known.iter().map(|known| known.epoch)).max();
    let snoozes: BTreeMap<String, i64> = known.iter().flat_map(snoozes).collect();
    let mut host = replayed.or(known).or_else(|| from_told(told))?;
    host.epoch = epoch.map_or(FIRST_EPOCH, |epoch| epoch + 1);
    let retired_us = retired_us.filter(|retired_us| *retired_us >= host.received_us);
    host.retired |= retired_us.is_some();
    if host.retired {
        host.windows.clear();
    }
    let before = std::mem::take(&mut host.findings);
    let ids: BTreeSet<&String> = before.iter().map(|finding| &finding.rule_id).chain(told.keys()).collect();
    let finding = |id: &String| {
        let seen = before.iter().find(|finding| finding.rule_id == *id);
        let breach = seen.filter(|finding| finding.breach_since_us.is_some() && !host.retired);
        let told = told.get(id);
        // One that began before the ledger says that it was over is over.
        let over_us = told.filter(|told| !told.status.is_live()).map(|told| told.since_us);
        let breach = breach.filter(|finding| finding.breach_since_us >= over_us);
        // A breach that nobody was told of ends with what its host's retirement ended.
        let seen_over_us = match seen.map(|finding| (finding.breach_since_us, finding.since_us)) {
            Some((None, since_us)) => Some(since_us),
            Some((Some(_), _)) => retired_us,
            None => None,
        };
        finding(id, (seen, seen_over_us), breach, told, snoozes.get(id).copied())
    };
    host.findings = ids.into_iter().filter_map(finding).collect();
    Some(host)
}

/// Ends of snoozes by rule.
fn snoozes(host: &HostState) -> impl Iterator<Item = (String, i64)> {
    host.findings.iter().filter_map(|finding| Some((finding.rule_id.clone(), finding.snoozed_until_us?)))
}

/// What the transitions alone say of a host that has no records left.
fn from_told(told: &BTreeMap<String, Told>) -> Option<HostState> {
    let newest = told.values().max_by_key(|told| told.order)?;
    Some(HostState {
        order: newest.order,
        hostname: newest.hostname.clone(),
        organization_id: newest.organization_id.clone(),
        received_us: newest.order.1,
        ..HostState::default()
    })
}

/// A finding as it was told, and as records have it with when that was over. A breach that nobody was told of waits for its grace, and is
/// told at its end if that is past.
fn finding(
    id: &str,
    (seen, seen_over_us): (Option<&HostFinding>, Option<i64>),
    breach: Option<&HostFinding>,
    told: Option<&Told>,
    known_until_us: Option<i64>,
) -> Option<HostFinding> {
    let live = told.filter(|told| told.status.is_live());
    let (status, since_us) = match (live, breach, told) {
        (Some(told), ..) => (told.status, told.since_us),
        (None, Some(breach), _) => {
            (FindingStatus::Pending, breach.breach_since_us.unwrap_or(breach.since_us))
        }
        // A breach that was over within its grace may have moved it.
        (None, None, Some(told)) => {
            (FindingStatus::Resolved, seen_over_us.map_or(told.since_us, |us| told.since_us.max(us)))
        }
        (None, None, None) => return None,
    };
    // A snooze whose end neither the ledger nor the state has is over.
    let until_us = |told: &Told| told.snoozed_until_us.or(known_until_us).unwrap_or(told.since_us);
    let is_snoozed = status == FindingStatus::Snoozed;
    let breach_since_us = breach.and_then(|breach| breach.breach_since_us);
    let evidence = breach.and_then(|breach| breach.evidence.clone());
    let mut flaps = seen.map(|seen| seen.flaps.clone()).unwrap_or_default();
    // One that flaps stays open while the computer complies, unless something else ended it.
    flaps.passing_since_us = live.and(flaps.passing_since_us);
    let opened_us = live.filter(|_| flaps.passing_since_us.is_none()).map(|told| told.opened_us);
    Some(HostFinding {
        rule_id: id.to_owned(),
        status,
        since_us,
        breach_since_us: breach_since_us.or(opened_us),
        version: told.map_or(0, |told| parts_of_version(told.version).1),
        snoozed_until_us: live.filter(|_| is_snoozed).map(until_us),
        evidence: evidence.or_else(|| opened_us.and(told?.evidence.clone())),
        assignee: told.and_then(|told| told.assignee.clone()),
        flaps,
    })
}
