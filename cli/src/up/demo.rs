//! `firn up --demo`: the simulator's fleet reports to this server, through the gateway like anyone else.

use std::time::Duration;

use chrono::Utc;
use firn_auth::{Claims, Role, Scope, SigningKey};
use firn_catalog_client::TokenSource;
use firn_runtime::tls;
use tokio_util::sync::CancellationToken;

use crate::{
    connection::{FIRST_TENANT, MintedTokens},
    server::Server,
    simulate::Fleet,
};

const SEED: u64 = 1;
const DEVICES: u32 = 200;
/// The first round goes out at once, so that there is something to see; then a quiet trickle.
const BATCH: usize = 50;
const PAUSE: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(30);

/// Uploads until `shutdown`.
pub(super) async fn run(server: Server, shutdown: CancellationToken) {
    let url = format!("{}/v1/tenants/{FIRST_TENANT}/inventory", server.own_url);
    let tokens = tokens(server.key.clone());
    let http = match tls::inside().timeout(TIMEOUT).build() {
        Ok(http) => http,
        Err(error) => return tracing::error!(%error, "the demo can't start"),
    };
    let mut fleet = Fleet::new(SEED, DEVICES);
    let first_round = usize::try_from(DEVICES).unwrap_or(usize::MAX).div_ceil(BATCH);
    for round in 0_usize.. {
        let body = batch(&mut fleet);
        let request =
            http.post(&url).bearer_auth(tokens.token()).header("content-type", "application/x-ndjson");
        let answer = request.body(body).send().await.and_then(reqwest::Response::error_for_status);
        if let Err(error) = answer {
            tracing::warn!(%error, "the demo's upload failed; going on with the next");
        }
        let pause = if round + 1 < first_round { Duration::ZERO } else { PAUSE };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Records as NDJSON.
fn batch(fleet: &mut Fleet) -> Vec<u8> {
    let mut lines = Vec::new();
    for _ in 0..BATCH {
        let record = fleet.next_record(Utc::now());
        if serde_json::to_writer(&mut lines, &record).is_ok() {
            lines.push(b'\n');
        }
    }
    lines
}

/// The demo may do what an agent may: upload into the first tenant.
fn tokens(key: SigningKey) -> MintedTokens {
    MintedTokens::new(key, |key, ttl| {
        let tenants = FIRST_TENANT.parse().map(|tenant| (tenant, Role::Agent)).into_iter().collect();
        let scopes = vec![Scope::InventoryWrite];
        key.sign(&Claims { tenants, scopes, ..Claims::new("demo", ttl) })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn batch_is_ndjson_that_firn_takes() {
        let lines = batch(&mut Fleet::new(SEED, 3));
        let decoded: Vec<_> = lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(firn_inventory::decode)
            .collect();
        assert_eq!(decoded.len(), BATCH);
        assert!(decoded.iter().all(Result::is_ok));
    }

    #[test]
    fn demo_may_upload_and_nothing_else() {
        let key = SigningKey::generate();
        let verifier = key.verifier();
        let principal = verifier.verify(&tokens(key).token()).unwrap();
        let tenant = FIRST_TENANT.parse().unwrap();
        assert!(principal.may_upload(&tenant) && !principal.may(&tenant, Role::Reader));
    }
}
