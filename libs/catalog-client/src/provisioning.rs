//! Provisioning: what a tenant's bucket lacks, and what came of the attempt to change that.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Answer of `POST /v1/tenants/{tenant}/provision`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Provisioning {
    /// The tenant's bucket.
    pub bucket: String,
    /// Whether this is a plan alone, and nothing was changed.
    pub planned: bool,
    /// One for each thing that was looked at, in order.
    pub steps: Vec<ProvisioningStep>,
    /// Inputs of the Terraform module that makes the same.
    pub terraform: TerraformModule,
}

/// One thing that a bucket should have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProvisioningStep {
    /// What it is, such as `encryption`.
    pub what: String,
    /// `same`; `create` or `change` in a plan, else `created` or `changed`; `refused` if the server would not have it.
    pub change: String,
    /// What it should be, or why it was refused.
    pub detail: String,
}

/// Inputs of the module `deploy/terraform/modules/tenant-lake`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TerraformModule {
    /// Name of the tenant.
    pub tenant_id: String,
    /// Region of the bucket.
    pub region: String,
    /// Name of the bucket.
    pub bucket_name: String,
    /// Folder of the lake in the bucket, with a slash at its end; empty for the whole bucket.
    pub folder: String,
    /// Classes of the data.
    pub data_classification: Vec<String>,
    /// VPC endpoints through which alone the data is reached; empty: any way.
    pub vpc_endpoint_ids: Vec<String>,
    /// VPCs from which alone the data is reached; empty: from anywhere.
    #[serde(default)]
    pub vpc_ids: Vec<String>,
    /// KMS key of the bucket; S3's own if absent.
    pub kms_key_arn: Option<String>,
    /// Roles that alone reach the data; empty: whoever the account lets.
    pub allowed_role_arns: Vec<String>,
    /// Whether requests that don't come over TLS are refused.
    pub require_tls: bool,
    /// More tags.
    pub tags: BTreeMap<String, String>,
}
