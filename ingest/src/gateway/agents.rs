//! Agents with a protocol of their own: `POST /v1/tenants/{tenant}/agents/ocs`, for OCS Inventory's, FusionInventory's and
//! GLPI's in its legacy mode, and `…/agents/glpi` for GLPI's.
//!
//! They ask first whether to send (PROLOG, contact), then send, as XML or JSON that is compressed with zlib whatever the headers
//! say. They can't send bearer tokens: each has the id and secret of a client whose only scope is `inventory:write`. An answer of 200
//! means, as everywhere, that the log has the inventory durably; after any other answer they come again at their next run.

use std::io::Write;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use firn_auth::{Principal, TenantName};
use firn_inventory::AgentRequest;
use serde_json::{Value, json};

use super::{
    Gateway, Shared,
    answer::{self, Refusal},
    batch::Batch,
    body::{self, Encoding},
    off_the_async_threads,
};

/// Send now, and come again in a day.
const PROLOG_REPLY: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
    <REPLY><RESPONSE>SEND</RESPONSE><PROLOG_FREQ>24</PROLOG_FREQ></REPLY>";

/// Taken.
const INVENTORY_REPLY: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
    <REPLY><RESPONSE>NO_ACCOUNT_UPDATE</RESPONSE></REPLY>";

/// Hours after which an agent of GLPI's comes again.
const EXPIRATION_H: u32 = 24;

/// A document is held as text, parsed, as a tree and as a record.
const COPIES: usize = 4;

/// What an agent speaks.
#[derive(Clone, Copy)]
enum Protocol {
    Ocs,
    Glpi,
}

pub(super) async fn ocs(
    State(gateway): State<Gateway>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    gateway.shared.agent(Protocol::Ocs, &tenant, &headers, body).await
}

pub(super) async fn glpi(
    State(gateway): State<Gateway>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    gateway.shared.agent(Protocol::Glpi, &tenant, &headers, body).await
}

impl Shared {
    async fn agent(&self, protocol: Protocol, tenant: &str, headers: &HeaderMap, body: Body) -> Response {
        // They send everything before they read an answer, and only after a refusal do they say who they are.
        let (tenant, principal) = match self.authorize(tenant, headers).await {
            Ok(known) => known,
            Err(refusal) => {
                body::discard(body, self.config.max_body_bytes).await;
                return challenge(protocol.refuse(refusal));
            }
        };
        let answered = self.answer(protocol, tenant, &principal, headers, body).await;
        answered.unwrap_or_else(|refusal| protocol.refuse(refusal))
    }

    async fn answer(
        &self,
        protocol: Protocol,
        tenant: TenantName,
        principal: &Principal,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Refusal> {
        let mut room = self.budget.reservation();
        let sent = body::read(body, headers, &self.config, &mut room).await?;
        let encoding = Encoding::sniff(&sent);
        let limit = self.config.max_decoded_bytes;
        let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let work = move || {
            let decoded = body::decompress(encoding, sent, limit, &mut room)?;
            room.grow(decoded.len().saturating_mul(COPIES))?;
            let request = match protocol {
                Protocol::Ocs => AgentRequest::parse(&decoded, agent.as_deref()),
                Protocol::Glpi => AgentRequest::parse_glpi(&decoded),
            };
            Ok((request.map_err(|error| Refusal::unusable(error.to_string()))?, room))
        };
        let (request, _room) = off_the_async_threads(work).await?;
        let taken = match request {
            AgentRequest::Prolog => false,
            AgentRequest::Inventory { record, source } => {
                let batch = Batch::of_one(record, source, &self.receipt(tenant.clone(), principal));
                let outcomes = self.take(&tenant, batch).await?;
                answer::respond(true, &outcomes)?;
                true
            }
        };
        match (protocol, taken) {
            (Protocol::Ocs, false) => reply(encoding, PROLOG_REPLY),
            (Protocol::Ocs, true) => reply(encoding, INVENTORY_REPLY),
            (Protocol::Glpi, false) => Ok(Json(contact_reply()).into_response()),
            (Protocol::Glpi, true) => {
                Ok(Json(json!({"status": "ok", "expiration": EXPIRATION_H})).into_response())
            }
        }
    }
}

impl Protocol {
    fn refuse(self, refusal: Refusal) -> Response {
        match self {
            Self::Ocs => refusal.into_response(),
            Self::Glpi => refusal.into_glpi_response(),
        }
    }
}

/// Send inventories, do nothing else, and come again in a day. The version is that of the format.
fn contact_reply() -> Value {
    json!({
        "status": "ok",
        "expiration": EXPIRATION_H,
        "tasks": {"inventory": {"server": "glpi", "version": "10.0.0"}},
        "disabled": ["collect", "deploy", "esx", "netdiscovery", "netinventory", "remoteinventory", "wakeonlan"],
    })
}

/// In the encoding of the request, since that is what the agent reads.
fn reply(encoding: Encoding, xml: &'static str) -> Result<Response, Refusal> {
    let internal = |_| Refusal::internal("the answer can't be compressed");
    let compression = flate2::Compression::default();
    let (media_type, bytes) = match encoding {
        Encoding::Zlib => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), compression);
            encoder.write_all(xml.as_bytes()).map_err(internal)?;
            ("application/x-compress-zlib", encoder.finish().map_err(internal)?)
        }
        Encoding::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), compression);
            encoder.write_all(xml.as_bytes()).map_err(internal)?;
            ("application/x-compress-gzip", encoder.finish().map_err(internal)?)
        }
        Encoding::Identity | Encoding::Zstd => ("application/xml", xml.as_bytes().to_vec()),
    };
    Ok(([(header::CONTENT_TYPE, media_type)], bytes).into_response())
}

fn challenge(mut response: Response) -> Response {
    if response.status() == axum::http::StatusCode::UNAUTHORIZED {
        let basic = HeaderValue::from_static("Basic realm=\"firn\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
    }
    response
}
