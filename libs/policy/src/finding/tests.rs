#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::Severity;

const SECOND: i64 = 1_000_000;

fn policy(grace_s: u64) -> Policy {
    Policy {
        id: "p".to_owned(),
        title: "P".to_owned(),
        severity: Severity::High,
        description: String::new(),
        rationale: String::new(),
        remediation: String::new(),
        references: Vec::new(),
        platforms: Vec::new(),
        rule: "disk_encrypted".to_owned(),
        grace_s,
        absence_s: None,
        window: None,
        flapping: None,
        labels: std::collections::BTreeMap::new(),
    }
}

fn seen(verdict: Verdict, second: i64) -> Observation {
    Observation { verdict, order: (second * SECOND, second * SECOND, 0, second) }
}

/// Runs verdicts at seconds and tells (from, to, second) of each transition.
fn run(
    policy: &Policy,
    records: &[(Verdict, i64)],
) -> (FindingState, Vec<(FindingStatus, FindingStatus, i64)>) {
    let (mut state, mut told) = (None, Vec::new());
    for (verdict, second) in records {
        let (after, transition) = observe(policy, state.as_ref(), &seen(*verdict, *second));
        told.extend(transition.map(|t| (t.from, t.to, t.at_us / SECOND)));
        state = Some(after);
    }
    (state.unwrap(), told)
}

use FindingStatus::{Acknowledged, Compliant, Open, Pending, Resolved, Snoozed};
use Verdict::{Fail, NoResult, Pass};

#[test]
fn without_grace_a_breach_opens_resolves_and_opens_again() {
    let (state, told) = run(&policy(0), &[(Pass, 1), (Fail, 2), (Fail, 3), (Pass, 4), (Pass, 5), (Fail, 6)]);
    assert_eq!(told, [(Compliant, Open, 2), (Open, Resolved, 4), (Resolved, Open, 6)]);
    assert_eq!((state.version, state.breach_since_us), (3, Some(6 * SECOND)));
}

#[test]
fn grace_is_counted_from_the_first_breach_and_opens_at_its_end() {
    let (state, told) = run(&policy(10), &[(Fail, 1), (NoResult, 5), (Fail, 9)]);
    assert_eq!((state.status, told.len()), (Pending, 0));
    let (_, told) = run(&policy(10), &[(Fail, 1), (Fail, 9), (Fail, 30)]);
    assert_eq!(told, [(Pending, Open, 11)]);
    let (state, told) = run(&policy(10), &[(Fail, 1), (Pass, 9), (Fail, 12), (Fail, 20)]);
    assert_eq!((state.status, told.len()), (Pending, 0));
}

#[test]
fn time_alone_opens_what_is_pending() {
    let policy = policy(10);
    let (state, _) = run(&policy, &[(Fail, 1)]);
    assert_eq!(state.due_us(&policy), Some(11 * SECOND));
    assert_eq!(tick(&policy, &state, 11 * SECOND - 1), (state.clone(), None));
    let (after, told) = tick(&policy, &state, 99 * SECOND);
    assert_eq!((after.status, told.unwrap().at_us), (Open, 11 * SECOND));
    assert_eq!(after.due_us(&policy), None);
}

#[test]
fn no_result_changes_nothing_but_the_order() {
    let (before, _) = run(&policy(0), &[(Fail, 1)]);
    let (after, told) = observe(&policy(0), Some(&before), &seen(NoResult, 2));
    assert_eq!(told, None);
    assert_eq!(FindingState { last_order: before.last_order, ..after }, before);
    let (state, told) = run(&policy(0), &[(NoResult, 1)]);
    assert_eq!((state.status, state.version, told.len()), (Compliant, 0, 0));
}

#[test]
fn older_and_repeated_records_are_dropped() {
    let (state, told) = run(&policy(0), &[(Fail, 5), (Pass, 4), (Pass, 5)]);
    assert_eq!((state.status, told.len()), (Open, 1));
}

#[test]
fn acknowledged_stays_until_resolved() {
    let policy = policy(0);
    let (open, _) = run(&policy, &[(Fail, 1)]);
    let (taken, told) = apply(&open, &Command::Acknowledge, 2 * SECOND, "on it".to_owned());
    assert_eq!((told.as_ref().unwrap().from, told.unwrap().to), (Open, Acknowledged));
    let (still, told) = observe(&policy, Some(&taken), &seen(Fail, 3));
    assert_eq!((still.status, told), (Acknowledged, None));
    let (over, told) = observe(&policy, Some(&still), &seen(Pass, 4));
    assert_eq!((over.status, told.unwrap().version), (Resolved, 3));
    assert_eq!(apply(&over, &Command::Acknowledge, 5 * SECOND, String::new()), (over, None));
}

#[test]
fn snoozed_is_quiet_until_its_time_and_resolves_before() {
    let policy = policy(0);
    let (open, _) = run(&policy, &[(Fail, 1)]);
    let snooze = Command::Snooze { until_us: 10 * SECOND };
    let (quiet, told) = apply(&open, &snooze, 2 * SECOND, "later".to_owned());
    assert_eq!(
        (quiet.status, told.unwrap().to, quiet.due_us(&policy)),
        (Snoozed, Snoozed, Some(10 * SECOND))
    );
    assert_eq!(observe(&policy, Some(&quiet), &seen(Fail, 9)).1, None);
    let (loud, told) = observe(&policy, Some(&quiet), &seen(Fail, 12));
    assert_eq!((loud.status, told.unwrap().at_us, loud.snoozed_until_us), (Open, 10 * SECOND, None));
    assert_eq!(observe(&policy, Some(&quiet), &seen(Pass, 5)).0.status, Resolved);
    assert_eq!(apply(&open, &snooze, 11 * SECOND, String::new()).1, None);
}

#[test]
fn comment_is_told_and_changes_no_status() {
    let (open, _) = run(&policy(0), &[(Fail, 1)]);
    let (after, told) = apply(&open, &Command::Comment, 2 * SECOND, "seen".to_owned());
    let told = told.unwrap();
    assert_eq!((told.from, told.to, told.version, after.since_us), (Open, Open, 2, open.since_us));
}

#[test]
fn assigned_finding_is_somebodys_until_it_opens_anew() {
    let to = |name: &str| Command::Assign { to: Some(name.to_owned()) };
    let (open, _) = run(&policy(0), &[(Fail, 1)]);
    let (taken, told) = apply(&open, &to("bob"), 2 * SECOND, "by alice".to_owned());
    let told = told.unwrap();
    assert_eq!((told.from, told.to, told.assignee.as_deref(), told.version), (Open, Open, Some("bob"), 2));
    assert_eq!(apply(&taken, &to("bob"), 3 * SECOND, String::new()).1, None, "it is bob's already");
    let (over, told) = observe(&policy(0), Some(&taken), &seen(Pass, 4));
    assert_eq!(told.unwrap().assignee.as_deref(), Some("bob"));
    assert_eq!(apply(&over, &to("eve"), 5 * SECOND, String::new()).1, None, "it is over");
    let (again, told) = observe(&policy(0), Some(&over), &seen(Fail, 6));
    assert_eq!((again.assignee, told.unwrap().assignee), (None, None));
}

#[test]
fn withdrawn_rule_resolves_what_is_live_and_forgets_what_is_pending() {
    let (open, _) = run(&policy(0), &[(Fail, 1)]);
    let (after, told) = withdraw(&open, 2 * SECOND, "rule withdrawn".to_owned());
    assert_eq!((after.status, told.unwrap().reason.as_str()), (Resolved, "rule withdrawn"));
    let (pending, _) = run(&policy(9), &[(Fail, 1)]);
    assert_eq!(
        withdraw(&pending, 2 * SECOND, String::new()),
        (FindingState { since_us: 2 * SECOND, status: Compliant, breach_since_us: None, ..pending }, None)
    );
    let (again, _) = run(&policy(9), &[(Fail, 1), (Fail, 11), (Pass, 12), (Fail, 13)]);
    assert_eq!(again.status, Pending);
    assert_eq!(withdraw(&again, 14 * SECOND, String::new()).0.status, Resolved, "as it was before");
}

proptest! {
    /// Whatever comes in whatever order: versions count transitions, each starts where the last one told ended (silent
    /// steps through Pending aside), and status and breach agree.
    #[test]
    fn transitions_chain_and_versions_count_them(
        grace_s in 0_u64..4,
        records in proptest::collection::vec((0..3_u8, 0_i64..40), 1..60),
    ) {
        let policy = policy(grace_s);
        let (mut state, mut count, mut last) = (None::<FindingState>, 0, Compliant);
        for (verdict, second) in records {
            let verdict = [Pass, Fail, NoResult][usize::from(verdict)];
            let (after, told) = observe(&policy, state.as_ref(), &seen(verdict, second));
            if let Some(told) = told {
                count += 1;
                prop_assert!(told.from == last || told.from == Pending);
                prop_assert_eq!(told.version, count);
                last = told.to;
            }
            prop_assert_eq!(after.version, count);
            let in_breach = after.status.is_live() || after.status == Pending;
            prop_assert_eq!(in_breach, after.breach_since_us.is_some());
            state = Some(after);
        }
    }
}

/// As [`run`], but time passes before each record, as the stream has it.
fn run_with_time(policy: &Policy, records: &[(Verdict, i64)]) -> (FindingState, Vec<(FindingStatus, i64)>) {
    let (mut state, mut told) = (None::<FindingState>, Vec::new());
    for (verdict, second) in records {
        if let Some(known) = &mut state {
            let (after, transition) = tick(policy, known, second * SECOND);
            told.extend(transition.map(|t| (t.to, t.at_us / SECOND)));
            *known = after;
        }
        let (after, transition) = observe(policy, state.as_ref(), &seen(*verdict, *second));
        told.extend(transition.map(|t| (t.to, t.at_us / SECOND)));
        state = Some(after);
    }
    (state.unwrap(), told)
}

fn limited(openings: u32, within_s: u64) -> Policy {
    Policy { flapping: Some(crate::FlappingLimit { openings, within_s }), ..policy(0) }
}

#[test]
fn what_flaps_stays_open_until_it_was_complied_with_for_long_enough() {
    // From the first record that complies, however many follow.
    let complied = [(Pass, 100), (Pass, 130)];
    let records = [(Fail, 1), (Pass, 2), (Fail, 3), (Pass, 4), (Fail, 50), (Pass, 60), (Fail, 90)];
    let (state, told) = run_with_time(&limited(2, 60), &[&records[..], &complied].concat());
    assert_eq!(told, [(Open, 1), (Resolved, 2), (Open, 3)]);
    assert_eq!((state.status, state.breach_since_us), (Open, None));
    assert_eq!(state.due_us(&limited(2, 60)), Some(160 * SECOND));
    // Whoever looks later sees the same instant, and from then on it is a finding like others.
    let (state, transition) = tick(&limited(2, 60), &state, 1_000 * SECOND);
    let transition = transition.unwrap();
    assert_eq!((transition.to, transition.at_us), (Resolved, 160 * SECOND));
    assert_eq!(transition.reason, "the computer has complied for 60 seconds");
    assert_eq!(state.flaps, Flaps::default());
}

#[test]
fn openings_that_lie_apart_are_no_flapping() {
    let (state, told) =
        run_with_time(&limited(2, 60), &[(Fail, 1), (Pass, 2), (Fail, 100), (Pass, 101), (Fail, 200)]);
    assert_eq!(told, [(Open, 1), (Resolved, 2), (Open, 100), (Resolved, 101), (Open, 200)]);
    assert_eq!(state.flaps.openings_us, [200 * SECOND]);
}

#[test]
fn an_acknowledged_or_snoozed_finding_that_flaps_stays_what_it_is() {
    let (state, _) = run_with_time(&limited(2, 60), &[(Fail, 1), (Pass, 2), (Fail, 3)]);
    let (acknowledged, _) = apply(&state, &Command::Acknowledge, 4 * SECOND, String::new());
    let (acknowledged, told) = observe(&limited(2, 60), Some(&acknowledged), &seen(Pass, 5));
    assert_eq!((acknowledged.status, told), (Acknowledged, None));

    let (snoozed, _) = apply(&state, &Command::Snooze { until_us: 30 * SECOND }, 4 * SECOND, String::new());
    let (snoozed, _) = observe(&limited(2, 60), Some(&snoozed), &seen(Pass, 5));
    // The snooze ends meanwhile, but there is nothing to tell of what complies.
    assert_eq!(tick(&limited(2, 60), &snoozed, 40 * SECOND).1, None);
    let (_, told) = tick(&limited(2, 60), &snoozed, 70 * SECOND);
    assert_eq!(told.map(|t| (t.to, t.at_us)), Some((Resolved, 65 * SECOND)));
    // Or it is in breach again, and is told then.
    let (_, told) = observe(&limited(2, 60), Some(&snoozed), &seen(Fail, 50));
    assert_eq!(told.map(|t| (t.to, t.at_us)), Some((Open, 30 * SECOND)));
}

#[test]
fn a_limit_that_is_withdrawn_holds_nothing_open() {
    let (state, _) = run_with_time(&limited(2, 60), &[(Fail, 1), (Pass, 2), (Fail, 3), (Pass, 4)]);
    assert_eq!((state.status, state.due_us(&policy(0))), (Open, None));
    let (_, told) = observe(&policy(0), Some(&state), &seen(Pass, 6));
    assert_eq!(told.map(|t| t.to), Some(Resolved));
}
