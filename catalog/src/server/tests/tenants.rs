//! The life of a tenant, from its creation to its purge.

use std::time::Duration;

use firn_auth::{Claims, Role};
use firn_catalog_client::{ClientErrorKind, LayerRetention, SuspensionRequest, TenantCreate, TenantUpdate};

use super::harness::{Server, create, ident};

#[tokio::test]
async fn what_a_tenant_is_like_is_checked_kept_and_changed_by_an_operator() {
    let server = Server::start().await;
    let operator = server.operator();
    let request = TenantCreate {
        name: "new".to_owned(),
        region: Some("eu-central-1".to_owned()),
        classifications: vec!["GDPR".to_owned()],
        tags: [("team".to_owned(), "blue".to_owned())].into(),
        storage_profile: Some("cold".to_owned()),
        retention: LayerRetention { bronze_days: Some(90), ..LayerRetention::default() },
        ..TenantCreate::default()
    };
    let made = operator.create_tenant(&request).await.unwrap();
    assert_eq!((made.tags["team"].as_str(), made.retention.bronze_days), ("blue", Some(90)));
    assert_eq!(made.storage_profile.as_deref(), Some("cold"));
    let change = TenantUpdate {
        tags: Some([("team".to_owned(), "red".to_owned())].into()),
        ..TenantUpdate::default()
    };
    let changed = operator.tenant("new").update(&change).await.unwrap();
    assert_eq!(
        (changed.tags["team"].as_str(), changed.classifications.as_slice()),
        ("red", &["GDPR".to_owned()][..])
    );
    assert_eq!(server.client_as(Role::Admin).update(&change).await.unwrap_err().status, Some(403));

    let odd = |edit: fn(&mut TenantCreate)| {
        let mut odd = TenantCreate { name: "odd".to_owned(), ..TenantCreate::default() };
        edit(&mut odd);
        odd
    };
    for odd in [
        odd(|odd| odd.name = "Odd".to_owned()),
        odd(|odd| odd.name = "a/b".to_owned()),
        odd(|odd| odd.name = "a%2fb".to_owned()),
        odd(|odd| odd.name = "-a".to_owned()),
        odd(|odd| odd.name = "a".repeat(64)),
        odd(|odd| odd.region = Some("../x".to_owned())),
        odd(|odd| odd.classifications = vec!["a b".to_owned()]),
        odd(|odd| odd.storage_profile = Some("../x".to_owned())),
        odd(|odd| drop(odd.tags.insert("aws:x".to_owned(), String::new()))),
        odd(|odd| drop(odd.tags.insert("a\u{0}".to_owned(), String::new()))),
        odd(|odd| odd.retention.gold_days = Some(0)),
        odd(|odd| odd.retention.classes = [("silver.secret".to_owned(), 3)].into()),
        odd(|odd| odd.retention.classes = [("silver.personal".to_owned(), 0)].into()),
    ] {
        let error = operator.create_tenant(&odd).await.unwrap_err();
        assert_eq!(error.kind, ClientErrorKind::Invalid, "{odd:?}: {error}");
    }
    assert_eq!(operator.tenant("odd").tenant().await.unwrap_err().kind, ClientErrorKind::NotFound);
}

#[tokio::test]
async fn a_suspended_tenant_is_refused_everywhere_until_it_is_resumed() {
    let server = Server::start().await;
    let client = server.client().await;
    create(&client, "t").await;
    let operator = server.operator();
    let acme = operator.tenant("acme");
    assert_eq!(client.suspend_tenant("").await.unwrap_err().status, Some(403));
    assert_eq!(acme.suspend_tenant("unpaid").await.unwrap().state, "suspended");
    let refused = [
        client.load_table("main", &ident("t")).await.map(drop).unwrap_err(),
        client.list_namespaces("main", &[]).await.map(drop).unwrap_err(),
        client.references().await.map(drop).unwrap_err(),
        client.events(0, 10, 0).await.map(drop).unwrap_err(),
        client.tenant().await.map(drop).unwrap_err(),
        client.suspend("ingest", &SuspensionRequest::default()).await.map(drop).unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.status, Some(403), "{error}");
        assert!(error.message.contains("suspended (unpaid)"), "{error}");
    }
    // Operators see it, and change no data of it; its ingest stands still.
    assert_eq!(acme.load_table("main", &ident("t")).await.map(drop).map_err(|error| error.status), Ok(()));
    assert_eq!(acme.drop_table("main", &ident("t")).await.unwrap_err().status, Some(403));
    let standing: Vec<String> =
        operator.suspensions().await.unwrap().into_iter().map(|suspension| suspension.tenant).collect();
    assert_eq!(standing, ["acme"]);
    let mine = server.server_client(server.token(Role::Admin, &[])).tenants().await.unwrap();
    assert!(mine.is_empty());

    assert_eq!(acme.resume_tenant().await.unwrap().state, "active");
    client.load_table("main", &ident("t")).await.unwrap();
    assert!(operator.suspensions().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_deleted_tenant_comes_back_until_it_is_purged_and_its_name_never() {
    let server = Server::start().await;
    let client = server.client().await;
    create(&client, "t").await;
    let operator = server.operator();
    let acme = operator.tenant("acme");
    assert_eq!(client.delete_tenant(None).await.unwrap_err().status, Some(403));
    assert_eq!(acme.purge_tenant().await.unwrap_err().kind, ClientErrorKind::Conflict, "it is in use");
    acme.delete_tenant(Some(3600)).await.unwrap();
    let error = client.load_table("main", &ident("t")).await.map(drop).unwrap_err();
    assert!(error.status == Some(403) && error.message.contains("was deleted"), "{error}");
    assert_eq!(acme.load_table("main", &ident("t")).await.map(drop).unwrap_err().status, Some(403));
    let names = |tenants: Vec<firn_catalog_client::Tenant>| {
        tenants.into_iter().map(|tenant| tenant.name).collect::<Vec<_>>()
    };
    assert_eq!(names(operator.tenants().await.unwrap()), ["other"]);
    assert_eq!(names(operator.all_tenants().await.unwrap()), ["acme", "other"]);
    let early = acme.purge_tenant().await.unwrap_err();
    assert!(early.kind == ClientErrorKind::Conflict && early.message.contains("restored until"), "{early}");
    assert!(server.catalog.purge_due().await.unwrap().is_empty());
    acme.restore_tenant().await.unwrap();
    client.load_table("main", &ident("t")).await.unwrap();

    acme.delete_tenant(Some(0)).await.unwrap();
    let again = TenantCreate { name: "acme".to_owned(), ..TenantCreate::default() };
    assert_eq!(operator.create_tenant(&again).await.unwrap_err().kind, ClientErrorKind::Conflict);
    assert!(server.metadata_files() > 0);
    assert_eq!(server.catalog.purge_due().await.unwrap(), ["acme"]);
    assert_eq!(server.metadata_files(), 0);
    let tenant = acme.tenant().await.unwrap();
    assert_eq!((tenant.state.as_str(), tenant.tags.len()), ("purged", 0));
    let taken = operator.create_tenant(&again).await.unwrap_err();
    assert!(taken.kind == ClientErrorKind::Conflict && taken.message.contains("aren't reused"), "{taken}");
    assert_eq!(acme.restore_tenant().await.unwrap_err().kind, ClientErrorKind::Conflict);
    assert_eq!(client.list_namespaces("main", &[]).await.unwrap_err().status, Some(403));
    // Purging again changes nothing, and the other tenant is as it was.
    acme.purge_tenant().await.unwrap();
    let mut claims = Claims::new("bob", Duration::from_secs(600));
    claims.tenants.insert("other".parse().unwrap(), Role::Maintainer);
    let other = server.server_client(server.key.sign(&claims)).tenant("other");
    other.ensure_namespace("main", &["ns".to_owned()]).await.unwrap();
}
