#![allow(clippy::unwrap_used)]

use firn_catalog_client::{CatalogClient, StaticToken};
use firn_policy::Flaps;
use firn_table::{FileIo, StorageConfig};

use super::*;

fn host(hostname: &str, findings: &[(&str, FindingStatus)]) -> Packed {
    let finding = |(rule, status): &(&str, FindingStatus)| HostFinding {
        rule_id: (*rule).to_owned(),
        status: *status,
        since_us: 7,
        breach_since_us: None,
        version: 1,
        snoozed_until_us: None,
        evidence: None,
        assignee: None,
        flaps: Flaps::default(),
    };
    let findings = findings.iter().map(finding).collect();
    Packed::of(&HostState { hostname: Some(hostname.to_owned()), findings, ..HostState::default() })
}

#[test]
fn each_finding_is_found_by_its_id_as_long_as_it_is_there_and_counted_while_it_lives() {
    use FindingStatus::{Open, Resolved};
    let catalog = CatalogClient::new("http://127.0.0.1:1", Arc::new(StaticToken(String::new()))).unwrap();
    let book = RuleBook::new(catalog, FileIo::new(StorageConfig::default()));
    let index = FindingsIndex::default();
    let key = Arc::new(HostKey { tenant: "acme".to_owned(), host_id: "a".to_owned() });
    let id = |rule: &str| finding_id("acme", "a", rule);
    let shown = |rule: &str| {
        let finding = index.get("acme", &id(rule), &book)?;
        assert_eq!((finding.id.as_str(), finding.rule_id.as_str()), (id(rule).as_str(), rule));
        Some((finding.hostname.unwrap_or_default(), finding.status))
    };
    let update = |state: Packed| {
        index.update(3, std::iter::once((&key, &state)));
        (index.live()["acme"], index.find("acme", &Filter::default(), 9, &book).total)
    };
    assert_eq!(update(host("x", &[])), (0, 0));
    assert_eq!(update(host("x", &[("fw", Open), ("os", Open)])), (2, 2));
    assert_eq!((shown("fw"), shown("os")), (Some(("x".to_owned(), Open)), Some(("x".to_owned(), Open))));
    // The same findings under another name.
    assert_eq!(update(host("y", &[("fw", Open), ("os", Open)])), (2, 2));
    assert_eq!(shown("fw"), Some(("y".to_owned(), Open)));
    assert_eq!(update(host("y", &[("os", Resolved)])), (0, 1));
    assert_eq!((shown("fw"), shown("os")), (None, Some(("y".to_owned(), Resolved))));
    assert_eq!(index.place("acme", &id("os")).unwrap().partition, 3);
    assert!(
        index.get("acme", "no id at all", &book).is_none() && index.get("other", &id("os"), &book).is_none()
    );
    assert_eq!(update(host("y", &[])), (0, 0));
    assert_eq!((shown("os"), index.place("acme", &id("os"))), (None, None));
}
