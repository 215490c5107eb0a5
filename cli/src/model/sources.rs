//! Where the columns of tables that own models read are known from.

use anyhow::Result;
use firn_compactor::{ModelFiles, SourceTables};

use super::file_io;
use crate::connection::ConnectionArgs;

/// Whose tables the models read.
#[derive(clap::Args, Default)]
pub(super) struct SourceArgs {
    /// Branch, tag or hash whose tables the models may read, too; without it bronze.inventory and what models make, which needs no
    /// server
    #[arg(long = "ref")]
    pub(super) reference: Option<String>,
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
}

impl SourceArgs {
    /// The tables that `files` read.
    pub(super) async fn tables(&self, files: &ModelFiles) -> Result<SourceTables> {
        let Some(reference) = &self.reference else { return Ok(SourceTables::shipped()) };
        let client = self.connection.connect().await?.lake_client()?;
        Ok(SourceTables::of(&client, &file_io(), reference, files).await?)
    }
}
