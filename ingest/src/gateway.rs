//! `POST /v1/tenants/{tenant}/inventory`: inventories in, 202 once the log has them durably.
//!
//! The gateway refuses what it can't route: a record that is no object or has no `host_id`. Everything else is accepted and
//! judged by the worker, so that a record is never lost between two opinions. The tenant comes from the token, never from
//! the payload. Memory is bounded: bytes are reserved before they are held, and a request that finds no room gets 503.

mod agents;
mod answer;
mod basic;
mod batch;
mod body;
mod budget;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use firn_auth::{Action, Guard, Principal, TenantName};
use firn_catalog_client::CatalogClient;
use firn_inventory::{Format, tables::INVENTORY_TOPIC};
use firn_runtime::{StageState, StatusBoard, http::authorization, rate::RateLimit, trace};
use firn_stream::{Log, StreamErrorKind};

use answer::{Outcome, Refusal};
pub(crate) use answer::{UploadAccepted, UploadResults};
use basic::BasicAuth;
use batch::{Batch, Receipt, Routed};
use budget::Budget;

/// Settings of the gateway.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Largest body as it is sent, compressed or not. Default 16 MiB.
    pub max_body_bytes: usize,
    /// Largest body after decompression. Default 64 MiB.
    pub max_decoded_bytes: usize,
    /// Largest single record. Default 900,000 bytes, below what the log takes.
    pub max_record_bytes: usize,
    /// Most records of one request. Default 10,000.
    pub max_records: usize,
    /// Bytes of all requests that are held at once. Default 256 MiB.
    pub max_in_flight_bytes: usize,
    /// Records a tenant may send per second on average, with ten seconds' worth at once; unlimited if `None` (the default).
    pub tenant_records_per_s: Option<u32>,
    /// How long a body may take to arrive. Default 60 s.
    pub body_timeout: Duration,
    /// How long the log may take to acknowledge. Default 30 s.
    pub append_timeout: Duration,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            max_body_bytes: 16 << 20,
            max_decoded_bytes: 64 << 20,
            max_record_bytes: 900_000,
            max_records: 10_000,
            max_in_flight_bytes: 256 << 20,
            tenant_records_per_s: None,
            body_timeout: Duration::from_secs(60),
            append_timeout: Duration::from_secs(30),
        }
    }
}

/// The gateway. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
}

struct Shared {
    config: GatewayConfig,
    log: Arc<dyn Log>,
    guard: Guard,
    basic: BasicAuth,
    board: StatusBoard,
    budget: Budget,
    rate: RateLimit,
}

impl Gateway {
    /// A gateway that writes to `log`'s topic `inventory`. `catalog` knows the clients that prove themselves by a secret.
    #[must_use]
    pub fn new(
        config: GatewayConfig,
        log: Arc<dyn Log>,
        guard: impl Into<Guard>,
        catalog: CatalogClient,
        board: StatusBoard,
    ) -> Self {
        let budget = Budget::new(config.max_in_flight_bytes);
        board.update("gateway", "*", |status| status.state = StageState::Running);
        let basic = BasicAuth::new(catalog);
        Self {
            shared: Arc::new(Shared {
                config,
                log,
                guard: guard.into(),
                basic,
                board,
                budget,
                rate: RateLimit::default(),
            }),
        }
    }

    /// `/v1/tenants/{tenant}/inventory`, and `/v1/tenants/{tenant}/agents/ocs` and `…/glpi`.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/v1/tenants/{tenant}/inventory", post(upload))
            .route("/v1/tenants/{tenant}/agents/ocs", post(agents::ocs))
            .route("/v1/tenants/{tenant}/agents/glpi", post(agents::glpi))
            .with_state(self.clone())
    }
}

#[derive(serde::Deserialize, utoipa::IntoParams)]
pub(crate) struct UploadQuery {
    /// The records' format; Firn's own if absent.
    format: Option<String>,
}

async fn upload(
    State(gateway): State<Gateway>,
    Path(tenant): Path<String>,
    Query(query): Query<UploadQuery>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let began = Instant::now();
    let answered = gateway.shared.upload(&tenant, &query, &headers, body).await;
    metrics::histogram!("firn_gateway_upload_seconds").record(began.elapsed().as_secs_f64());
    answered.unwrap_or_else(IntoResponse::into_response)
}

impl Shared {
    async fn upload(
        &self,
        tenant: &str,
        query: &UploadQuery,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Refusal> {
        let (tenant, principal) = self.authorize(tenant, headers).await?;
        let format = query.format.as_deref().map_or(Ok(Format::Native), str::parse::<Format>);
        let format = format.map_err(|error| Refusal::unsupported(error.to_string()))?;
        self.accept(tenant, &principal, format, headers, body).await
    }

    async fn authorize(&self, tenant: &str, headers: &HeaderMap) -> Result<(TenantName, Principal), Refusal> {
        let principal = match authorization(headers).and_then(basic::credentials) {
            Some(credentials) => self.basic.principal(&credentials, &self.guard).await?,
            None => self.guard.authenticate(headers).await?,
        };
        let access = self.guard.let_in(principal, headers, tenant, Action::Upload).await?;
        Ok((access.tenant().clone(), access.principal().clone()))
    }

    async fn accept(
        &self,
        tenant: TenantName,
        principal: &Principal,
        format: Format,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Refusal> {
        let form = body::Form::of(headers)?;
        let mut room = self.budget.reservation();
        let sent = body::read(body, headers, &self.config, &mut room).await?;
        let (limit, max_records) = (self.config.max_decoded_bytes, self.config.max_records);
        let receipt = self.receipt(tenant.clone(), principal);
        let work = move || {
            let decoded = body::decompress(form.encoding, sent, limit, &mut room)?;
            let batch = Batch::route(&decoded, form.single, format, max_records, &receipt)?;
            Ok((batch, room))
        };
        let (batch, room) = off_the_async_threads(work).await?;
        let outcomes = self.take(&tenant, batch).await?;
        drop(room);
        answer::respond(form.single, &outcomes)
    }

    fn receipt(&self, tenant: TenantName, principal: &Principal) -> Receipt {
        Receipt {
            traceparent: trace::traceparent(),
            tenant,
            bound_to: principal.claims.host.clone(),
            received_at_us: chrono::Utc::now().timestamp_micros(),
            max_record_bytes: self.config.max_record_bytes,
        }
    }

    /// Puts a batch into the log, as far as the tenant's rate allows.
    async fn take(&self, tenant: &TenantName, batch: Batch) -> Result<Vec<Outcome>, Refusal> {
        if let Some(per_s) = self.config.tenant_records_per_s {
            self.rate.take(tenant.as_str(), per_s, batch.len()).map_err(Refusal::too_fast)?;
        }
        let outcomes = self.append(batch).await;
        self.count(tenant, &outcomes);
        Ok(outcomes)
    }

    async fn append(&self, batch: Batch) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut records = Vec::with_capacity(batch.len());
        for routed in batch.into_records() {
            match routed {
                Routed::Record(record) => {
                    outcomes.push(None);
                    records.push(record);
                }
                Routed::Refused(status, reason) => outcomes.push(Some(Outcome::Refused { status, reason })),
            }
        }
        let count = records.len();
        let appended = async { if count == 0 { Vec::new() } else { self.log.append(records).await } };
        let results = tokio::time::timeout(self.config.append_timeout, appended).await;
        let mut results = results.map(Vec::into_iter).ok();
        // One line per request: a full disk would otherwise fill itself further with a line per record.
        let mut failures = Vec::new();
        let mut next = || match &mut results {
            None => Outcome::unknown("the log did not acknowledge in time: the record may be stored"),
            Some(results) => match results.next() {
                Some(Ok(_)) => Outcome::Accepted,
                Some(Err(error)) if error.kind == StreamErrorKind::TooLarge => {
                    Outcome::Refused { status: StatusCode::PAYLOAD_TOO_LARGE, reason: error.to_string() }
                }
                Some(Err(error)) => {
                    failures.push(error);
                    Outcome::unknown("the log could not be written")
                }
                None => Outcome::unknown("the log gave no answer for this record"),
            },
        };
        let outcomes = outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(&mut next)).collect();
        if let Some(error) = failures.first() {
            let records = failures.len();
            tracing::warn!(topic = INVENTORY_TOPIC, records, %error, "the log did not take records");
        }
        outcomes
    }

    fn count(&self, tenant: &TenantName, outcomes: &[Outcome]) {
        let accepted = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Accepted)).count() as u64;
        let refused = outcomes.len() as u64 - accepted;
        let labelled = |outcome| [("tenant", tenant.to_string()), ("outcome", String::from(outcome))];
        metrics::counter!("firn_gateway_records_total", &labelled("accepted")).increment(accepted);
        metrics::counter!("firn_gateway_records_total", &labelled("refused")).increment(refused);
        self.board.update("gateway", tenant.as_str(), |status| {
            status.state = StageState::Running;
            *status.totals.entry("records".into()).or_default() += accepted;
            *status.totals.entry("refused".into()).or_default() += refused;
            if accepted > 0 {
                status.fresh_until_ms = Some(chrono::Utc::now().timestamp_millis());
            }
        });
    }
}

/// Decompression and parsing take the CPU's time, not the network's.
async fn off_the_async_threads<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let crashed = |_| Refusal::internal("the gateway could not read the body; its log says why");
    tokio::task::spawn_blocking(work).await.map_err(crashed)?
}

#[cfg(test)]
mod tests;
