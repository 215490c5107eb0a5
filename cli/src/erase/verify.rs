//! `firn erase verify`: anybody can check a receipt, with the public keys alone.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use firn_auth::verify_document;
use firn_catalog_client::{Erasure, RECEIPT_TYPE};
use firn_table::{FileIo, StorageConfig};

use crate::{connection::ConnectionArgs, output};

/// Arguments of `firn erase verify`.
#[derive(clap::Args)]
pub(super) struct VerifyArgs {
    /// File with the receipt
    receipt: PathBuf,
    /// File with the server's public keys (`GET /v1/keys`); asked from the server if left out
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Also look whether the files that the receipt names are gone, with this computer's own access to the store
    #[arg(long)]
    store: bool,
    /// Endpoint of an S3-compatible store
    #[arg(long, value_name = "URL", requires = "store")]
    endpoint: Option<String>,
    /// Print what the receipt says as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) async fn run(args: &VerifyArgs) -> Result<()> {
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))
    };
    let text = read(&args.receipt)?;
    let keys = match &args.keys {
        Some(path) => serde_json::from_str(&read(path)?)
            .with_context(|| format!("{} is no JSON Web Key Set", path.display()))?,
        None => args.connection.connect().await?.catalog()?.keys().await?,
    };
    let erasure: Erasure = verify_document(RECEIPT_TYPE, &text, &keys)
        .with_context(|| format!("{} is not a receipt to be trusted", args.receipt.display()))?;
    if args.store {
        look(&erasure, args.endpoint.clone()).await?;
    }
    if args.json {
        return output::json(&erasure);
    }
    let finished = erasure.finished_at.as_deref().unwrap_or_default();
    let said = [&erasure.tenant, &erasure.column, &erasure.requested_by].map(|text| output::plain(text));
    output::line(&format!(
        "the receipt is genuine: erasure {} in tenant {}, of a subject by {} (hash {}), asked for by {} at {}, done at {finished}",
        erasure.id, said[0], said[1], erasure.subject_hash, said[2], erasure.requested_at
    ))?;
    let (counts, tables) = (&erasure.counts, erasure.tables.len());
    output::line(&format!(
        "{} rows of {tables} tables went, {} files were deleted",
        counts.rows, counts.files_removed
    ))?;
    if args.store {
        output::line(&format!("none of the {} files that it names is there", erasure.removed.len()))?;
    }
    Ok(())
}

async fn look(erasure: &Erasure, endpoint: Option<String>) -> Result<()> {
    let path_style = endpoint.is_some();
    let files = FileIo::new(StorageConfig { endpoint, path_style, ..StorageConfig::default() });
    for file in &erasure.removed {
        if files.exists(file).await? {
            bail!("{} is still there, which the receipt says was deleted", output::plain(file));
        }
    }
    Ok(())
}
