//! `firn catalog export` and `rebuild`: the catalog's way out of and into the object store. They talk to database and store
//! themselves, since a rebuild has no server to talk to.

use std::path::PathBuf;

use anyhow::Result;
use firn_auth::SigningKey;
use firn_catalog::Catalog;
use firn_runtime::tls::{self, Tls};

use crate::{
    data_dir::{self, DataDir},
    output,
    settings::Settings,
};

/// Where database and store are.
#[derive(clap::Args)]
struct PlaceArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "FIRN_CONFIG")]
    config: Option<PathBuf>,
    /// Data directory of `firn up`
    #[arg(long, value_name = "DIR", default_value = data_dir::DEFAULT)]
    data_dir: PathBuf,
}

/// Arguments of `firn catalog export`.
#[derive(clap::Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// One tenant instead of all
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
}

/// Arguments of `firn catalog rebuild`.
#[derive(clap::Args)]
pub(crate) struct RebuildArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// One tenant instead of all
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Also take tables from metadata files that are newer than the export, whichever branch they were committed to
    #[arg(long)]
    from_metadata: bool,
}

impl PlaceArgs {
    async fn open(&self, dir: &DataDir) -> Result<Catalog> {
        let settings = Settings::load(self.config.as_deref(), dir)?;
        tls::install(&Tls::of_client(&settings.tls)?);
        // Nobody is answered, so no token is signed or verified.
        let config = settings.catalog_config(dir, SigningKey::generate(), "", settings.storage_keys()?)?;
        Ok(Catalog::open(config).await?)
    }

    /// The data directory, unless the settings name everything.
    fn dir(&self) -> DataDir {
        DataDir::new(&self.data_dir)
    }

    fn is_local(&self) -> bool {
        self.config.is_none()
    }
}

/// Beside a running server: what is exported is one state.
pub(crate) async fn export(args: &ExportArgs) -> Result<()> {
    let catalog = args.place.open(&args.place.dir()).await?;
    let tenants = match &args.tenant {
        Some(tenant) => vec![tenant.clone()],
        None => catalog.tenant_names().await?.iter().map(ToString::to_string).collect(),
    };
    for tenant in tenants {
        let exported = catalog.export(&tenant).await?;
        let (references, objects) = (exported.references, exported.objects);
        output::line(&format!(
            "{tenant}: {references} branches and tags, {objects} commits and tree nodes in {}",
            exported.location
        ))?;
    }
    Ok(())
}

pub(crate) async fn rebuild(args: &RebuildArgs) -> Result<()> {
    let dir = args.place.dir();
    // No server may run on the directory meanwhile.
    let locked = if args.place.is_local() { Some(dir.lock()?) } else { None };
    let dir = locked.as_ref().map_or_else(|| args.place.dir(), |locked| locked.dir.clone());
    let catalog = args.place.open(&dir).await?;
    for done in catalog.rebuild(args.tenant.as_deref(), args.from_metadata).await? {
        let since = done.exported_at_ms.map_or_else(
            || "no export".to_owned(),
            |at| format!("an export of {}", crate::duration::ago(at)),
        );
        output::line(&format!(
            "{}: from {since}: {} branches and tags, {} commits and tree nodes; {} tables from metadata files",
            done.tenant,
            done.references,
            done.objects,
            done.adopted.len()
        ))?;
        for table in done.adopted {
            output::line(&format!("  taken from its newest metadata file: {table}"))?;
        }
        for skipped in done.skipped {
            output::complain(&format!("  left alone: {}: {}", skipped.location, skipped.reason));
        }
    }
    Ok(())
}
