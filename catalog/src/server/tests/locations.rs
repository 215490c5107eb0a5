//! Where tables may lie, and what clients are told about it.

use firn_auth::Role;
use firn_catalog_client::iceberg::CreateTableRequest as CreateRequest;
use serde_json::{Value, json};

use super::harness::{Server, append, create, ident, new_table, set_properties};

/// Root of the tenant `acme`.
async fn root(server: &Server) -> String {
    server.client_as(Role::Reader).tenant().await.unwrap().location
}

#[tokio::test]
async fn locations_outside_of_the_tenants_storage_are_refused() {
    let server = Server::start().await;
    let client = server.client().await;
    let root = root(&server).await;
    let outside = root.replace("/acme", "/other");
    for location in [
        format!("{outside}/ns/t"),
        format!("{root}/../other/t"),
        format!("{root}/x/%2e%2e/%2e%2e/other/t"),
        format!("{root}/x/%252e%252e/%252e%252e/other/t"),
        format!("{root}/x%2f..%2f..%2fother/t"),
        format!("{root}/x\\..\\..\\other"),
        format!("{root}2/t"),
        root.clone(),
        "s3://elsewhere/t".to_owned(),
        "https://elsewhere/t".to_owned(),
        "t".to_owned(),
    ] {
        for stage_create in [false, true] {
            let request = CreateRequest { location: Some(location.clone()), stage_create, ..new_table("t") };
            let error = client.create_table("main", &["ns".to_owned()], &request).await.unwrap_err();
            assert!(matches!(error.status, Some(400 | 403)), "{location}: {error}");
        }
        let table = client.load_table("main", &ident("moves")).await;
        let table = match table {
            Ok(table) => table,
            Err(_) => create(&client, "moves").await,
        };
        let mut change = set_properties(Vec::new(), json!({}));
        change.updates = vec![json!({"action": "set-location", "location": location})];
        let error = client.commit_table("main", &ident("moves"), &change, &super::harness::uuid()).await;
        assert!(matches!(error.unwrap_err().status, Some(400 | 403)), "{location}");
        let kept = client.load_table("main", &ident("moves")).await.unwrap();
        assert_eq!(kept.metadata["location"], table.metadata["location"]);
    }
    assert_eq!(client.list_tables("main", &["ns".to_owned()]).await.unwrap(), [ident("moves")]);
}

#[tokio::test]
async fn a_table_of_another_tenant_can_not_be_registered() {
    let server = Server::start().await;
    let client = server.client().await;
    let own = create(&client, "t").await;
    let operator = server.server_client(server.key.service_token("test", std::time::Duration::from_secs(60)));
    let other = operator.tenant("other");
    other.ensure_namespace("main", &["ns".to_owned()]).await.unwrap();
    let theirs = create(&other, "t").await.metadata_location.unwrap();
    let register = async |location: &str| {
        let body = json!({"name": "copy", "metadata-location": location});
        let answer = server.raw("POST", "/namespaces/ns/register").json(&body).send().await.unwrap();
        answer.status().as_u16()
    };
    let own = own.metadata_location.unwrap();
    let (folder, name) = own.rsplit_once('/').unwrap();
    let (theirs_folder, theirs_name) = theirs.rsplit_once("/ns/").unwrap();
    for location in [
        theirs.clone(),
        format!("{}/../other/ns/{theirs_name}", theirs_folder.replace("/other", "/acme")),
        format!("{folder}/%2e%2e/metadata/{name}"),
        "file:///etc/passwd".to_owned(),
    ] {
        assert!(matches!(register(&location).await, 400 | 403), "{location}");
    }
    assert_eq!(register(&own).await, 200);

    // A metadata file of one's own that names another tenant's location is no way there either.
    let path = folder.strip_prefix("file://").unwrap();
    let mut forged: Value =
        serde_json::from_slice(&std::fs::read(format!("{path}/{name}")).unwrap()).unwrap();
    forged["location"] = json!(theirs_folder);
    std::fs::write(format!("{path}/00009-forged.metadata.json"), forged.to_string()).unwrap();
    let body = json!({"name": "forged", "metadata-location": format!("{folder}/00009-forged.metadata.json")});
    let answer = server.raw("POST", "/namespaces/ns/register").json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 403);
}

#[tokio::test]
async fn a_location_that_overlaps_with_another_tables_is_refused() {
    let server = Server::start().await;
    let client = server.client().await;
    let root = root(&server).await;
    let first = create(&client, "first").await;
    let location = first.metadata["location"].as_str().unwrap().to_owned();
    let at = async |name: &str, location: &str, stage_create: bool| {
        let request = CreateRequest { location: Some(location.to_owned()), stage_create, ..new_table(name) };
        client.create_table("main", &["ns".to_owned()], &request).await
    };
    for place in
        [location.clone(), format!("{location}/data"), format!("{root}/ns"), format!("{location}/metadata/x")]
    {
        for stage_create in [false, true] {
            let error = at("second", &place, stage_create).await.unwrap_err();
            assert!(error.status == Some(400) && error.message.contains("overlaps"), "{place}: {error}");
        }
    }
    at("beside", &format!("{location}x"), false).await.unwrap();

    // The same by the commit that ends a staged create, and by one that moves a table.
    let staged = at("staged", &format!("{root}/free"), true).await.unwrap();
    let create = |location: &str| {
        let mut change = append(&staged, 1);
        change.requirements = vec![json!({"type": "assert-create"})];
        let metadata = &staged.metadata;
        change.updates = vec![
            json!({"action": "assign-uuid", "uuid": metadata["table-uuid"]}),
            json!({"action": "upgrade-format-version", "format-version": 2}),
            json!({"action": "add-schema", "schema": metadata["schemas"][0]}),
            json!({"action": "set-current-schema", "schema-id": -1}),
            json!({"action": "add-spec", "spec": metadata["partition-specs"][0]}),
            json!({"action": "set-default-spec", "spec-id": -1}),
            json!({"action": "add-sort-order", "sort-order": metadata["sort-orders"][0]}),
            json!({"action": "set-default-sort-order", "sort-order-id": -1}),
            json!({"action": "set-location", "location": location}),
        ];
        change
    };
    let commit = async |location: &str| {
        client.commit_table("main", &ident("staged"), &create(location), &super::harness::uuid()).await
    };
    assert!(commit(&location).await.unwrap_err().message.contains("overlaps"));
    commit(&format!("{root}/free")).await.unwrap();
    let mut change = set_properties(Vec::new(), json!({}));
    change.updates = vec![json!({"action": "set-location", "location": location})];
    let error =
        client.commit_table("main", &ident("staged"), &change, &super::harness::uuid()).await.unwrap_err();
    assert!(error.message.contains("overlaps"), "{error}");
    change.updates = vec![json!({"action": "set-location", "location": format!("{root}/free/")})];
    client.commit_table("main", &ident("staged"), &change, &super::harness::uuid()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_tables_that_are_made_at_once_no_two_overlap() {
    let server = Server::start().await;
    let client = server.client().await;
    let root = root(&server).await;
    for round in 0..8 {
        let place = format!("{root}/round-{round}");
        let at = async |name: String, place: String| {
            let request = CreateRequest { location: Some(place), ..new_table(&name) };
            client.create_table("main", &["ns".to_owned()], &request).await
        };
        let made = futures::future::join_all([
            at(format!("same{round}"), place.clone()),
            at(format!("again{round}"), place.clone()),
            at(format!("within{round}"), format!("{place}/below/it")),
            at(format!("beside{round}"), format!("{place}-beside")),
        ]);
        let made = made.await;
        let overlapping = made[..3].iter().filter(|table| table.is_ok()).count();
        assert!(overlapping <= 1, "{overlapping} tables lie in {place}");
        for refused in made.iter().filter_map(|table| table.as_ref().err()) {
            assert!(refused.message.contains("overlaps"), "{refused}");
        }
        made[3].as_ref().unwrap();
        // Who was refused left nothing there.
        if overlapping == 0 {
            at(format!("after{round}"), place).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_location_that_is_a_pattern_is_refused() {
    let server = Server::start().await;
    let client = server.client().await;
    let root = root(&server).await;
    for name in ["*", "t?", "${aws:username}"] {
        let request = CreateRequest { location: Some(format!("{root}/ns/{name}")), ..new_table("t") };
        let error = client.create_table("main", &["ns".to_owned()], &request).await.unwrap_err();
        assert!(error.message.contains("access policy"), "{name}: {error}");
    }
}

#[tokio::test]
async fn local_files_need_no_keys_and_no_signatures() {
    let server = Server::start().await;
    let client = server.client().await;
    create(&client, "t").await;
    let load = server.raw("GET", "/namespaces/ns/tables/t");
    let load = load.header("X-Iceberg-Access-Delegation", "vended-credentials,remote-signing");
    let loaded: Value = load.send().await.unwrap().json().await.unwrap();
    assert_eq!((loaded.get("storage-credentials"), &loaded["config"]), (None, &json!({})));
    let keys = server.raw("GET", "/namespaces/ns/tables/t/credentials").send().await.unwrap();
    assert_eq!(keys.json::<Value>().await.unwrap(), json!({"storage-credentials": []}));
    let body = json!({"region": "x", "uri": "http://x/y", "method": "GET", "headers": {}});
    let signed = server.raw("POST", "/namespaces/ns/tables/t/sign").json(&body).send().await.unwrap();
    assert_eq!(signed.status(), 400);
    let absent = server.raw("GET", "/namespaces/ns/tables/none/credentials").send().await.unwrap();
    assert_eq!(absent.status(), 404);
}

#[tokio::test]
async fn keys_and_signatures_for_another_tenants_table_are_refused_whether_it_exists_or_not() {
    let server = Server::start().await;
    let operator = server.server_client(server.key.service_token("test", std::time::Duration::from_secs(60)));
    operator.tenant("other").ensure_namespace("main", &["ns".to_owned()]).await.unwrap();
    create(&operator.tenant("other"), "t").await;
    let ask = async |method: &str, tenant: &str, path: &str| {
        let url = format!("{}/iceberg/v1/{tenant}/namespaces/ns/tables/t/{path}", server.url);
        let request = reqwest::Client::new().request(method.parse().unwrap(), url);
        let body = json!({"region": "x", "uri": "http://x/y", "method": "GET", "headers": {}});
        let answer = request.bearer_auth(server.token(Role::Admin, &[])).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap().replace(tenant, "TENANT"))
    };
    for (method, path) in [("GET", "credentials"), ("POST", "sign")] {
        let (status, there) = ask(method, "other", path).await;
        assert_eq!((status, there), ask(method, "nobody", path).await, "{path}");
        assert_eq!(status, 403);
    }
}
