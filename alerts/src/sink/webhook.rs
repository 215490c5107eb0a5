//! A webhook: one POST per transition, in order within a host.
//!
//! The header `Idempotency-Key` names the transition, since one may come twice. Answers: 2xx is taken, 408, 425, 429 and 5xx
//! are tried again for as long as it takes, any other goes to the dead letters. Transitions older than a day are left out:
//! a message is news, and a new webhook must not tell the past.

use async_trait::async_trait;
use chrono::Utc;
use firn_policy::{FindingStatus, TransitionRecord};
use firn_stream::Record;
use serde_json::{Value, json};
use url::Url;

use super::{Delivered, Destination, REQUEST_TIMEOUT, SinkError};

/// Older transitions are no news.
const MAX_AGE_MS: i64 = 24 * 3_600 * 1_000;

/// What is posted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WebhookFormat {
    /// The transition as it stands in the topic `compliance`.
    #[default]
    Json,
    /// `{"text": …}`, which Slack and those that follow it show.
    Slack,
}

/// The receiver.
pub(crate) struct Webhook {
    url: Url,
    format: WebhookFormat,
    http: reqwest::Client,
}

/// What a receiver said.
enum Answer {
    Taken,
    Never(String),
}

impl Webhook {
    pub(crate) fn new(url: Url, format: WebhookFormat) -> Result<Self, SinkError> {
        let http = firn_runtime::tls::outside().timeout(REQUEST_TIMEOUT).build();
        let http = http.map_err(|error| SinkError::Server(error.to_string()))?;
        Ok(Self { url, format, http })
    }

    async fn post(&self, transition: &TransitionRecord) -> Result<Answer, SinkError> {
        let body = match self.format {
            WebhookFormat::Json => json!(transition),
            WebhookFormat::Slack => slack(transition),
        };
        let key = format!("{}-{}", transition.finding_id, transition.version);
        let request = self.http.post(self.url.clone()).header("idempotency-key", key).json(&body);
        // The URL of a webhook is a secret: errors must not show it.
        let answer = request.send().await.map_err(|error| {
            SinkError::Server(format!("the webhook could not be reached: {}", error.without_url()))
        })?;
        match answer.status().as_u16() {
            200..=299 => Ok(Answer::Taken),
            status @ (408 | 425 | 429 | 500..=599) => {
                Err(SinkError::Server(format!("the webhook answered {status}")))
            }
            status => Ok(Answer::Never(format!("the webhook answered {status}"))),
        }
    }
}

#[async_trait]
impl Destination for Webhook {
    fn stage(&self) -> &'static str {
        "webhook"
    }

    async fn prepare(&self) -> Result<String, SinkError> {
        Ok(String::new())
    }

    async fn deliver(&self, records: &[Record]) -> Result<Delivered, SinkError> {
        let mut delivered = Delivered::default();
        let oldest_ms = Utc::now().timestamp_millis() - MAX_AGE_MS;
        for (at, record) in records.iter().enumerate() {
            let parsed = record.value.as_deref().map(serde_json::from_slice::<TransitionRecord>);
            let answer = match parsed {
                Some(Ok(_)) if record.timestamp_ms < oldest_ms => Ok(Answer::Taken),
                Some(Ok(transition)) => self.post(&transition).await,
                Some(Err(error)) => Ok(Answer::Never(format!("the record is no transition: {error}"))),
                // An erased host: what was posted can't be taken back.
                None => Ok(Answer::Taken),
            };
            match answer {
                Ok(Answer::Taken) => {}
                Ok(Answer::Never(reason)) => {
                    delivered.rejected.insert(at, reason);
                }
                // Those before it were taken; from here on it is tried again.
                Err(_) if at > 0 => return Ok(delivered),
                Err(error) => return Err(error),
            }
            delivered.done = at + 1;
        }
        Ok(delivered)
    }
}

fn slack(transition: &TransitionRecord) -> Value {
    let host = transition.hostname.as_deref().unwrap_or(&transition.host_id);
    let what = match transition.to {
        to if to == transition.from => "note",
        FindingStatus::Open => "breach",
        to => to.as_str(),
    };
    let by = transition.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let (severity, title, reason) = (transition.severity.as_str(), &transition.title, &transition.reason);
    json!({ "text": escape(&format!("{what} on {host}: [{severity}] {title}: {reason}{by}")) })
}

/// Slack's markup has three characters of its own.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests;
