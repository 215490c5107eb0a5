//! Where the catalog's files are.

use std::sync::Arc;

use anyhow::Result;
use firn_catalog::S3Config;
use firn_runtime::reload::Live;
use firn_tests::SeaweedFs;
use object_store::{ObjectStore, aws::AmazonS3};
use tempfile::TempDir;

const BUCKET: &str = "lake";
const REGION: &str = "us-east-1";

pub(crate) enum Files {
    Disk(TempDir),
    S3(SeaweedFs),
}

impl Files {
    pub(crate) fn on_disk() -> Result<Self> {
        Ok(Self::Disk(TempDir::with_prefix("firn-bench-")?))
    }

    /// In a bucket of a server that is started for it.
    pub(crate) async fn on_s3() -> Result<Self> {
        let server = SeaweedFs::start().await?;
        server.create_bucket(BUCKET).await?;
        Ok(Self::S3(server))
    }

    pub(crate) fn warehouse(&self) -> String {
        match self {
            Self::Disk(folder) => format!("file://{}", folder.path().display()),
            Self::S3(_) => format!("s3://{BUCKET}/firn"),
        }
    }

    pub(crate) fn config(&self) -> S3Config {
        match self {
            Self::Disk(_) => S3Config::default(),
            Self::S3(server) => S3Config {
                endpoint: Some(server.endpoint()),
                region: Some(REGION.to_owned()),
                path_style: true,
                credentials: Some(Live::new((
                    SeaweedFs::ACCESS_KEY.to_owned(),
                    SeaweedFs::SECRET_KEY.to_owned(),
                ))),
                ..S3Config::default()
            },
        }
    }

    /// A client of the bucket, if there is one.
    pub(crate) fn bucket(&self) -> Result<Option<Arc<dyn ObjectStore>>> {
        let Self::S3(server) = self else { return Ok(None) };
        let bucket = firn_runtime::s3::bucket(BUCKET, Some(&server.endpoint()), Some(REGION), true)
            .with_access_key_id(SeaweedFs::ACCESS_KEY)
            .with_secret_access_key(SeaweedFs::SECRET_KEY)
            .build()?;
        Ok(Some(Arc::<AmazonS3>::new(bucket)))
    }
}
