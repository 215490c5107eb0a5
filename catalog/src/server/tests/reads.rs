//! What was read, in the audit log.

use std::time::Duration;

use firn_auth::Role;
use serde_json::json;

use super::harness::{Server, create, ident};

#[tokio::test]
async fn what_was_given_is_counted_by_principal_and_table_and_what_was_not_is_not() {
    let server = Server::start().await;
    let client = server.client().await;
    create(&client, "t").await;
    create(&client, "unread").await;
    let reader = server.client_as(Role::Reader);
    for reference in ["main", "main", "@nowhere"] {
        drop(reader.load_table(reference, &ident("t")).await);
    }
    assert!(reader.load_table("main", &ident("gone")).await.is_err());
    let commit = reader.reference("main").await.unwrap().hash().to_owned();
    reader.load_table(&format!("@{commit}"), &ident("t")).await.unwrap();
    let content = format!("{}/nessie/acme/api/v2/trees/main/contents/ns.t", server.url);
    let token = server.token(Role::Reader, &[]);
    let answer = reqwest::Client::new().get(content).bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    // Firn's own services read all the time.
    let service = server.server_client(server.key.service_token("compactor", Duration::from_secs(60)));
    service.tenant("acme").load_table("main", &ident("t")).await.unwrap();

    let admin = server.client_as(Role::Admin);
    let read = async || admin.audit(0, 100, &[("action", "read")]).await.unwrap().0;
    assert!(read().await.is_empty(), "nothing is written while requests wait");
    server.catalog.close().await;
    server.catalog.close().await;
    let entries = read().await;
    let [entry] = entries.as_slice() else { panic!("one entry for one principal, not {entries:?}") };
    assert_eq!((entry.principal.as_str(), entry.decision.as_str()), ("alice", "allowed"));
    let of = |reference: &str, count: u64| json!({"reference": reference, "key": ["ns", "t"], "given": "metadata", "count": count});
    assert_eq!(entry.details["reads"], json!([of(&format!("@{commit}"), 1), of("main", 3)]));
}
