//! A tenant's bucket on S3: what it should be like, what would change, and the change. Running it again changes nothing.
//!
//! `deploy/terraform/modules/tenant-lake` makes the same; a test compares the two.

mod bucket;
mod wanted;
mod wire;

use axum::http::StatusCode;
use firn_catalog_client::{Provisioning, ProvisioningStep, Tenant};

use crate::{
    CatalogConfig, CatalogError,
    aws::{AwsClient, AwsError, DEFAULT_REGION},
    storage::Storage,
};

use bucket::Bucket;
use wanted::{Setting, Wanted};

/// Works out what a tenant's bucket lacks, and applies it unless only the plan is wanted.
pub(crate) async fn provision(
    config: &CatalogConfig,
    storage: &Storage,
    tenant: &Tenant,
    plan_only: bool,
) -> Result<Provisioning, CatalogError> {
    let Some(identity) = storage.identity() else {
        let text = "the warehouse is local files: there is nothing to provision (see storage.warehouse)";
        return Err(CatalogError::Invalid(text.to_owned()));
    };
    if !storage.has_own_buckets() {
        let text = "all tenants share the warehouse's bucket: to provision one for each, put {tenant} into the bucket's name \
                    in storage.warehouse";
        return Err(CatalogError::Invalid(text.to_owned()));
    }
    if tenant.region != config.region {
        return Err(CatalogError::Invalid(format!(
            "'{}' belongs to the region '{}', this server serves '{}': provision it there",
            tenant.name, tenant.region, config.region
        )));
    }
    let region = config.s3.region.as_deref().unwrap_or(DEFAULT_REGION);
    let aws = AwsClient::new(identity, region).map_err(CatalogError::Invalid)?;
    let wanted = Wanted::of(tenant, &storage.tenant_root(&tenant.name), region, &config.s3);
    let bucket = Bucket::new(&aws, &config.s3, &wanted.bucket);
    let mut steps = Vec::new();
    let exists = match bucket.exists().await {
        Ok(exists) => exists,
        Err(error) => return Err(unreachable_bucket(&wanted.bucket, &error)),
    };
    let text = format!("in {region}");
    steps.push(if exists {
        step("bucket", "same", &text)
    } else if plan_only {
        step("bucket", "create", &text)
    } else {
        bucket.create().await.map_err(|error| unreachable_bucket(&wanted.bucket, &error))?;
        step("bucket", "created", &text)
    });
    for setting in wanted.settings() {
        steps.push(apply_setting(&bucket, &setting, exists, plan_only).await);
    }
    for prefix in &wanted.prefixes {
        steps.push(apply_prefix(&bucket, prefix, exists, plan_only).await);
    }
    // Last, since it may keep out whoever provisions.
    if let Some(policy) = wanted.policy() {
        steps.push(apply_setting(&bucket, &policy, exists, plan_only).await);
    }
    Ok(Provisioning {
        bucket: wanted.bucket.clone(),
        planned: plan_only,
        terraform: wanted.terraform(),
        steps,
    })
}

async fn apply_setting(
    bucket: &Bucket<'_>,
    setting: &Setting,
    exists: bool,
    plan_only: bool,
) -> ProvisioningStep {
    let present = if exists { bucket.read(setting.query).await } else { Ok(None) };
    let present = match present {
        Ok(present) => present,
        Err(error) => return step(setting.name, "refused", &format!("it can't be read: {error}")),
    };
    let (wanted, done) = match &present {
        Some(present) if setting.is_met_by(present) => return step(setting.name, "same", &setting.summary),
        Some(_) => ("change", "changed"),
        None => ("create", "created"),
    };
    if plan_only {
        return step(setting.name, wanted, &setting.summary);
    }
    match bucket.write(setting.query, setting.body(present.as_deref())).await {
        Ok(()) => step(setting.name, done, &setting.summary),
        Err(error) => step(setting.name, "refused", &error.to_string()),
    }
}

async fn apply_prefix(bucket: &Bucket<'_>, prefix: &str, exists: bool, plan_only: bool) -> ProvisioningStep {
    let present = if exists { bucket.has_object(prefix).await } else { Ok(false) };
    let outcome = match present {
        Ok(true) => Ok("same"),
        Ok(false) if plan_only => Ok("create"),
        Ok(false) => bucket.write_object(prefix).await.map(|()| "created"),
        Err(error) => Err(error),
    };
    match outcome {
        Ok(change) => step("prefix", change, prefix),
        Err(error) => step("prefix", "refused", &format!("{prefix}: {error}")),
    }
}

/// Without the bucket nothing else can be done.
fn unreachable_bucket(name: &str, error: &AwsError) -> CatalogError {
    match error {
        AwsError::Refused { status, .. } if *status == StatusCode::FORBIDDEN.as_u16() => {
            CatalogError::Forbidden(format!(
                "the bucket '{name}': {error}; it may be someone else's, or the server's own keys may not manage buckets"
            ))
        }
        _ => CatalogError::Unavailable(format!("the bucket '{name}': {error}")),
    }
}

fn step(what: &str, change: &str, detail: &str) -> ProvisioningStep {
    ProvisioningStep { what: what.to_owned(), change: change.to_owned(), detail: detail.to_owned() }
}
