//! The limits: arrow-rs alone, in one thread, and copies of files.

use std::{fs, fs::File, path::PathBuf};

use anyhow::{Context, Result};
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use tempfile::TempDir;

/// Rows of a batch, as DataFusion has.
const BATCH_ROWS: usize = 8_192;

/// A local file's path.
pub(crate) fn path(location: &str) -> PathBuf {
    PathBuf::from(location.trim_start_matches("file://"))
}

/// Writes the rows of all files into one.
pub(crate) async fn rewrite(files: Vec<String>) -> Result<()> {
    tokio::task::spawn_blocking(move || {
        let folder = TempDir::with_prefix("firn-bench-")?;
        let properties =
            WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?));
        let (mut writer, target) = (None, File::create(folder.path().join("all.parquet"))?);
        for file in files {
            let rows = ParquetRecordBatchReaderBuilder::try_new(File::open(file)?)?;
            let rows = rows.with_batch_size(BATCH_ROWS).build()?;
            for batch in rows {
                let batch = batch?;
                let writer = match &mut writer {
                    Some(writer) => writer,
                    None => {
                        let properties = properties.clone().build();
                        writer.insert(ArrowWriter::try_new(
                            target.try_clone()?,
                            batch.schema(),
                            Some(properties),
                        )?)
                    }
                };
                writer.write(&batch)?;
            }
        }
        writer.context("no rows")?.close()?;
        Ok(target.sync_all()?)
    })
    .await?
}

/// Copies files.
pub(crate) async fn copy(files: Vec<PathBuf>) -> Result<()> {
    tokio::task::spawn_blocking(move || {
        let folder = TempDir::with_prefix("firn-bench-")?;
        for (number, file) in files.iter().enumerate() {
            let target = folder.path().join(number.to_string());
            fs::copy(file, &target)?;
            File::open(target)?.sync_all()?;
        }
        Ok(())
    })
    .await?
}
