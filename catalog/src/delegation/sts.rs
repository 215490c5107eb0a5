//! Temporary keys by AssumeRole.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, SecondsFormat, Utc};
use object_store::aws::AwsCredential;
use reqwest::Method;
use serde::Deserialize;

use super::{Grant, VendedKeys, policy::session_policy};
use crate::{
    CatalogError,
    aws::{self, AwsClient, AwsError, AwsRequest, Service},
    config::S3Config,
};

/// What stands for the tenant's name in a role's name.
const TENANT: &str = "{tenant}";
/// STS's limit for a session's name.
const MAX_NAME: usize = 64;

/// Where and as what keys are asked for.
pub(super) struct Sts {
    endpoint: String,
    role_arn: String,
    key_ttl: Duration,
    kms_key_arn: Option<String>,
}

/// Keys that STS gave out.
pub(super) struct TemporaryKeys {
    key_id: String,
    secret: String,
    token: String,
    pub(super) expires_at: DateTime<Utc>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssumeRoleResponse {
    assume_role_result: AssumeRoleResult,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AssumeRoleResult {
    credentials: AnsweredKeys,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AnsweredKeys {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
    expiration: DateTime<Utc>,
}

impl Sts {
    /// None without a role to assume.
    pub(super) fn new(aws: &AwsClient, s3: &S3Config) -> Option<Self> {
        let role_arn = s3.delegation.role_arn.clone()?;
        let domain = if role_arn.starts_with("arn:aws-cn:") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let own = || format!("https://sts.{}.{domain}", aws.region());
        let endpoint = s3.delegation.sts_endpoint.clone().or_else(|| s3.endpoint.clone()).unwrap_or_else(own);
        let endpoint = format!("{}/", endpoint.trim_end_matches('/'));
        let (key_ttl, kms_key_arn) = (s3.delegation.key_ttl, s3.delegation.kms_key_arn.clone());
        Some(Self { endpoint, role_arn, key_ttl, kms_key_arn })
    }

    /// Asks for keys that fit the grant.
    pub(super) async fn assume(&self, aws: &AwsClient, grant: &Grant) -> Result<TemporaryKeys, CatalogError> {
        let role = self.role_arn.replace(TENANT, &grant.tenant);
        // `arn:aws` of `arn:aws:iam::…`; the cloud's other partitions have other names.
        let arn = role.match_indices(':').nth(1).map_or("arn:aws", |(end, _)| &role[..end]);
        let policy = session_policy(arn, &grant.files, grant.access, self.kms_key_arn.as_deref()).to_string();
        let body = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", "AssumeRole")
            .append_pair("Version", "2011-06-15")
            .append_pair("RoleArn", &role)
            .append_pair("RoleSessionName", &session_name(grant))
            .append_pair("DurationSeconds", &self.key_ttl.as_secs().to_string())
            .append_pair("Policy", &policy)
            .finish();
        let request = AwsRequest {
            service: Service::Sts,
            method: Method::POST,
            uri: self.endpoint.clone(),
            headers: vec![(
                "content-type".to_owned(),
                "application/x-www-form-urlencoded; charset=utf-8".to_owned(),
            )],
            body: body.into_bytes(),
        };
        let answer = async { aws::parse::<AssumeRoleResponse>(&aws.send(request).await?) }.await;
        let keys = answer.map_err(|error| self.failed(&role, &error))?.assume_role_result.credentials;
        Ok(TemporaryKeys {
            key_id: keys.access_key_id,
            secret: keys.secret_access_key,
            token: keys.session_token,
            expires_at: keys.expiration,
        })
    }

    fn failed(&self, role: &str, error: &AwsError) -> CatalogError {
        // Whoever asked can't do anything about it, so the details are for the operator.
        tracing::warn!(role, endpoint = self.endpoint, %error, "can't get keys for a client");
        let text =
            "the catalog can't get keys for the table's files: its log says why (see storage.role_arn)";
        CatalogError::Unavailable(text.to_owned())
    }
}

impl TemporaryKeys {
    /// As requests are signed with them.
    pub(super) fn credential(&self) -> Arc<AwsCredential> {
        let (key_id, secret_key) = (self.key_id.clone(), self.secret.clone());
        Arc::new(AwsCredential { key_id, secret_key, token: Some(self.token.clone()) })
    }

    /// As a client reads them.
    pub(super) fn vended(&self) -> VendedKeys {
        let config = [
            ("s3.access-key-id", self.key_id.clone()),
            ("s3.secret-access-key", self.secret.clone()),
            ("s3.session-token", self.token.clone()),
            ("s3.session-token-expires-at-ms", self.expires_at.timestamp_millis().to_string()),
        ];
        let config: BTreeMap<_, _> = config.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        let tag = format!("{}@{}", self.key_id, self.expires_at.to_rfc3339_opts(SecondsFormat::Millis, true));
        VendedKeys { config, tag }
    }
}

/// Names tenant and principal in the cloud's own audit log, in the characters that it takes.
fn session_name(grant: &Grant) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "+=,.@_-".contains(c) { c } else { '-' };
    format!("{}@{}", grant.principal, grant.tenant).chars().map(plain).take(MAX_NAME).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::delegation::{Access, TableFiles};

    #[test]
    fn an_answer_is_read() {
        let text = r#"<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
            <AssumedRoleUser><Arn>x</Arn></AssumedRoleUser><Credentials><AccessKeyId>AK</AccessKeyId>
            <SecretAccessKey>s/+</SecretAccessKey><Expiration>2026-11-22T10:00:00Z</Expiration>
            <SessionToken>t==</SessionToken></Credentials></AssumeRoleResult></AssumeRoleResponse>"#;
        let keys = aws::parse::<AssumeRoleResponse>(text.as_bytes()).unwrap().assume_role_result.credentials;
        assert_eq!((keys.access_key_id.as_str(), keys.session_token.as_str()), ("AK", "t=="));
        assert_eq!(keys.expiration.timestamp(), 1_795_341_600);
    }

    #[test]
    fn a_sessions_name_is_plain_and_short() {
        let grant = Grant {
            tenant: "acme".to_owned(),
            principal: "https://idp/é user".to_owned(),
            access: Access::Read,
            files: TableFiles::below("s3://b/acme/t"),
        };
        assert_eq!(session_name(&grant), "https---idp---user@acme");
        assert!(session_name(&Grant { principal: "x".repeat(200), ..grant }).len() <= MAX_NAME);
    }
}
