#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use firn_runtime::openapi::schemas;

use super::*;
use crate::server::routes;

#[test]
fn document_lists_every_endpoint_with_its_method() {
    let document = serde_json::to_value(document()).unwrap();
    for endpoint in endpoints() {
        let methods = document["paths"][endpoint.path].as_object().unwrap();
        let name = serde_json::to_value(&endpoint.method).unwrap();
        let operation = &methods[name.as_str().unwrap()];
        assert_eq!(operation["summary"], endpoint.summary);
        assert_eq!(operation.get("security").is_some(), endpoint.token, "{}", endpoint.path);
    }
}

/// Types are described by their names, so two of one name would hide each other.
#[test]
fn no_two_types_have_one_name() {
    let mut seen = BTreeMap::new();
    for endpoint in endpoints() {
        for (name, schema) in schemas(endpoint) {
            let schema = serde_json::to_value(schema).unwrap();
            let known = seen.entry(name.clone()).or_insert_with(|| schema.clone());
            assert_eq!(*known, schema, "'{name}' is the name of two types");
        }
    }
    assert!(seen.len() > 50, "{}", seen.len());
}

/// Routes are those that the test of who may ask them takes from the router.
#[test]
fn every_route_of_firn_itself_is_in_the_document_and_nothing_else() {
    let specified_elsewhere = ["/iceberg/", "/nessie/", "/console"];
    let routes: BTreeSet<(String, String)> = routes::all()
        .filter(|(_, path)| !specified_elsewhere.iter().any(|prefix| path.starts_with(prefix)))
        .map(|(method, path)| (method.to_lowercase(), path.to_owned()))
        .collect();
    let document = serde_json::to_value(document()).unwrap();
    let mut listed = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        listed.extend(methods.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())));
    }
    let missing: Vec<_> = routes.difference(&listed).collect();
    assert!(missing.is_empty(), "add to the document: {missing:?}");
    let gone: Vec<_> = listed.difference(&routes).collect();
    assert!(gone.is_empty(), "take out of the document: {gone:?}");
}

/// `UPDATE_EXPECT=1` writes it anew.
#[test]
fn the_document_that_is_checked_in_is_the_one_that_is_served() {
    let served = serde_json::to_string_pretty(&document()).unwrap();
    expect_test::expect_file!["../../../docs/openapi.json"].assert_eq(&format!("{served}\n"));
}
