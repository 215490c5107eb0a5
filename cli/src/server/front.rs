//! One address of all services, where they run as processes of their own: the gateway serves uploads itself and passes
//! everything else on, so that clients need one URL and a load balancer no rules.
//!
//! Findings are kept by the alerts worker that owns the host's partition. Where several workers run, `alerts.url` names all
//! of them (a name with several addresses): lists are put together, anything else goes to the one that knows it.

mod merge;
mod pass_on;
mod places;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use axum::{
    Router,
    extract::{Request, State},
    response::Response,
    routing::any,
};
use url::Url;

use super::{Server, Service};
use crate::status::{ServerStatus, StageLine};
use places::{Place, Places};

/// A status doesn't wait for a service that hangs.
const STATUS: Duration = Duration::from_secs(3);

/// Where the other services are. Cheap to clone.
#[derive(Clone)]
pub(super) struct Front {
    shared: Arc<Shared>,
}

struct Shared {
    places: Places,
    catalog: Url,
    ingest: Option<Url>,
    promotion: Option<Url>,
    alerts: Option<Url>,
}

impl Front {
    /// The front of a gateway that runs by itself; none in any other process.
    pub(super) fn of(server: &Server) -> Result<Option<Self>> {
        if server.services != [Service::Gateway] {
            return Ok(None);
        }
        let settings = &server.settings;
        let url = |key: &str, text: &Option<String>| {
            let parsed = text.as_deref().map(Url::parse).transpose();
            parsed.with_context(|| format!("{key}: not of the form http://HOST:PORT"))
        };
        let catalog = url("catalog.url", &settings.catalog.url)?.context("catalog.url is needed")?;
        Ok(Some(Self {
            shared: Arc::new(Shared {
                places: Places::new()?,
                catalog,
                ingest: url("ingest.url", &settings.ingest.url)?,
                promotion: url("promotion.url", &settings.promotion.url)?,
                alerts: url("alerts.url", &settings.alerts.url)?,
            }),
        }))
    }

    /// The other services' paths, by who has them; what is nobody else's is the catalog's.
    pub(super) fn router(self) -> Router {
        Router::new()
            .route("/v1/tenants/{tenant}/ingest/{*rest}", any(ingest))
            .route("/v1/tenants/{tenant}/promotions", any(promotion))
            .route("/v1/tenants/{tenant}/models", any(promotion))
            .route("/v1/tenants/{tenant}/findings", any(alerts))
            .route("/v1/tenants/{tenant}/findings/{*rest}", any(alerts))
            .route("/v1/tenants/{tenant}/hosts/{*rest}", any(alerts))
            .fallback(catalog)
            .with_state(self)
    }

    /// What the stages of the other services say to who has this `authorization`. One that doesn't answer is left out.
    pub(super) async fn stages(&self, authorization: &str) -> Vec<StageLine> {
        let shared = &self.shared;
        let mut asked = Vec::new();
        for service in
            [Some(&shared.catalog), shared.ingest.as_ref(), shared.promotion.as_ref(), shared.alerts.as_ref()]
        {
            for Place { http, url } in shared.places.all(service).await {
                let request = http.get(pass_on::at(&url, "/v1/status")).timeout(STATUS);
                asked.push(async move {
                    let answer = request.header("authorization", authorization).send().await.ok()?;
                    answer.json::<ServerStatus>().await.ok()
                });
            }
        }
        let answers = futures::future::join_all(asked).await;
        merge::stages(answers.into_iter().flatten().flat_map(|status| status.stages))
    }
}

async fn catalog(State(front): State<Front>, request: Request) -> Response {
    let place = front.shared.places.any(Some(&front.shared.catalog));
    pass_on::stream(place.as_ref(), "catalog", request).await
}

async fn ingest(State(front): State<Front>, request: Request) -> Response {
    let place = front.shared.places.any(front.shared.ingest.as_ref());
    pass_on::stream(place.as_ref(), "ingest", request).await
}

async fn promotion(State(front): State<Front>, request: Request) -> Response {
    let place = front.shared.places.any(front.shared.promotion.as_ref());
    pass_on::stream(place.as_ref(), "promotion", request).await
}

async fn alerts(State(front): State<Front>, request: Request) -> Response {
    let places = front.shared.places.all(front.shared.alerts.as_ref()).await;
    match places.as_slice() {
        [] | [_] => pass_on::stream(places.first(), "alerts", request).await,
        several => merge::ask_all(several, request).await,
    }
}
