use firn_tests::{Postgres, until};

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_rows_over_a_crash_and_a_replica_takes_over() {
    let mut primary = Postgres::start().await.unwrap();
    primary.psql("CREATE TABLE t (n INTEGER); INSERT INTO t SELECT generate_series(1, 1000)").unwrap();
    let replica = primary.replica().await.unwrap();

    primary.kill().unwrap();
    primary.restart().await.unwrap();
    assert_eq!(primary.psql("SELECT count(*) FROM t").unwrap(), "1000");

    primary.stop().await.unwrap();
    replica.psql("SELECT pg_promote()").unwrap();
    until("the replica takes writes", std::time::Duration::from_secs(60), async || {
        replica.psql("INSERT INTO t VALUES (1001)")
    })
    .await
    .unwrap();
    assert_eq!(replica.psql("SELECT count(*) FROM t").unwrap(), "1001");
}
