//! What clients are given to reach a table's files: temporary keys that fit one table, signatures of single requests, or
//! nothing. Never more than the table's own files, and never the catalog's own keys unless the operator wants that.

mod files;
mod policy;
mod request;
mod sign;
mod sts;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use moka::future::Cache;
use object_store::aws::AwsCredential;

use crate::{
    CatalogError, DelegationConfig,
    aws::{AwsClient, DEFAULT_REGION},
    config::S3Config,
    storage::Storage,
};

pub(crate) use files::TableFiles;
pub(crate) use request::SignRequest;
pub(crate) use sign::Signed;

use sts::{Sts, TemporaryKeys};

/// Vended keys that are kept.
const MAX_KEYS: u64 = 10_000;

/// What a client may do with a table's files. Each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Access {
    /// Read.
    Read,
    /// Add and overwrite, too.
    Write,
    /// Delete, too: only who may maintain every reference knows what none of them needs.
    Maintain,
}

impl Access {
    fn word(self) -> &'static str {
        match self {
            Self::Read => "reading",
            Self::Write => "writing",
            Self::Maintain => "deleting",
        }
    }
}

/// Who asks, for what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Grant {
    pub(crate) tenant: String,
    pub(crate) principal: String,
    pub(crate) access: Access,
    pub(crate) files: TableFiles,
}

/// Keys for a client.
pub(crate) struct VendedKeys {
    /// `s3.access-key-id` and the like.
    pub(crate) config: BTreeMap<String, String>,
    /// Differs whenever the keys differ.
    pub(crate) tag: String,
}

/// Delegates access. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Delegation {
    inner: Option<Arc<Inner>>,
}

struct Inner {
    aws: AwsClient,
    s3: S3Config,
    sts: Option<Sts>,
    /// Until half of their life is over, so that nobody is given keys that end soon.
    keys: Cache<Grant, Arc<TemporaryKeys>>,
    /// By metadata file, which never changes.
    files: moka::sync::Cache<String, TableFiles>,
}

/// Ends what is cached at half of its life.
struct HalfLife;

impl moka::Expiry<Grant, Arc<TemporaryKeys>> for HalfLife {
    fn expire_after_create(&self, _: &Grant, keys: &Arc<TemporaryKeys>, _: Instant) -> Option<Duration> {
        let left = keys.expires_at - chrono::Utc::now();
        Some(left.to_std().unwrap_or_default() / 2)
    }
}

impl Delegation {
    /// Of a warehouse's storage; local files need none.
    pub(crate) fn new(storage: &Storage, s3: &S3Config) -> Result<Self, CatalogError> {
        let Some(identity) = storage.identity() else { return Ok(Self { inner: None }) };
        let region = s3.region.as_deref().unwrap_or(DEFAULT_REGION);
        let aws = AwsClient::new(identity, region).map_err(CatalogError::Invalid)?;
        let sts = Sts::new(&aws, s3);
        let keys = Cache::builder().max_capacity(MAX_KEYS).expire_after(HalfLife).build();
        let files = moka::sync::Cache::new(MAX_KEYS);
        Ok(Self { inner: Some(Arc::new(Inner { aws, s3: s3.clone(), sts, keys, files })) })
    }

    /// The files of the table that a metadata file describes, which `read` finds out the first time.
    pub(crate) fn files_of(
        &self,
        metadata_location: &str,
        read: impl FnOnce() -> Result<TableFiles, CatalogError>,
    ) -> Result<TableFiles, CatalogError> {
        let Some(inner) = &self.inner else { return read() };
        let files = inner.files.try_get_with_by_ref(metadata_location, read);
        files.map_err(|error: Arc<CatalogError>| (*error).clone())
    }

    /// Keys for the grant; none if the operator configured neither a role nor static keys.
    pub(crate) async fn vend(&self, grant: &Grant) -> Result<Option<VendedKeys>, CatalogError> {
        let Some(inner) = &self.inner else { return Ok(None) };
        if let Some(sts) = &inner.sts {
            return Ok(Some(inner.temporary(sts, grant).await?.vended()));
        }
        if !inner.delegation().static_keys {
            return Ok(None);
        }
        let keys = inner.own_keys().await?;
        Ok(Some(VendedKeys { config: static_config(&keys), tag: keys.key_id.clone() }))
    }

    /// Whether requests can be signed.
    pub(crate) fn signs(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| {
            let by_default = inner.sts.is_some() || inner.s3.endpoint.is_none();
            inner.delegation().remote_signing.unwrap_or(by_default)
        })
    }

    /// Signs one request to S3, if it stays within the grant.
    pub(crate) async fn sign(&self, grant: &Grant, request: SignRequest) -> Result<Signed, CatalogError> {
        let Some(inner) = self.inner.as_ref().filter(|_| self.signs()) else {
            let text = "this catalog signs no requests: its files are local, or its operator has to set \
                        storage.remote_signing";
            return Err(CatalogError::Invalid(text.to_owned()));
        };
        let region = inner.aws.region();
        let judged = request::judge(&request, &inner.s3, region)?;
        judged.check(grant)?;
        // With keys that fit the table, a server that overlooks what was added to a signed request still stays within it.
        let keys = match &inner.sts {
            Some(sts) => inner.temporary(sts, grant).await?.credential(),
            None => inner.own_keys().await?,
        };
        sign::sign(&keys, region, &request, judged)
    }
}

impl Inner {
    fn delegation(&self) -> &DelegationConfig {
        &self.s3.delegation
    }

    async fn own_keys(&self) -> Result<Arc<AwsCredential>, CatalogError> {
        self.aws.keys().await.map_err(|error| CatalogError::Unavailable(error.to_string()))
    }

    /// Keys for the grant, from the cache while they are fresh; whoever asks for the same meanwhile waits for one answer.
    async fn temporary(&self, sts: &Sts, grant: &Grant) -> Result<Arc<TemporaryKeys>, CatalogError> {
        let keys = self.keys.try_get_with_by_ref(grant, self.assume(sts, grant)).await;
        keys.map_err(|error: Arc<CatalogError>| (*error).clone())
    }

    async fn assume(&self, sts: &Sts, grant: &Grant) -> Result<Arc<TemporaryKeys>, CatalogError> {
        let keys = sts.assume(&self.aws, grant).await?;
        tracing::debug!(
            tenant = grant.tenant,
            principal = grant.principal,
            access = grant.access.word(),
            bucket = grant.files.bucket(),
            "vended keys for a table"
        );
        Ok(Arc::new(keys))
    }
}

fn static_config(keys: &AwsCredential) -> BTreeMap<String, String> {
    let mut config = BTreeMap::from([
        ("s3.access-key-id".to_owned(), keys.key_id.clone()),
        ("s3.secret-access-key".to_owned(), keys.secret_key.clone()),
    ]);
    if let Some(token) = &keys.token {
        config.insert("s3.session-token".to_owned(), token.clone());
    }
    config
}
