use elasticsearch::{
    BulkOperation, BulkParts, Elasticsearch, SearchParts,
    http::transport::Transport,
    params::{Refresh, VersionType},
};
use firn_tests::OpenSearch;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn opensearch_keeps_the_newest_version_of_a_finding() {
    let server = OpenSearch::start().await.unwrap();
    let client = Elasticsearch::new(Transport::single_node(&server.url()).unwrap());
    let write = async |version: i64, status: &str| -> Value {
        let finding = json!({"host": "host-1", "status": status});
        let operation: BulkOperation<Value> = BulkOperation::index(finding)
            .id("acme:host-1:disk")
            .version(version)
            .version_type(VersionType::External)
            .into();
        let answer = client
            .bulk(BulkParts::Index("findings"))
            .refresh(Refresh::True)
            .body(vec![operation])
            .send()
            .await;
        answer.unwrap().json().await.unwrap()
    };
    assert_eq!(write(2, "open").await["items"][0]["index"]["status"], 201);
    assert_eq!(write(1, "pending").await["items"][0]["index"]["status"], 409);
    assert_eq!(write(3, "resolved").await["items"][0]["index"]["status"], 200);

    let query = json!({"query": {"match": {"host": "host-1"}}});
    let answer = client.search(SearchParts::Index(&["findings"])).body(query).send().await.unwrap();
    let found: Value = answer.json().await.unwrap();
    assert_eq!(found["hits"]["total"]["value"], 1);
    assert_eq!(found["hits"]["hits"][0]["_source"]["status"], "resolved");
}
