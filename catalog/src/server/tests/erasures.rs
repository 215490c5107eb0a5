//! Erasures that outlive the database.

use std::path::PathBuf;

use firn_catalog_client::{ErasureJob, ErasureList, ErasureRequest, ErasureState, Subject, TenantCreate};

use super::harness::Server;
use crate::{Catalog, CatalogConfig, S3Config};

fn request(value: &str) -> ErasureRequest {
    let subject = Subject { column: "owner_email".to_owned(), value: value.to_owned() };
    ErasureRequest { subject, with_hosts: false, dry_run: false, reason: "asked to".to_owned() }
}

/// The server's object store over a database that knows nothing, at its start.
async fn restored(server: &Server, folder: &std::path::Path) -> Catalog {
    let config = CatalogConfig {
        database_url: format!("sqlite:{}", folder.join("restored.db").display()),
        warehouse: server.warehouse(),
        s3: S3Config::default(),
        region: "local".to_owned(),
        cache_bytes: 1 << 20,
        signing_key: server.key.clone(),
        public_url: server.url.clone(),
    };
    let catalog = Catalog::open(config).await.unwrap();
    let tenant = TenantCreate { name: "acme".to_owned(), ..TenantCreate::default() };
    catalog.ensure_tenant(&tenant).await.unwrap();
    catalog
}

async fn jobs_at(server: &Server, catalog: &Catalog) -> Vec<ErasureJob> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = catalog.router();
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let jobs = server.operator_at(&url).erasure_jobs().await.unwrap();
    serving.abort();
    jobs
}

#[tokio::test]
async fn a_database_from_before_an_erasure_learns_of_it_from_the_object_store() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (operator, acme) = (server.operator(), server.operator().tenant("acme"));
    let done = acme.erase(&request("jo@example.org")).await.unwrap();
    let copy = PathBuf::from(server.warehouse().trim_start_matches("file://"))
        .join(format!("acme/_erasures/{}.json", done.id));
    assert!(std::fs::read_to_string(&copy).unwrap().contains("jo@example.org"));
    let mut job = operator.erasure_jobs().await.unwrap().pop().unwrap();
    job.erasure.state = ErasureState::Done;
    acme.keep_erasure(&job).await.unwrap();
    assert!(!std::fs::read_to_string(&copy).unwrap().contains("jo@"), "the value goes with the rows");
    let waiting = acme.erase(&request("al@example.org")).await.unwrap();
    let trial = ErasureRequest { dry_run: true, ..request("ed@example.org") };
    acme.erase(&trial).await.unwrap();

    let catalog = restored(&server, folder.path()).await;
    let recovered = catalog.recover_erasures().await.unwrap();
    let recovered: Vec<_> = recovered.iter().map(|(tenant, count)| (tenant.as_str(), *count)).collect();
    assert_eq!(recovered, [("acme", 2)]);
    assert!(catalog.recover_erasures().await.unwrap().is_empty(), "each is put back once");
    let jobs = jobs_at(&server, &catalog).await;
    let find = |id: &str| jobs.iter().find(|job| job.erasure.id == id).unwrap();
    assert_eq!((find(&done.id).erasure.state, &find(&done.id).value), (ErasureState::Done, &None));
    let open = find(&waiting.id);
    assert_eq!((open.erasure.state, open.value.as_deref()), (ErasureState::Waiting, Some("al@example.org")));
    let list = &ErasureList::of(&jobs)["acme"];
    assert!(list.has("owner_email", "jo@example.org") && list.has("owner_email", "al@example.org"));
    assert!(!list.has("owner_email", "ed@example.org"), "a dry run lists nobody");
}

#[tokio::test]
async fn what_is_done_goes_on_only_for_who_has_the_value() {
    let server = Server::start().await;
    let (operator, acme) = (server.operator(), server.operator().tenant("acme"));
    acme.erase(&request("jo@example.org")).await.unwrap();
    let mut job = operator.erasure_jobs().await.unwrap().pop().unwrap();
    job.erasure.state = ErasureState::Done;
    let done = acme.keep_erasure(&job).await.unwrap();
    for value in [None, Some("al@example.org".to_owned())] {
        let mut again = ErasureJob { value, ..done.clone() };
        again.erasure.state = ErasureState::Running;
        acme.keep_erasure(&again).await.unwrap_err();
    }
    let mut again = ErasureJob { value: Some("jo@example.org".to_owned()), ..done };
    again.erasure.state = ErasureState::Running;
    assert_eq!(acme.keep_erasure(&again).await.unwrap().erasure.state, ErasureState::Running);
}
