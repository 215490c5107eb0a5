use firn_tests::SeaweedFs;
use futures::TryStreamExt as _;
use object_store::{
    ObjectStore as _, ObjectStoreExt as _, PutMode, PutPayload, aws::AmazonS3Builder, path::Path,
};

#[tokio::test(flavor = "multi_thread")]
async fn s3_keeps_objects_and_refuses_a_second_create() {
    let server = SeaweedFs::start().await.unwrap();
    server.create_bucket("lake").await.unwrap();
    let store = AmazonS3Builder::new()
        .with_endpoint(server.endpoint())
        .with_allow_http(true)
        .with_region("eu-central-1")
        .with_bucket_name("lake")
        .with_access_key_id(SeaweedFs::ACCESS_KEY)
        .with_secret_access_key(SeaweedFs::SECRET_KEY)
        .build()
        .unwrap();
    let path = Path::from("acme/bronze/inventory/data/1.parquet");
    store.put_opts(&path, PutPayload::from_static(b"rows"), PutMode::Create.into()).await.unwrap();
    let again =
        store.put_opts(&path, PutPayload::from_static(b"other"), PutMode::Create.into()).await.unwrap_err();
    assert!(matches!(again, object_store::Error::AlreadyExists { .. }), "{again}");
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), "rows");

    let listed: Vec<_> = store.list(Some(&Path::from("acme"))).try_collect().await.unwrap();
    assert_eq!(listed.iter().map(|object| &object.location).collect::<Vec<_>>(), [&path]);
    store.delete(&path).await.unwrap();
    assert!(matches!(store.get(&path).await.unwrap_err(), object_store::Error::NotFound { .. }));
}
