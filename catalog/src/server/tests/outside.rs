//! Ways to another tenant's data: by the path, the body, a location, a metadata file.

use std::time::Duration;

use firn_auth::{Claims, Role};
use firn_catalog_client::TenantClient;
use serde_json::{Value, json};

use super::harness::{Server, create, ident, new_table};

/// A maintainer of `other` with a table.
async fn neighbour(server: &Server) -> (TenantClient, String, String) {
    let mut claims = Claims::new("bob", Duration::from_secs(600));
    claims.tenants.insert("other".parse().unwrap(), Role::Maintainer);
    let other = server.server_client(server.key.sign(&claims)).tenant("other");
    other.ensure_namespace("main", &["ns".to_owned()]).await.unwrap();
    let table = create(&other, "theirs").await;
    let location = table.metadata["location"].as_str().unwrap().to_owned();
    (other, location, table.metadata_location.unwrap())
}

async fn refused(request: reqwest::RequestBuilder) -> (u16, String) {
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn a_path_to_another_tenant_is_refused_however_it_is_spelled() {
    let server = Server::start().await;
    server.client().await;
    neighbour(&server).await;
    for prefix in [
        "other",
        "%6fther",
        "other~6d61696e",
        "other@main",
        "acme%2f..%2fother",
        "acme%252f..%252fother",
        "..%2fother",
    ] {
        let url = format!("{}/iceberg/v1/{prefix}/namespaces/ns/tables/theirs", server.url);
        let request = reqwest::Client::new().get(url).bearer_auth(server.token(Role::Admin, &[]));
        let (status, body) = refused(request).await;
        assert!(matches!(status, 400 | 403), "{prefix}: {status} {body}");
        assert!(!body.contains("metadata-location"), "{prefix}: {body}");
    }
    for path in [
        "/nessie/other/api/v2/trees",
        "/nessie/%6fther/api/v2/trees",
        "/v1/tenants/other",
        "/v1/tenants/%6Fther/events",
    ] {
        let url = format!("{}{path}", server.url);
        let request = reqwest::Client::new().get(url).bearer_auth(server.token(Role::Admin, &[]));
        assert_eq!(refused(request).await.0, 403, "{path}");
    }
}

#[tokio::test]
async fn names_with_dots_and_separators_lead_nowhere() {
    let server = Server::start().await;
    server.client().await;
    let (_, location, _) = neighbour(&server).await;
    let folder = location.rsplit('/').next().unwrap().to_owned();
    for name in ["..", ".", "..\u{1f}..", "../../other/ns", "..%2f..%2fother%2fns", "a/../../x"] {
        let answer =
            server.raw("POST", "/namespaces").json(&json!({"namespace": [name]})).send().await.unwrap();
        let made = answer.status().is_success();
        // What can be a name is one, and its tables lie where all of the tenant's do.
        if !made {
            assert_eq!(answer.status(), 400, "{name}");
            continue;
        }
        let client = server.client_as(Role::Maintainer);
        let table = client.create_table("main", &[name.to_owned()], &new_table("t")).await.unwrap();
        let place = table.metadata["location"].as_str().unwrap();
        let (_, below) = place.split_once("/warehouse/acme/").unwrap();
        assert!(below.split('/').all(|part| !matches!(part, "." | "..")), "{place}");
        assert!(!place.contains(&folder), "{place}");
    }
}

#[tokio::test]
async fn no_body_takes_another_tenants_files() {
    let server = Server::start().await;
    let client = server.client().await;
    let (other, location, metadata) = neighbour(&server).await;
    let table = create(&client, "mine").await;
    let own = table.metadata_location.clone().unwrap();
    let sneaky = own.replace("/acme/", "/acme/../other/");
    let encoded = own.replace("/acme/", "/acme/%2e%2e/other/");

    for place in
        [metadata.as_str(), sneaky.as_str(), encoded.as_str(), "file:///etc/passwd", "s3://x/y.metadata.json"]
    {
        for (path, name) in [("/namespaces/ns/register", "stolen"), ("/namespaces/ns/register-view", "seen")]
        {
            let body = json!({"name": name, "metadata-location": place});
            let (status, answer) = refused(server.raw("POST", path).json(&body)).await;
            assert!(matches!(status, 400 | 403), "{path} {place}: {status} {answer}");
        }
    }
    let moved = json!({"requirements": [], "updates": [{"action": "set-location", "location": location}]});
    assert_eq!(refused(server.raw("POST", "/namespaces/ns/tables/mine").json(&moved)).await.0, 403);
    let prefix_only = location.replace("/other/", "/acme2/");
    let near = json!({"requirements": [], "updates": [{"action": "set-location", "location": prefix_only}]});
    assert_eq!(refused(server.raw("POST", "/namespaces/ns/tables/mine").json(&near)).await.0, 403);

    // Nessie's API stores a location as it is; it is refused when something would be read there.
    let head = client.reference("main").await.unwrap().hash().to_owned();
    let put = json!({
        "commitMeta": {"message": "steal"},
        "operations": [{"type": "PUT", "key": {"elements": ["ns", "stolen"]}, "content": {
            "type": "ICEBERG_TABLE", "metadataLocation": metadata, "snapshotId": -1, "schemaId": 0, "specId": 0,
            "sortOrderId": 0,
        }}],
    });
    let url = format!("{}/nessie/acme/api/v2/trees/main@{head}/history/commit", server.url);
    let commit = reqwest::Client::new().post(url).bearer_auth(server.token(Role::Maintainer, &[])).json(&put);
    assert_eq!(refused(commit).await.0, 200);
    let stolen = client.load_table("main", &ident("stolen")).await.map(drop).unwrap_err();
    assert_eq!(stolen.status, Some(403), "{stolen}");
    // Also when the neighbour's file is in the server's memory.
    other.load_table("main", &ident("theirs")).await.unwrap();
    assert_eq!(client.load_table("main", &ident("stolen")).await.map(drop).unwrap_err().status, Some(403));
    client.drop_table("main", &ident("stolen")).await.unwrap();
    other.load_table("main", &ident("theirs")).await.unwrap();

    let body: Value = json!({"table-changes": [{
        "identifier": {"namespace": ["ns"], "name": "theirs"}, "requirements": [], "updates": [],
    }]});
    assert_eq!(
        refused(server.raw("POST", "/transactions/commit").json(&body)).await.0,
        404,
        "in acme there is none"
    );
}
