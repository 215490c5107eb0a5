//! Two servers over one database, of which one doesn't know what the other did.

use serde_json::{Value, json};

use super::harness::{Server, append, create, ident, set_properties, uuid};

#[tokio::test]
async fn changes_made_on_an_older_state_are_judged_by_the_present_one() {
    let here = Server::start().await;
    let there = here.replica().await;
    let (ours, theirs) = (here.client().await, there.client().await);
    let loaded = create(&ours, "t").await;
    let set = |name: &str, value: &str| set_properties(Vec::new(), json!({ name: value }));
    let property = async |name: &str| {
        ours.load_table("main", &ident("t")).await.unwrap().metadata["properties"][name].clone()
    };

    // Each of these begins where this server last knew the branch, and the other one has moved it meanwhile.
    theirs.commit_table("main", &ident("t"), &set("a", "theirs"), &uuid()).await.unwrap();
    ours.commit_table("main", &ident("t"), &set("b", "ours"), &uuid()).await.unwrap();
    assert_eq!((property("a").await, property("b").await), (json!("theirs"), json!("ours")));

    // What changes nothing on the older state changes something now.
    theirs.commit_table("main", &ident("t"), &set("b", "theirs"), &uuid()).await.unwrap();
    ours.commit_table("main", &ident("t"), &set("b", "ours"), &uuid()).await.unwrap();
    assert_eq!(property("b").await, json!("ours"));

    // A requirement that only the present state meets.
    theirs.commit_table("main", &ident("t"), &append(&loaded, 7), &uuid()).await.unwrap();
    let required = vec![json!({"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": 7})];
    let change = set_properties(required, json!({"c": "ours"}));
    ours.commit_table("main", &ident("t"), &change, &uuid()).await.unwrap();
    assert_eq!(property("c").await, json!("ours"));

    // And one that it no longer meets.
    theirs.drop_table("main", &ident("t")).await.unwrap();
    let error = ours.commit_table("main", &ident("t"), &set("d", "ours"), &uuid()).await.unwrap_err();
    assert_eq!((error.status, error.error_type.as_deref()), (Some(404), Some("NoSuchTableException")));
    create(&theirs, "t").await;
    ours.commit_table("main", &ident("t"), &set("d", "ours"), &uuid()).await.unwrap();
    assert_eq!((property("a").await, property("d").await), (Value::Null, json!("ours")));
}
