//! Uploads into the log: how many a core takes, and how long they take at half of what is wanted of it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use axum::serve::ListenerExt as _;
use firn_ingest::{Gateway, GatewayConfig};

use crate::{
    cost::{self, Cost},
    house::House,
    upload::{self, BATCH, UploadArgs, Uploaded},
};

/// Connections that send as fast as answers come.
const BUSY: usize = 16;
/// Connections that send when it is time: more than are ever used at once.
const PUNCTUAL: usize = 64;
/// Half of the 20,000 records a second that are wanted of a core.
const RECORDS_PER_S: f64 = 10_000.0;
const TOKEN_TTL: Duration = Duration::from_secs(3_600);

/// Prints both.
pub(crate) async fn measure(on_kafka: bool, seconds: u64) -> Result<()> {
    let house = House::start(1, on_kafka).await?;
    let address = serve(&house).await?;
    println!("gateway, uploads of {BATCH} records");
    cost::print_headings();
    let mut busy = None;
    let cost = Cost::of(async {
        let uploaded = load(&house, address, 0.0, BUSY, seconds).await?;
        let records = uploaded.records;
        busy = Some(uploaded);
        Ok(records)
    });
    let cost = cost.await?;
    cost::print(&format!("  firn: as fast as answers come to {BUSY} clients"), &cost, None);
    busy.iter().for_each(print);
    let punctual = load(&house, address, RECORDS_PER_S / BATCH as f64, PUNCTUAL, seconds).await?;
    println!("  at {RECORDS_PER_S} records/s, from when each upload was due");
    print(&punctual);
    Ok(())
}

/// Serves a gateway over the house's log.
pub(crate) async fn serve(house: &House) -> Result<SocketAddr> {
    let (log, catalog) = (Arc::clone(&house.log), house.catalog.clone());
    let gateway =
        Gateway::new(GatewayConfig::default(), log, house.key.verifier(), catalog, house.board.clone());
    let routes = firn_runtime::http::with_basics(gateway.router(), Default::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(address)
}

/// Lets another process upload.
pub(crate) async fn load(
    house: &House,
    gateway: SocketAddr,
    rate: f64,
    connections: usize,
    seconds: u64,
) -> Result<Uploaded> {
    let token = house.key.service_token("bench", TOKEN_TTL);
    let tenants = house.tenants;
    let uploaded =
        upload::elsewhere(&UploadArgs { gateway, token, tenants, rate, seconds, connections }).await?;
    ensure!(uploaded.refused == 0, "the gateway refused batches: {uploaded:?}");
    Ok(uploaded)
}

pub(crate) fn print(seen: &Uploaded) {
    let Uploaded { records, wall_s, p50_ms, p99_ms, longest_ms, .. } = seen;
    let per_s = *records as f64 / wall_s;
    println!("    {per_s:.0} records/s; p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, longest {longest_ms:.1} ms");
}
