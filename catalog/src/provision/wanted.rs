//! What a tenant's bucket should be like, out of the tenant and the configuration. Pure.

use std::collections::BTreeMap;

use firn_catalog_client::{Tenant, TerraformModule};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    bucket::to_xml,
    wire::{
        AbortUploads, Encryption, EncryptionDefault, EncryptionRule, Lifecycle, LifecycleFilter,
        LifecycleRule, NoncurrentVersions, PublicAccessBlock, Tag, TagSet, Tagging,
    },
};
use crate::{aws, config::S3Config, storage::Location};

/// Folders of the layers.
const LAYERS: [&str; 3] = ["bronze", "silver", "gold"];
/// Uploads in parts that nobody finishes cost money and are seen by nobody.
const ABORT_UPLOADS_DAYS: u32 = 7;
/// Where someone turned versioning on, what garbage collection deleted goes at last.
const NONCURRENT_DAYS: u32 = 30;
/// What reads and writes data, as opposed to managing the bucket: refusing more would lock out who may repair a policy.
const DATA_ACTIONS: [&str; 4] = ["s3:GetObject*", "s3:PutObject*", "s3:DeleteObject*", "s3:ListBucket*"];

/// A tenant's bucket as it should be.
pub(super) struct Wanted {
    pub(super) bucket: String,
    /// Keys that end with a slash.
    pub(super) prefixes: Vec<String>,
    region: String,
    tenant: String,
    classifications: Vec<String>,
    tags: BTreeMap<String, String>,
    kms_key_arn: Option<String>,
    vpc_endpoint_ids: Vec<String>,
    vpc_ids: Vec<String>,
    /// Who alone reaches the data; empty: whoever the bucket's account lets.
    roles: Vec<String>,
    tls_only: bool,
    folder: String,
}

/// One setting of the bucket.
pub(super) struct Setting {
    pub(super) name: &'static str,
    /// The sub-resource that holds it.
    pub(super) query: &'static str,
    /// What it says, in words.
    pub(super) summary: String,
    value: SettingValue,
}

enum SettingValue {
    Encryption(Encryption),
    PublicAccessBlock(PublicAccessBlock),
    Policy(Value),
    Lifecycle(Lifecycle),
    Tags(BTreeMap<String, String>),
}

impl Wanted {
    pub(super) fn of(tenant: &Tenant, root: &Location, region: &str, s3: &S3Config) -> Self {
        let folder = if root.path().is_empty() { String::new() } else { format!("{}/", root.path()) };
        let mut tags = s3.provisioning.tags.clone();
        tags.extend(tenant.tags.clone());
        tags.insert("managed_by".to_owned(), "firn".to_owned());
        tags.insert("tenant_id".to_owned(), tenant.name.clone());
        if !tenant.classifications.is_empty() {
            tags.insert("data_classification".to_owned(), tenant.classifications.join(" "));
        }
        // Both or none: a bucket that only clients reach would be of no use to the catalog.
        let roles = s3.delegation.role_arn.iter().zip(&s3.provisioning.service_role_arn);
        let roles = roles.flat_map(|(clients, own)| [clients.replace("{tenant}", &tenant.name), own.clone()]);
        Self {
            bucket: root.bucket().unwrap_or_default().to_owned(),
            prefixes: LAYERS.iter().map(|layer| format!("{folder}{layer}/")).collect(),
            region: region.to_owned(),
            tenant: tenant.name.clone(),
            classifications: tenant.classifications.clone(),
            tags,
            kms_key_arn: s3.delegation.kms_key_arn.clone(),
            vpc_endpoint_ids: s3.provisioning.vpc_endpoint_ids.clone(),
            vpc_ids: s3.provisioning.vpc_ids.clone(),
            roles: roles.collect(),
            tls_only: s3.provisioning.require_tls.unwrap_or_else(|| {
                s3.endpoint.as_ref().is_none_or(|endpoint| endpoint.starts_with("https:"))
            }),
            folder,
        }
    }

    /// All settings but the policy, in the order in which they are applied: nothing is open to the public for a moment.
    pub(super) fn settings(&self) -> Vec<Setting> {
        vec![
            Setting {
                name: "public access block",
                query: "publicAccessBlock",
                summary: "no access list and no policy can make it public".to_owned(),
                value: SettingValue::PublicAccessBlock(PublicAccessBlock {
                    block_public_acls: true,
                    ignore_public_acls: true,
                    block_public_policy: true,
                    restrict_public_buckets: true,
                }),
            },
            self.encryption(),
            Setting {
                name: "lifecycle",
                query: "lifecycle",
                summary: format!(
                    "unfinished uploads go after {ABORT_UPLOADS_DAYS} days, deleted versions after {NONCURRENT_DAYS}"
                ),
                value: SettingValue::Lifecycle(lifecycle()),
            },
            Setting {
                name: "tags",
                query: "tagging",
                summary: self
                    .tags
                    .iter()
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect::<Vec<_>>()
                    .join(", "),
                value: SettingValue::Tags(self.tags.clone()),
            },
        ]
    }

    fn encryption(&self) -> Setting {
        let key = self.kms_key_arn.clone();
        let algorithm = if key.is_some() { "aws:kms" } else { "AES256" };
        let rule = EncryptionRule {
            bucket_key_enabled: key.is_some(),
            apply_server_side_encryption_by_default: EncryptionDefault {
                algorithm: algorithm.to_owned(),
                key: key.clone(),
            },
        };
        Setting {
            name: "encryption",
            query: "encryption",
            summary: key.map_or_else(|| algorithm.to_owned(), |key| format!("{algorithm} with {key}")),
            value: SettingValue::Encryption(Encryption { rules: vec![rule] }),
        }
    }

    /// Who is refused; none if nobody is.
    pub(super) fn policy(&self) -> Option<Setting> {
        let arn = if self.region.starts_with("cn-") {
            "arn:aws-cn"
        } else if self.region.starts_with("us-gov-") {
            "arn:aws-us-gov"
        } else {
            "arn:aws"
        };
        let bucket = format!("{arn}:s3:::{}", self.bucket);
        let everything = json!([bucket, format!("{bucket}/*")]);
        // The folders themselves hold nothing, and whoever provisions may come another way.
        let folders: Vec<String> = self.prefixes.iter().map(|prefix| format!("{bucket}/{prefix}")).collect();
        let deny_data = |id: &str, condition: Value| {
            json!({
                "Sid": id, "Effect": "Deny", "Principal": "*", "Action": DATA_ACTIONS,
                "NotResource": folders, "Condition": condition,
            })
        };
        let mut statements = Vec::new();
        let mut summary = Vec::new();
        if self.tls_only {
            statements.push(json!({
                "Sid": "TlsOnly", "Effect": "Deny", "Principal": "*", "Action": "s3:*",
                "Resource": everything, "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }));
            summary.push("over TLS".to_owned());
        }
        if !self.vpc_endpoint_ids.is_empty() {
            let condition = json!({"StringNotEquals": {"aws:SourceVpce": self.vpc_endpoint_ids}});
            statements.push(deny_data("VpcEndpointsOnly", condition));
            summary.push(format!("through {}", self.vpc_endpoint_ids.join(", ")));
        }
        if !self.vpc_ids.is_empty() {
            statements
                .push(deny_data("VpcsOnly", json!({"StringNotEquals": {"aws:SourceVpc": self.vpc_ids}})));
            summary.push(format!("from {}", self.vpc_ids.join(", ")));
        }
        if !self.roles.is_empty() {
            let condition = json!({"ArnNotEquals": {"aws:PrincipalArn": self.roles}});
            statements.push(deny_data("RolesOnly", condition));
            summary.push(format!("by {}", self.roles.join(", ")));
        }
        (!statements.is_empty()).then(|| Setting {
            name: "policy",
            query: "policy",
            summary: format!("only {}", summary.join(", ")),
            value: SettingValue::Policy(json!({"Version": "2012-10-17", "Statement": statements})),
        })
    }

    /// The inputs that make Terraform do the same.
    pub(super) fn terraform(&self) -> TerraformModule {
        let own: [&str; 3] = ["managed_by", "tenant_id", "data_classification"];
        let tags = self.tags.iter().filter(|(key, _)| !own.contains(&key.as_str()));
        TerraformModule {
            tenant_id: self.tenant.clone(),
            region: self.region.clone(),
            bucket_name: self.bucket.clone(),
            folder: self.folder.clone(),
            data_classification: self.classifications.clone(),
            vpc_endpoint_ids: self.vpc_endpoint_ids.clone(),
            vpc_ids: self.vpc_ids.clone(),
            kms_key_arn: self.kms_key_arn.clone(),
            allowed_role_arns: self.roles.clone(),
            require_tls: self.tls_only,
            tags: tags.map(|(key, value)| (key.clone(), value.clone())).collect(),
        }
    }
}

fn lifecycle() -> Lifecycle {
    let rule = |id: &str, abort, noncurrent| LifecycleRule {
        id: id.to_owned(),
        status: "Enabled".to_owned(),
        filter: LifecycleFilter::default(),
        abort,
        noncurrent,
    };
    let abort = AbortUploads { days_after_initiation: ABORT_UPLOADS_DAYS };
    let noncurrent = NoncurrentVersions { noncurrent_days: NONCURRENT_DAYS };
    let rules = vec![
        rule("abort-unfinished-uploads", Some(abort), None),
        rule("expire-deleted-versions", None, Some(noncurrent)),
    ];
    Lifecycle { rules }
}

impl Setting {
    /// Whether a bucket that has `present` has all that is wanted.
    pub(super) fn is_met_by(&self, present: &[u8]) -> bool {
        fn parsed<T: DeserializeOwned>(present: &[u8]) -> Option<T> {
            aws::parse(present).ok()
        }
        match &self.value {
            SettingValue::Encryption(wanted) => parsed::<Encryption>(present).is_some_and(|present| {
                let defaults = |all: &Encryption| -> Vec<EncryptionDefault> {
                    all.rules
                        .iter()
                        .map(|rule| rule.apply_server_side_encryption_by_default.clone())
                        .collect()
                };
                defaults(&present) == defaults(wanted)
            }),
            SettingValue::PublicAccessBlock(wanted) => {
                parsed::<PublicAccessBlock>(present).as_ref() == Some(wanted)
            }
            SettingValue::Policy(wanted) => serde_json::from_slice::<Value>(present)
                .is_ok_and(|present| plain(present) == plain(wanted.clone())),
            SettingValue::Lifecycle(wanted) => parsed::<Lifecycle>(present).is_some_and(|mut present| {
                present.rules.sort_by(|a, b| a.id.cmp(&b.id));
                present == *wanted
            }),
            SettingValue::Tags(wanted) => {
                let present =
                    parsed::<Tagging>(present).map(|tagging| tagging.tag_set.tags).unwrap_or_default();
                wanted
                    .iter()
                    .all(|(key, value)| present.iter().any(|tag| tag.key == *key && tag.value == *value))
            }
        }
    }

    /// What to send. Tags of others stay.
    pub(super) fn body(&self, present: Option<&[u8]>) -> Vec<u8> {
        match &self.value {
            SettingValue::Encryption(wanted) => to_xml(wanted).into_bytes(),
            SettingValue::PublicAccessBlock(wanted) => to_xml(wanted).into_bytes(),
            SettingValue::Policy(wanted) => wanted.to_string().into_bytes(),
            SettingValue::Lifecycle(wanted) => to_xml(wanted).into_bytes(),
            SettingValue::Tags(wanted) => {
                let present = present.and_then(|present| aws::parse::<Tagging>(present).ok());
                let present = present.map(|tagging| tagging.tag_set.tags).unwrap_or_default();
                let mut tags: BTreeMap<String, String> =
                    present.into_iter().map(|tag| (tag.key, tag.value)).collect();
                tags.extend(wanted.clone());
                let tags = tags.into_iter().map(|(key, value)| Tag { key, value }).collect();
                to_xml(&Tagging { tag_set: TagSet { tags } }).into_bytes()
            }
        }
    }
}

/// A policy in one form: lists in order, and one element for a list of it.
fn plain(value: Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.into_iter().map(plain).collect();
            items.sort_by_key(Value::to_string);
            if items.len() == 1 { items.remove(0) } else { Value::Array(items) }
        }
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, plain(value))).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{DelegationConfig, ProvisioningConfig};

    fn wanted(s3: &S3Config) -> Wanted {
        let tenant = Tenant {
            name: "acme".to_owned(),
            region: "eu".to_owned(),
            classifications: vec!["GDPR".to_owned(), "PII".to_owned()],
            tags: [("cost_center".to_owned(), "7".to_owned())].into(),
            ..Tenant::default()
        };
        Wanted::of(&tenant, &"s3://acme-lake/firn".parse().unwrap(), "eu-central-1", s3)
    }

    fn all(wanted: &Wanted) -> Vec<Setting> {
        wanted.settings().into_iter().chain(wanted.policy()).collect()
    }

    fn setting(wanted: &Wanted, name: &str) -> Setting {
        all(wanted).into_iter().find(|setting| setting.name == name).unwrap()
    }

    #[test]
    fn settings_are_met_by_what_they_send_and_by_nothing_else() {
        let kms = DelegationConfig {
            kms_key_arn: Some("arn:aws:kms:x:1:key/y".to_owned()),
            ..DelegationConfig::default()
        };
        for s3 in [S3Config::default(), S3Config { delegation: kms, ..S3Config::default() }] {
            for setting in all(&wanted(&s3)) {
                let body = setting.body(None);
                assert!(setting.is_met_by(&body), "{}: {}", setting.name, String::from_utf8_lossy(&body));
                assert!(!setting.is_met_by(b""), "{}", setting.name);
                assert!(!setting.is_met_by(b"<Other/>"), "{}", setting.name);
            }
        }
    }

    #[test]
    fn a_policy_refuses_what_the_operator_named() {
        let s3 = S3Config {
            delegation: DelegationConfig {
                role_arn: Some("arn:aws:iam::1:role/firn-{tenant}".to_owned()),
                ..DelegationConfig::default()
            },
            provisioning: ProvisioningConfig {
                vpc_endpoint_ids: vec!["vpce-1".to_owned()],
                vpc_ids: vec!["vpc-1".to_owned()],
                service_role_arn: Some("arn:aws:iam::1:role/firn".to_owned()),
                ..ProvisioningConfig::default()
            },
            ..S3Config::default()
        };
        let policy: Value = serde_json::from_slice(&setting(&wanted(&s3), "policy").body(None)).unwrap();
        let sids: Vec<_> =
            policy["Statement"].as_array().unwrap().iter().map(|one| one["Sid"].clone()).collect();
        assert_eq!(json!(sids), json!(["TlsOnly", "VpcEndpointsOnly", "VpcsOnly", "RolesOnly"]));
        let roles = &policy["Statement"][3]["Condition"]["ArnNotEquals"]["aws:PrincipalArn"];
        assert_eq!(*roles, json!(["arn:aws:iam::1:role/firn-acme", "arn:aws:iam::1:role/firn"]));
    }

    #[test]
    fn a_server_without_tls_is_not_locked() {
        let s3 = S3Config { endpoint: Some("http://s3.lan".to_owned()), ..S3Config::default() };
        assert!(wanted(&s3).policy().is_none());
    }

    #[test]
    fn tags_of_others_stay() {
        let tags = setting(&wanted(&S3Config::default()), "tags");
        let theirs = b"<Tagging><TagSet><Tag><Key>team</Key><Value>x</Value></Tag></TagSet></Tagging>";
        let body = String::from_utf8(tags.body(Some(theirs))).unwrap();
        assert!(body.contains("<Key>cost_center</Key>"), "the tenant's own: {body}");
        assert!(body.contains("<Key>team</Key>") && body.contains("<Value>GDPR PII</Value>"), "{body}");
        assert!(tags.is_met_by(body.as_bytes()) && !tags.is_met_by(theirs));
    }
}
