#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn broken_rule_is_a_problem_and_not_withdrawn() {
    let mut policies = shipped();
    policies[0].rule = "no_such_column".to_owned();
    let id = policies[0].id.clone();
    let count = policies.len();
    let rules = TenantRules::new(policies.into_iter().map(Ok).collect(), "c".to_owned(), None);
    assert_eq!((rules.rules.len(), rules.problems.len()), (count - 1, 1));
    assert!(rules.has(&id) && rules.rule(&id).is_none());
    assert!(rules.problems[0].contains("no_such_column"));
}

#[test]
fn fingerprint_follows_what_rules_say_and_words_outlive_them() {
    let all = TenantRules::new(shipped().into_iter().map(Ok).collect(), "1".to_owned(), None);
    let again = TenantRules::new(shipped().into_iter().map(Ok).collect(), "2".to_owned(), Some(&all));
    assert_eq!(all.fingerprint, again.fingerprint);
    let fewer = TenantRules::new(shipped().into_iter().skip(1).map(Ok).collect(), "3".to_owned(), Some(&all));
    assert_ne!(all.fingerprint, fewer.fingerprint);
    let gone = &shipped()[0];
    assert!(!fewer.has(&gone.id));
    assert_eq!(fewer.words[&gone.id].title, gone.title);
}

#[test]
fn doubled_id_is_told_and_the_first_row_counts() {
    let mut twice = shipped();
    twice.truncate(1);
    twice.push(Policy { title: "Second".to_owned(), ..twice[0].clone() });
    let rules = TenantRules::new(twice.into_iter().map(Ok).collect(), "c".to_owned(), None);
    assert_eq!(rules.rules.len(), 1);
    assert_ne!(rules.rules[0].policy.title, "Second");
    assert!(rules.problems[0].contains("twice"));
}
