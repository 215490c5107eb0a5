//! Settings of a bucket as S3 writes them, as far as Firn has a say in them.

use serde::{Deserialize, Serialize};

/// `?encryption`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "ServerSideEncryptionConfiguration")]
pub(super) struct Encryption {
    #[serde(rename = "Rule", default)]
    pub(super) rules: Vec<EncryptionRule>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EncryptionRule {
    pub(super) apply_server_side_encryption_by_default: EncryptionDefault,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) bucket_key_enabled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EncryptionDefault {
    #[serde(rename = "SSEAlgorithm")]
    pub(super) algorithm: String,
    #[serde(rename = "KMSMasterKeyID", default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
}

/// `?publicAccessBlock`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "PublicAccessBlockConfiguration", rename_all = "PascalCase")]
pub(super) struct PublicAccessBlock {
    #[serde(default)]
    pub(super) block_public_acls: bool,
    #[serde(default)]
    pub(super) ignore_public_acls: bool,
    #[serde(default)]
    pub(super) block_public_policy: bool,
    #[serde(default)]
    pub(super) restrict_public_buckets: bool,
}

/// `?lifecycle`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "LifecycleConfiguration")]
pub(super) struct Lifecycle {
    #[serde(rename = "Rule", default)]
    pub(super) rules: Vec<LifecycleRule>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LifecycleRule {
    #[serde(rename = "ID", default)]
    pub(super) id: String,
    #[serde(rename = "Status", default)]
    pub(super) status: String,
    #[serde(rename = "Filter", default)]
    pub(super) filter: LifecycleFilter,
    #[serde(rename = "AbortIncompleteMultipartUpload", default, skip_serializing_if = "Option::is_none")]
    pub(super) abort: Option<AbortUploads>,
    #[serde(rename = "NoncurrentVersionExpiration", default, skip_serializing_if = "Option::is_none")]
    pub(super) noncurrent: Option<NoncurrentVersions>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct LifecycleFilter {
    #[serde(default)]
    pub(super) prefix: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AbortUploads {
    pub(super) days_after_initiation: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NoncurrentVersions {
    pub(super) noncurrent_days: u32,
}

/// `?tagging`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename = "Tagging", rename_all = "PascalCase")]
pub(super) struct Tagging {
    pub(super) tag_set: TagSet,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TagSet {
    #[serde(rename = "Tag", default)]
    pub(super) tags: Vec<Tag>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Tag {
    pub(super) key: String,
    #[serde(default)]
    pub(super) value: String,
}

/// The body of a bucket's creation outside of S3's first region.
#[derive(Serialize)]
#[serde(rename = "CreateBucketConfiguration", rename_all = "PascalCase")]
pub(super) struct CreateBucket<'a> {
    pub(super) location_constraint: &'a str,
}
