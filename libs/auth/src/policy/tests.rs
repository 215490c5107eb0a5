//! What policies allow.

#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use super::*;
use crate::Claims;

fn acme() -> TenantName {
    "acme".parse().unwrap()
}

fn principal(role: Option<Role>) -> Principal {
    let mut claims = Claims::new("acme/etl", Duration::from_secs(60));
    claims.tenants.extend(role.map(|role| (acme(), role)));
    Principal { claims: Arc::new(claims) }
}

fn key(text: &str) -> Vec<String> {
    text.split('.').map(str::to_owned).collect()
}

fn granting(actions: &[Action], reference: &str, key: &str) -> Policy {
    let grant = Grant {
        principal: "acme/etl".to_owned(),
        actions: actions.to_vec(),
        reference: reference.to_owned(),
        key: key.to_owned(),
    };
    Policy { grants: vec![grant], ..Policy::default() }
}

#[test]
fn a_grant_gives_its_action_on_its_references_and_keys_and_nothing_else() {
    let policy = granting(&[Action::Read], "main", "gold.**");
    for role in [None, Some(Role::Agent)] {
        let principal = principal(role);
        let may = |action, reference, text: &str| {
            policy.decide(&principal, &acme(), action, reference, Extent::Key(&key(text))).is_ok()
        };
        assert!(may(Action::Read, Some("main"), "gold.device"));
        assert!(!may(Action::Read, Some("main"), "silver.device"));
        assert!(!may(Action::Read, Some("dev"), "gold.device"));
        assert!(!may(Action::Read, None, "gold.device"), "a bare hash may be of any branch");
        assert!(!may(Action::Write, Some("main"), "gold.device"));
        let all = policy.decide(&principal, &acme(), Action::Read, Some("main"), Extent::All);
        assert!(matches!(all, Err(Refusal::Ungranted(text)) if text.contains("no grant covers")));
    }
    let other = "other".parse().unwrap();
    let elsewhere = Policy::default().decide(&principal(None), &other, Action::Visit, None, Extent::Any);
    assert_eq!(elsewhere, Err(Refusal::Unreached));
}

#[test]
fn a_grant_never_gives_what_has_no_reference() {
    let policy = granting(&[Action::Administer, Action::Maintain, Action::Upload], "*", "**");
    for action in [Action::Administer, Action::Maintain, Action::Upload] {
        let principal = principal(Some(Role::Reader));
        assert!(policy.decide(&principal, &acme(), action, None, Extent::Any).is_err());
    }
}

#[test]
fn a_protected_branch_takes_merges_of_maintainers_only() {
    let protection = Protection { reference: "main".to_owned(), exempt: vec!["acme/robot".to_owned()] };
    let policy = Policy { protections: vec![protection], ..Policy::default() };
    let may = |principal: &Principal, action, reference| {
        policy.decide(principal, &acme(), action, Some(reference), Extent::Any).is_ok()
    };
    let admin = principal(Some(Role::Admin));
    for action in [Action::Write, Action::AssignReference, Action::DeleteReference] {
        assert!(!may(&admin, action, "main"), "{action:?}");
        assert!(may(&admin, action, "dev"), "{action:?}");
    }
    assert!(may(&admin, Action::Merge, "main") && may(&admin, Action::Read, "main"));
    let writer = principal(Some(Role::Writer));
    assert!(!may(&writer, Action::Merge, "main") && may(&writer, Action::Merge, "dev"));
    let mut robot = (*writer.claims).clone();
    robot.sub = "acme/robot".to_owned();
    assert!(may(&Principal { claims: Arc::new(robot.clone()) }, Action::Write, "main"));
    robot.sub = "else".to_owned();
    robot.scopes = vec![Scope::ServiceIngest];
    assert!(may(&Principal { claims: Arc::new(robot) }, Action::Write, "main"));
}

#[test]
fn nobody_changes_a_suspended_tenants_data_and_a_deleted_one_is_only_seen() {
    let mut operator = Claims::new("root", Duration::from_secs(60));
    operator.operator = true;
    let operator = Principal { claims: Arc::new(operator) };
    let admin = principal(Some(Role::Admin));
    let may = |policy: &Policy, principal: &Principal, action| {
        policy.decide(principal, &acme(), action, Some("main"), Extent::Any).is_ok()
    };
    let suspended = Policy { standing: Standing::Suspended("unpaid".to_owned()), ..Policy::default() };
    for action in [Action::Visit, Action::Read, Action::Write, Action::Upload, Action::Administer] {
        assert!(!may(&suspended, &admin, action), "{action:?}");
    }
    assert!(may(&suspended, &operator, Action::Read) && !may(&suspended, &operator, Action::Write));
    let deleted = Policy { standing: Standing::Deleted(String::new()), ..Policy::default() };
    assert!(may(&deleted, &operator, Action::Visit) && !may(&deleted, &operator, Action::Read));
    let text = suspended.decide(&admin, &acme(), Action::Read, None, Extent::Any).unwrap_err();
    assert!(matches!(text, Refusal::Standing(text) if text.contains("suspended (unpaid)")));
}

#[test]
fn revoked_tokens_and_what_was_exchanged_for_them_are_refused() {
    let of = |what| Policy {
        revocations: vec![Revocation { what, reason: String::new(), by: "a".to_owned(), until: 0 }],
        ..Policy::default()
    };
    let first = principal(Some(Role::Reader));
    let renewed = Claims::renewed(&first.claims, Duration::from_secs(60));
    let again = Claims::renewed(&renewed, Duration::from_secs(60));
    let other = principal(Some(Role::Reader));
    let refuses = |policy: &Policy, claims: &Claims| {
        policy.refuse_revoked(&Principal { claims: Arc::new(claims.clone()) }).is_err()
    };
    let one = of(RevokedWhat::Token(first.claims.jti.clone()));
    assert!(refuses(&one, &first.claims) && refuses(&one, &renewed) && refuses(&one, &again));
    assert!(!refuses(&one, &other.claims));
    let until = |issued_until| of(RevokedWhat::Principal { name: "acme/etl".to_owned(), issued_until });
    let late = Claims { iat: again.iat + 100, ..again };
    assert!(refuses(&until(first.claims.iat), &late), "exchanging makes no token younger");
    assert!(!refuses(&until(first.claims.iat - 1), &first.claims));
}
