//! SQL over a whole lake.

use datafusion::{arrow::util::pretty::pretty_format_batches, prelude::SessionContext};
use expect_test::expect;
use firn_table::{ReferenceSpec, lake_session};

use crate::harness::{DAY, Lake, samples};

async fn session(lake: &Lake, reference: &str) -> SessionContext {
    let spec = ReferenceSpec { reference: reference.to_owned() };
    lake_session(&lake.client, &lake.file_io, &spec, 64 << 20).await.unwrap()
}

async fn run(session: &SessionContext, sql: &str) -> String {
    let batches = session.sql(sql).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

#[tokio::test]
async fn tables_of_all_namespaces_are_joined_by_name() {
    let lake = Lake::start().await;
    let (one, two) = (lake.samples("one", &[]).await, lake.samples("two", &[]).await);
    lake.append(&one, &samples(&[("a", DAY, 1), ("b", DAY, 2)])).await;
    lake.append(&two, &samples(&[("b", DAY, 20)])).await;
    let session = session(&lake, "main").await;
    expect![[r#"
        +---------+-------+-------+
        | host_id | value | value |
        +---------+-------+-------+
        | b       | 2     | 20    |
        +---------+-------+-------+"#]]
    .assert_eq(
        &run(
            &session,
            "SELECT host_id, o.value, t.value FROM bronze.one o JOIN bronze.two t USING (host_id)",
        )
        .await,
    );
    expect![[r#"
        +--------------+------------+
        | table_schema | table_name |
        +--------------+------------+
        | bronze       | one        |
        | bronze       | two        |
        +--------------+------------+"#]]
    .assert_eq(
        &run(
            &session,
            "SELECT table_schema, table_name FROM information_schema.tables WHERE table_schema = 'bronze' ORDER BY 2",
        )
        .await,
    );
    let error = session.sql("SELECT * FROM bronze.three").await.unwrap_err().to_string();
    assert!(error.contains("three"), "{error}");
}

#[tokio::test]
async fn a_session_sees_the_state_it_began_with() {
    let lake = Lake::start().await;
    let table = lake.samples("pinned", &[]).await;
    lake.append(&table, &samples(&[("a", DAY, 1)])).await;
    let before = session(&lake, "main").await;
    lake.client.create_branch("dev", "main").await.unwrap();
    lake.append(&table, &samples(&[("b", DAY, 2)])).await;

    let count = "SELECT count(*) AS n FROM bronze.pinned";
    let one = expect![[r#"
        +---+
        | n |
        +---+
        | 1 |
        +---+"#]];
    one.assert_eq(&run(&before, count).await);
    one.assert_eq(&run(&session(&lake, "dev").await, count).await);
    expect![[r#"
        +---+
        | n |
        +---+
        | 2 |
        +---+"#]]
    .assert_eq(&run(&session(&lake, "main").await, count).await);
    let spec = ReferenceSpec { reference: "nowhere".to_owned() };
    assert!(lake_session(&lake.client, &lake.file_io, &spec, 64 << 20).await.is_err());
}
