//! Files that writers left behind: found in a table's folder, and never taken for needed ones or the other way round.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use firn_catalog_client::{GcReport, GcTable, iceberg::TableIdent};
use firn_tests::SeaweedFs;
use futures::TryStreamExt as _;

use super::{Settings, Step, TENANT, World, collect, key, settings};
use crate::{
    S3Config,
    gc::{folders_of, run::remove_unchanged},
    storage::StoredFile,
};

fn table(name: &str, folders: &[&str]) -> GcTable {
    GcTable {
        ident: TableIdent { namespace: Vec::new(), name: name.to_owned() },
        reference: "main".to_owned(),
        folders: folders.iter().map(|folder| (*folder).to_owned()).collect(),
    }
}

/// The folder of a table of `main`.
fn folder(world: &World, number: u8) -> String {
    let (_, head) = world.branch(0);
    world.versions[&world.states[&head][&key(number)]].folder.clone()
}

async fn orphans(world: &World, table: &GcTable, age: TimeDelta) -> GcReport {
    let folders = folders_of(&world.state, TENANT, table).await.unwrap();
    let settings = Settings { folders: Some(folders), ..settings(age) };
    let report = collect(&world.state, TENANT, &settings).await.unwrap();
    assert_eq!((report.objects_kept, report.objects_removed, report.files_foreign), (0, 0, 0));
    report
}

/// Locations as any server on S3 or local files lists them.
async fn listed(world: &World) -> BTreeSet<String> {
    let files = world.state.storage.list(TENANT).map_ok(|file| file.location.to_string());
    files.try_collect().await.unwrap()
}

async fn only_one_tables_orphans_go(mut world: World) {
    for number in [1, 2] {
        world.take(&Step::Create { branch: 0, table: number }).await;
        world.take(&Step::Append { branch: 0, table: number }).await;
    }
    world.take(&Step::Abandon { table: 1 }).await;
    let (mine, theirs) = (folder(&world, 1), folder(&world, 2));
    let before = listed(&world).await;
    let left = [format!("{mine}/data/at=10%3A00/left behind.parquet"), format!("{mine}/metadata/left.avro")];
    for location in left.iter().chain([&format!("{theirs}/data/left.parquet")]) {
        world.write(location, Bytes::from_static(b"rows")).await;
    }
    let young = orphans(&world, &table("t1", &[]), TimeDelta::hours(1)).await;
    assert_eq!((young.files_young, young.files_removed), (2, 0), "{young:?}");

    let report = orphans(&world, &table("t1", &[]), TimeDelta::zero()).await;
    let removed: BTreeSet<_> = report.removed.iter().map(|file| file.location.clone()).collect();
    assert_eq!(removed, BTreeSet::from(left), "{report:?}");
    assert_eq!((report.files_removed, report.bytes_removed), (2, 8));
    let mut wanted = before;
    wanted.insert(format!("{theirs}/data/left.parquet"));
    assert_eq!(listed(&world).await, wanted, "the other table's and those of no table stay");
}

#[tokio::test]
async fn only_one_tables_orphans_go_from_local_files() {
    only_one_tables_orphans_go(World::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_tables_orphans_go_from_s3() {
    let server = SeaweedFs::start().await.unwrap();
    server.create_bucket("lake").await.unwrap();
    let s3 = S3Config {
        endpoint: Some(server.endpoint()),
        region: Some("us-east-1".to_owned()),
        path_style: true,
        credentials: Some((SeaweedFs::ACCESS_KEY.to_owned(), SeaweedFs::SECRET_KEY.to_owned())),
        ..S3Config::default()
    };
    let world = World::over(tempfile::tempdir().unwrap(), "s3://lake/firn".to_owned(), s3).await;
    only_one_tables_orphans_go(world).await;
}

#[tokio::test]
async fn a_file_is_needed_however_its_location_is_spelled() {
    let mut world = World::new().await;
    world.spell = |data| data.replacen("file:///", "file:/", 1).replace("/data/", "//./data%2f");
    world.take(&Step::Create { branch: 0, table: 1 }).await;
    world.take(&Step::Append { branch: 0, table: 1 }).await;
    let files = world.files();
    assert_eq!(world.collect(false, None).await.files_removed, 0);
    assert_eq!(world.files(), files);
}

#[tokio::test]
async fn nothing_goes_while_a_needed_file_has_a_location_that_cannot_be_read() {
    let mut world = World::new().await;
    world.take(&Step::Create { branch: 0, table: 1 }).await;
    let (_, head) = world.branch(0);
    let mut version = world.versions[&world.states[&head][&key(1)]].clone();
    version.manifests[0].path = version.manifests[0].path.replace("/metadata/", "//metadata/");
    let location = world.snapshot(&version.folder, version.manifests).await;
    world.commit("main", key(1), Some(location)).await;
    world.take(&Step::Abandon { table: 2 }).await;
    let files = world.files();
    let report = collect(&world.state, TENANT, &settings(TimeDelta::zero())).await.unwrap();
    assert_eq!((report.unreadable.len(), report.files_removed), (1, 0), "{report:?}");
    assert!(report.unreadable[0].location.contains("//metadata/"), "{report:?}");
    assert_eq!(world.files(), files);
}

#[tokio::test]
async fn a_file_that_was_written_again_since_it_was_listed_stays() {
    let world = World::new().await;
    let location = world.state.storage.new_location(TENANT, &[], "t");
    world.write(&location, Bytes::from_static(b"rows")).await;
    let files: Vec<StoredFile> = world.state.storage.list(TENANT).try_collect().await.unwrap();
    let [listed] = &files[..] else { panic!("{files:?}") };
    let path = location.strip_prefix("file://").unwrap();
    let limit_ms = Utc::now().timestamp_millis();
    let remove = || remove_unchanged(&world.state.storage, TENANT, listed, limit_ms);

    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
    assert!(!remove().await.unwrap(), "it is younger than when it was listed");
    file.set_len(3).unwrap();
    file.set_modified(UNIX_EPOCH).unwrap();
    assert!(!remove().await.unwrap(), "it has another size");
    file.set_len(4).unwrap();
    file.set_modified(UNIX_EPOCH).unwrap();
    assert!(remove().await.unwrap());
    assert!(!remove().await.unwrap(), "it is gone");
}

#[tokio::test]
async fn folders_are_the_tables_own_and_those_that_the_caller_vouches_for() {
    let mut world = World::new().await;
    world.take(&Step::Create { branch: 0, table: 1 }).await;
    let (mine, root) = (folder(&world, 1), world.state.storage.tenant_root(TENANT).to_string());
    let inner = format!("{mine}/data");
    let elsewhere = format!("{root}/elsewhere");
    let asked = table("t1", &[&inner, &elsewhere, &format!("{elsewhere}/")]);
    let folders = folders_of(&world.state, TENANT, &asked).await.unwrap();
    assert_eq!(folders.iter().map(ToString::to_string).collect::<Vec<_>>(), [mine, elsewhere.clone()]);
    world.write(&format!("{elsewhere}/1.parquet"), Bytes::from_static(b"rows")).await;
    assert_eq!(orphans(&world, &asked, TimeDelta::zero()).await.files_removed, 1);

    let outside = folders_of(&world.state, TENANT, &table("t1", &["file:///etc"])).await.unwrap_err();
    assert!(outside.to_string().contains("outside the tenant's storage"), "{outside}");
    let absent = folders_of(&world.state, TENANT, &table("t9", &[])).await.unwrap_err();
    assert!(absent.to_string().contains("a collection of the whole tenant"), "{absent}");
}
