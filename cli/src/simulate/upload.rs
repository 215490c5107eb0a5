//! Uploading a batch, and what may be concluded from the answer.

use std::time::Duration;

use anyhow::{Result, anyhow};
use reqwest::{StatusCode, header};
use serde_json::Value;

use super::{ledger::Outcome, script::Line};
use crate::connection::Connection;

/// Tries while the server surely stored nothing: it was not reached, or said so.
const MAX_ATTEMPTS: u32 = 80;
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(60);

/// Sends to one tenant's gateway.
pub(crate) struct Uploader<'a> {
    connection: &'a Connection,
    http: reqwest::Client,
    url: String,
}

/// What became of a batch.
pub(crate) struct Uploaded {
    /// One per line.
    pub(crate) outcomes: Vec<Outcome>,
    /// Why there is no point in going on.
    pub(crate) fatal: Option<anyhow::Error>,
}

impl Uploaded {
    fn all(lines: &[Line], outcome: Outcome) -> Self {
        Self { outcomes: vec![outcome; lines.len()], fatal: None }
    }
}

impl<'a> Uploader<'a> {
    pub(crate) fn new(connection: &'a Connection) -> Result<Self> {
        let http = firn_runtime::tls::inside().timeout(TIMEOUT).build()?;
        Ok(Self { connection, http, url: url(connection) })
    }

    /// The same to another tenant, over the same connections.
    pub(crate) fn to<'b>(&self, connection: &'b Connection) -> Uploader<'b> {
        Uploader { connection, http: self.http.clone(), url: url(connection) }
    }

    /// Sends the lines, again only while it is sure that nothing of them was stored.
    pub(crate) async fn send(&self, lines: &[Line]) -> Uploaded {
        let body = lines.iter().map(|line| line.bytes.as_slice()).collect::<Vec<_>>().join(&b'\n');
        let mut last = None;
        for _ in 0..MAX_ATTEMPTS {
            let request = self.http.post(&self.url).bearer_auth(self.connection.token());
            let request = request.header(header::CONTENT_TYPE, "application/x-ndjson").body(body.clone());
            let pause = match request.send().await {
                Err(error) if error.is_connect() => {
                    last = Some(anyhow!(error).context(format!("{} can't be reached", self.url)));
                    PAUSE
                }
                // It left this machine, and no answer came.
                Err(_) => return Uploaded::all(lines, Outcome::Unknown),
                Ok(answer) => {
                    let (status, wait) = (answer.status(), retry_after(&answer));
                    let Ok(text) = answer.text().await else { return conclude(status, &Value::Null, lines) };
                    let answer = serde_json::from_str(&text).unwrap_or(Value::Null);
                    if !nothing_stored(status, &answer) {
                        return conclude(status, &answer, lines);
                    }
                    last = Some(refusal(status, &answer));
                    wait
                }
            };
            tokio::time::sleep(pause).await;
        }
        Uploaded { fatal: last, ..Uploaded::all(lines, Outcome::Rejected) }
    }
}

fn url(connection: &Connection) -> String {
    format!("{}/v1/tenants/{}/inventory", connection.url, connection.tenant)
}

fn retry_after(answer: &reqwest::Response) -> Duration {
    let seconds =
        answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    seconds.map_or(PAUSE, Duration::from_secs).min(LONGEST_PAUSE)
}

/// Refused before anything was stored, and worth trying again.
fn nothing_stored(status: StatusCode, answer: &Value) -> bool {
    // Full, or about to stop.
    let refused = ["Overloaded", "Unavailable"].iter().any(|kind| answer["error"]["type"] == **kind);
    status == StatusCode::TOO_MANY_REQUESTS || (status == StatusCode::SERVICE_UNAVAILABLE && refused)
}

fn conclude(status: StatusCode, answer: &Value, lines: &[Line]) -> Uploaded {
    if status == StatusCode::ACCEPTED {
        return Uploaded::all(lines, Outcome::Acknowledged);
    }
    if status == StatusCode::MULTI_STATUS {
        return by_record(answer, lines);
    }
    if status.is_client_error() {
        return Uploaded { fatal: Some(refusal(status, answer)), ..Uploaded::all(lines, Outcome::Rejected) };
    }
    Uploaded::all(lines, Outcome::Unknown)
}

fn by_record(answer: &Value, lines: &[Line]) -> Uploaded {
    let mut uploaded = Uploaded::all(lines, Outcome::Unknown);
    for result in answer["results"].as_array().map_or(&[][..], Vec::as_slice) {
        let index = result["index"].as_u64().and_then(|index| usize::try_from(index).ok());
        let Some(outcome) = index.and_then(|index| uploaded.outcomes.get_mut(index)) else { continue };
        *outcome = match result["status"].as_u64() {
            Some(202) => Outcome::Acknowledged,
            Some(400..500) => Outcome::Rejected,
            _ => Outcome::Unknown,
        };
    }
    uploaded
}

fn refusal(status: StatusCode, answer: &Value) -> anyhow::Error {
    let message = answer["error"]["message"].as_str().unwrap_or("the server gave no reason");
    anyhow!("the upload was refused: {message} (HTTP {})", status.as_u16())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;
    use crate::simulate::script::Script;

    #[test]
    fn only_an_answer_makes_an_outcome_known() {
        let mut script = Script::new(1, 3, 0.0);
        let lines: Vec<_> = (0..3).map(|number| script.next(number, chrono::DateTime::UNIX_EPOCH)).collect();
        let outcomes = |status: u16, answer: Value| {
            let uploaded = conclude(StatusCode::from_u16(status).unwrap(), &answer, &lines);
            (uploaded.outcomes, uploaded.fatal.is_some())
        };
        use Outcome::{Acknowledged, Rejected, Unknown};
        assert_eq!(outcomes(202, json!({"accepted": 3})), (vec![Acknowledged; 3], false));
        assert_eq!(outcomes(500, Value::Null), (vec![Unknown; 3], false));
        assert_eq!(outcomes(503, json!({"error": {"type": "LogUnavailable"}})), (vec![Unknown; 3], false));
        assert_eq!(outcomes(403, Value::Null), (vec![Rejected; 3], true));
        let mixed = json!({"results": [{"index": 0, "status": 202}, {"index": 1, "status": 422}]});
        assert_eq!(outcomes(207, mixed), (vec![Acknowledged, Rejected, Unknown], false));
        assert!(nothing_stored(StatusCode::SERVICE_UNAVAILABLE, &json!({"error": {"type": "Overloaded"}})));
        assert!(!nothing_stored(StatusCode::SERVICE_UNAVAILABLE, &Value::Null));
    }
}
