//! Namespaces, names and pages.

use serde_json::{Value, json};

use super::{
    harness::{Server, create, ident, new_table},
    specified::function,
};

#[tokio::test]
async fn functions_are_listed_and_loaded() {
    let server = Server::start().await;
    let client = server.client().await;
    create(&client, "t").await;
    let (storage, function) = (&server.catalog.state.storage, function());
    let place = storage.new_location("acme", &["ns".to_owned()], "f");
    let bytes = function.to_string().into_bytes();
    let location = storage.write_metadata("acme", &place, None, None, bytes).await.unwrap();
    let head = client.reference("main").await.unwrap().hash().to_owned();
    let put = |name: &str, content: Value| json!({"type": "PUT", "key": {"elements": ["ns", name]}, "content": content});
    let body = json!({"commitMeta": {"message": "functions"}, "operations": [
        put("f", json!({"type": "UDF", "metadataLocation": location, "versionId": "1"})),
        put("g", json!({"type": "UDF", "sqlText": "SELECT 1", "dialect": "spark"})),
    ]});
    let url = format!("{}/nessie/acme/api/v2/trees/main@{head}/history/commit", server.url);
    let token = server.token(firn_auth::Role::Maintainer, &[]);
    let committed = reqwest::Client::new().post(url).bearer_auth(token).json(&body).send().await.unwrap();
    assert!(committed.status().is_success());

    let get = async |path: &str| {
        let answer = server.raw("GET", path).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (_, list) = get("/namespaces/ns/functions").await;
    assert_eq!(list["identifiers"], json!([["ns", "f"], ["ns", "g"]]));
    let (_, loaded) = get("/namespaces/ns/functions/f").await;
    assert_eq!((&loaded["metadata-location"], &loaded["metadata"]), (&json!(location), &function));
    for (path, status, kind) in [
        ("/namespaces/ns/functions/t", 404, "NoSuchFunctionException"),
        ("/namespaces/none/functions/f", 404, "NoSuchNamespaceException"),
        ("/namespaces/none/functions", 404, "NoSuchNamespaceException"),
        ("/namespaces/ns/functions/g", 400, "BadRequestException"),
    ] {
        let (found, error) = get(path).await;
        assert_eq!((found, error["error"]["type"].as_str()), (status, Some(kind)), "{path}");
    }
}

#[tokio::test]
async fn odd_names_come_back_as_they_went() {
    let server = Server::start().await;
    let client = server.client().await;
    let namespace = vec!["a/b".to_owned(), "c d+e%é😀.f".to_owned()];
    client.ensure_namespace("main", &namespace).await.unwrap();
    client.ensure_namespace("main", &namespace).await.unwrap();
    let name = "t 1/2%+@é";
    client.create_table("main", &namespace, &new_table(name)).await.unwrap();
    let tables = client.list_tables("main", &namespace).await.unwrap();
    assert_eq!((tables.len(), tables[0].name.as_str()), (1, name));
    client.load_table("main", &tables[0]).await.unwrap();
    assert_eq!(client.list_namespaces("main", &["a/b".to_owned()]).await.unwrap(), [namespace]);
    // As Java spells it: a plus for a space in a path.
    let java = "/namespaces/a%2Fb%1Fc+d%2Be%25%C3%A9%F0%9F%98%80.f/tables/t+1%2F2%25%2B%40%C3%A9";
    assert_eq!(server.raw("HEAD", java).send().await.unwrap().status(), 204);
    // As PyIceberg spells it: a parent encoded twice.
    client.ensure_namespace("main", &["p q".to_owned(), "r".to_owned(), "s".to_owned()]).await.unwrap();
    let list = server.raw("GET", "/namespaces?parent=p%2520q%251Fr").send().await.unwrap();
    assert_eq!(list.json::<Value>().await.unwrap()["namespaces"], json!([["p q", "r", "s"]]));
}

#[tokio::test]
async fn pages_are_of_one_state_and_end() {
    let server = Server::start().await;
    let client = server.client().await;
    for name in ["a", "b", "c"] {
        create(&client, name).await;
    }
    // A namespace with content between the tables doesn't disturb.
    client.ensure_namespace("main", &["ns".to_owned(), "bb".to_owned()]).await.unwrap();
    client.create_table("main", &["ns".to_owned(), "bb".to_owned()], &new_table("x")).await.unwrap();
    let page = |query: String| {
        let request = server.raw("GET", &format!("/namespaces/ns/tables?{query}"));
        async move { request.send().await.unwrap().json::<Value>().await.unwrap() }
    };
    let names = |page: &Value| -> Vec<String> {
        let all = page["identifiers"].as_array().unwrap().iter();
        all.map(|ident| ident["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = page("pageToken=&pageSize=2".to_owned()).await;
    assert_eq!(names(&first), ["a", "b"]);
    create(&client, "b2").await;
    let token = first["next-page-token"].as_str().unwrap();
    let second = page(format!("pageSize=2&pageToken={token}")).await;
    assert_eq!((names(&second), &second["next-page-token"]), (vec!["c".to_owned()], &Value::Null));
    assert_eq!(names(&page(String::new()).await), ["a", "b", "b2", "c"]);
    let all = page("pageToken=".to_owned()).await;
    assert_eq!(all["next-page-token"], Value::Null);
    let answer = server.raw("GET", "/namespaces/ns/tables?pageToken=junk").send().await.unwrap();
    assert_eq!(answer.status(), 400);
}

#[tokio::test]
async fn a_namespace_lives_and_goes() {
    let server = Server::start().await;
    let client = server.client().await;
    let post = |path: &str, body: Value| server.raw("POST", path).json(&body).send();
    let status = |method: &'static str, path: &'static str| {
        let request = server.raw(method, path);
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(status("HEAD", "/namespaces/ns").await, 204);
    assert_eq!(status("HEAD", "/namespaces/none").await, 404);
    assert_eq!(status("GET", "/namespaces?parent=none").await, 404);
    assert_eq!(status("GET", "/namespaces?parent=ns").await, 200);
    assert_eq!(status("GET", "/namespaces/none/tables").await, 404);
    assert_eq!(post("/namespaces", json!({"namespace": ["ns"]})).await.unwrap().status(), 409);
    assert_eq!(post("/namespaces", json!({"namespace": ["no", "parent"]})).await.unwrap().status(), 404);

    let set = json!({"updates": {"a": "1", "b": "2"}, "removals": ["c"]});
    let answer: Value = post("/namespaces/ns/properties", set).await.unwrap().json().await.unwrap();
    assert_eq!(answer, json!({"updated": ["a", "b"], "removed": [], "missing": ["c"]}));
    let remove = json!({"removals": ["a"]});
    let answer: Value = post("/namespaces/ns/properties", remove).await.unwrap().json().await.unwrap();
    assert_eq!(answer, json!({"updated": [], "removed": ["a"], "missing": []}));
    let shown: Value = server.raw("GET", "/namespaces/ns").send().await.unwrap().json().await.unwrap();
    assert_eq!(shown, json!({"namespace": ["ns"], "properties": {"b": "2"}}));

    create(&client, "t").await;
    let full = server.raw("DELETE", "/namespaces/ns").send().await.unwrap();
    assert_eq!(full.status(), 409);
    assert_eq!(full.json::<Value>().await.unwrap()["error"]["type"], "NamespaceNotEmptyException");
    client.drop_table("main", &ident("t")).await.unwrap();
    assert_eq!(status("DELETE", "/namespaces/ns").await, 204);
    assert_eq!(status("DELETE", "/namespaces/ns").await, 404);
}

#[tokio::test]
async fn a_renamed_table_keeps_its_identity() {
    let server = Server::start().await;
    let client = server.client().await;
    let table = create(&client, "a").await;
    create(&client, "taken").await;
    let rename = |to: Value| {
        let body = json!({"source": {"namespace": ["ns"], "name": "a"}, "destination": to});
        let request = server.raw("POST", "/tables/rename").json(&body);
        async move { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(rename(json!({"namespace": ["ns"], "name": "taken"})).await, 409);
    assert_eq!(rename(json!({"namespace": ["none"], "name": "b"})).await, 404);
    assert_eq!(rename(json!({"namespace": ["ns"], "name": "b"})).await, 204);
    assert_eq!(client.load_table("main", &ident("b")).await.unwrap(), table);
    assert_eq!(rename(json!({"namespace": ["ns"], "name": "c"})).await, 404);

    let request = server.raw("POST", "/namespaces/ns/tables/b/unregister");
    let last: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(last["metadata-location"].as_str(), table.metadata_location.as_deref());
    let body = json!({"name": "again", "metadata-location": table.metadata_location, "overwrite": false});
    let answer = server.raw("POST", "/namespaces/ns/register").json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(client.load_table("main", &ident("again")).await.unwrap().metadata, table.metadata);
}

/// A page costs at most so much: it may be short, and says where to go on.
#[tokio::test]
async fn few_views_among_many_tables_are_found_by_paging() {
    let server = Server::start().await;
    let client = server.client().await;
    create(&client, "t").await;
    let body = |numbers: std::ops::Range<usize>| {
        let operations: Vec<Value> = numbers
            .map(|number| {
                // The view comes last.
                let (kind, name) = match number {
                    25_000 => ("ICEBERG_VIEW", "v".to_owned()),
                    _ => ("ICEBERG_TABLE", format!("t{number:05}")),
                };
                json!({"type": "PUT", "key": {"elements": ["ns", name]},
                    "content": {"type": kind, "metadataLocation": "none"}})
            })
            .collect();
        json!({"commitMeta": {"message": "many"}, "operations": operations})
    };
    let token = server.token(firn_auth::Role::Maintainer, &[]);
    let url = format!("{}/nessie/acme/api/v2/trees/main/history/commit", server.url);
    for start in (0..=25_000).step_by(5000) {
        let body = body(start..(start + 5000).min(25_001));
        let answer = reqwest::Client::new().post(&url).bearer_auth(&token).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }
    let get = async |path: &str| server.raw("GET", path).send().await.unwrap().json::<Value>().await.unwrap();
    let whole = get("/namespaces/ns/views").await;
    let view = json!([{"namespace": ["ns"], "name": "v"}]);
    assert_eq!(whole["identifiers"], view);
    let first = get("/namespaces/ns/views?pageToken=&pageSize=10").await;
    assert_eq!(first["identifiers"], json!([]));
    let next = first["next-page-token"].as_str().expect("there is more to look at");
    let second = get(&format!("/namespaces/ns/views?pageToken={next}&pageSize=10")).await;
    assert_eq!((&second["identifiers"], second["next-page-token"].as_str()), (&view, None));
}
