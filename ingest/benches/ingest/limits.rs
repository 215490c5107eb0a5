//! The least that there is to do: what reads a log, makes columns of JSON and writes Parquet, without all else that a worker
//! is for.

use std::{fs::File, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use arrow::{
    datatypes::{DataType, Field, Schema, SchemaRef},
    json::{ReaderBuilder, reader::Decoder},
};
use firn_inventory::{bronze_schema, tables::INVENTORY_TOPIC};
use firn_stream::{OffsetRange, TopicPartition};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use crate::house::House;

/// Rows of one batch.
const ROWS: usize = 8_192;
/// Records of one read of the embedded log, as the worker reads.
const READ_RECORDS: usize = 500;
/// A broker that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);

/// What is done with each record.
pub(crate) enum Work {
    /// Nothing.
    Read,
    /// It becomes a row of Arrow columns, by arrow-json.
    Columns(Box<Columns>),
}

/// Rows by arrow-json, and perhaps a file.
pub(crate) struct Columns {
    decoder: Decoder,
    writer: Option<ArrowWriter<File>>,
}

impl Work {
    /// Columns by arrow-json.
    pub(crate) fn columns() -> Result<Self> {
        Ok(Self::Columns(Box::new(Columns { decoder: decoder()?, writer: None })))
    }

    /// The same, written as Parquet into a file in `folder`, with the compression that the worker uses.
    pub(crate) fn parquet(folder: &Path) -> Result<Self> {
        let compression = Compression::ZSTD(ZstdLevel::try_new(1)?);
        let properties = WriterProperties::builder().set_compression(compression).build();
        let file = File::create(folder.join("limit.parquet"))?;
        let writer = ArrowWriter::try_new(file, record_schema(), Some(properties))?;
        Ok(Self::Columns(Box::new(Columns { decoder: decoder()?, writer: Some(writer) })))
    }

    pub(crate) fn take(&mut self, record: &[u8]) -> Result<()> {
        let Self::Columns(columns) = self else { return Ok(()) };
        let mut left = record;
        loop {
            let read = columns.decoder.decode(left)?;
            left = &left[read..];
            if left.is_empty() {
                return Ok(());
            }
            columns.flush()?;
        }
    }

    pub(crate) fn finish(self) -> Result<()> {
        let Self::Columns(mut columns) = self else { return Ok(()) };
        columns.flush()?;
        if let Some(writer) = columns.writer {
            writer.close()?;
        }
        Ok(())
    }
}

impl Columns {
    fn flush(&mut self) -> Result<()> {
        let rows = self.decoder.flush()?;
        if let (Some(writer), Some(rows)) = (&mut self.writer, rows) {
            writer.write(&rows)?;
        }
        Ok(())
    }
}

fn decoder() -> Result<Decoder> {
    Ok(ReaderBuilder::new(record_schema()).with_batch_size(ROWS).build_decoder()?)
}

/// Bronze's columns that are fields of the record: the worker writes eight more.
fn record_schema() -> SchemaRef {
    let bronze = bronze_schema();
    let fields = bronze.fields().iter().skip_while(|field| field.name() != "schema_version");
    let fields = fields.take_while(|field| field.name() != "extra").map(|field| {
        let data_type = match field.data_type() {
            // arrow-json reads instants into zones that are offsets.
            DataType::Timestamp(unit, _) => DataType::Timestamp(*unit, Some("+00:00".into())),
            other => other.clone(),
        };
        Arc::new(Field::new(field.name(), data_type, field.is_nullable()))
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Reads a part of the log with nothing between it and the work; answers how many records there were.
pub(crate) async fn consume(house: &House, ranges: &[OffsetRange], mut work: Work) -> Result<u64> {
    let records = match &house.kafka {
        Some(kafka) => {
            let servers = kafka.bootstrap_servers();
            tokio::task::block_in_place(|| consume_kafka(&servers, ranges, &mut work))?
        }
        None => consume_embedded(house, ranges, &mut work).await?,
    };
    work.finish()?;
    Ok(records)
}

async fn consume_embedded(house: &House, ranges: &[OffsetRange], work: &mut Work) -> Result<u64> {
    let mut count = 0;
    for (partition, range) in (0..).zip(ranges) {
        let from = TopicPartition { topic: INVENTORY_TOPIC.to_owned(), partition };
        let mut next = range.start;
        while next < range.end {
            for record in house.log.read(&from, next, READ_RECORDS, SILENCE).await? {
                work.take(&record.value.context("a record without payload")?)?;
                next = record.offset + 1;
                count += 1;
            }
        }
    }
    Ok(count)
}

fn consume_kafka(servers: &str, ranges: &[OffsetRange], work: &mut Work) -> Result<u64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "firn-bench-limit")
        .set("enable.auto.commit", "false")
        .create()?;
    let mut assigned = TopicPartitionList::new();
    for (partition, range) in (0..).zip(ranges).filter(|(_, range)| range.start < range.end) {
        assigned.add_partition_offset(INVENTORY_TOPIC, partition, Offset::Offset(range.start))?;
    }
    consumer.assign(&assigned)?;
    let wanted: i64 = ranges.iter().map(|range| range.end - range.start).sum();
    let wanted = u64::try_from(wanted)?;
    let mut count = 0;
    while count < wanted {
        let message = consumer.poll(SILENCE).context("the broker is silent")??;
        work.take(message.payload().context("a record without payload")?)?;
        count += 1;
    }
    ensure!(count == wanted, "the log has more records than were written");
    Ok(count)
}
