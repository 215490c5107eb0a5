//! A tenant's records that wait for their commit: as they came, or packed to a fraction of that while memory is short.
//!
//! With many tenants the bound on memory, not the interval, would say when a tenant is committed, and commits of a few records
//! each are what costs. Packed, about six times as many wait in the same memory.

use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes};

use super::Spans;
use crate::worker::address::Taken;

/// Records are packed once a tenant has this many bytes of them: enough to find what they have in common, and soon done.
const PACK_BYTES: usize = 64 << 10;
/// A tenant with more than this has enough for a commit that is worth its cost. It also bounds what one grows by when unpacked.
const MAX_PACKED_BYTES: usize = 16 << 20;
/// Of zstd. Higher levels gain little on records of one tenant, and cost much.
const LEVEL: i32 = 1;
/// Length of what isn't there.
const ABSENT: u32 = u32::MAX;

/// See the module.
#[derive(Default)]
pub(in crate::worker) struct Pending {
    loose: Vec<Taken>,
    loose_bytes: usize,
    packs: Vec<Pack>,
}

/// Some records, compressed.
struct Pack {
    /// No more than they are: the compressor's own buffer has room for what it didn't compress.
    bytes: Box<[u8]>,
    /// Bytes before compression.
    packed_bytes: usize,
    /// What the records take when they are loose.
    loose_bytes: usize,
    spans: Spans,
}

/// Packs. Keeps its memory from one time to the next.
pub(super) struct Packer {
    compressor: zstd::bulk::Compressor<'static>,
    buffer: Vec<u8>,
}

impl Pending {
    /// One more record; answers the bytes it takes.
    pub(super) fn push(&mut self, taken: Taken) -> usize {
        let bytes = taken.memory_bytes();
        self.loose_bytes += bytes;
        self.loose.push(taken);
        bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.loose.is_empty() && self.packs.is_empty()
    }

    /// Bytes of memory held.
    pub(super) fn memory_bytes(&self) -> usize {
        self.loose_bytes + self.packs.iter().map(|pack| pack.bytes.len()).sum::<usize>()
    }

    /// Bytes of memory that the records take once they are unpacked.
    pub(super) fn unpacked_bytes(&self) -> usize {
        self.loose_bytes + self.packs.iter().map(|pack| pack.loose_bytes).sum::<usize>()
    }

    /// Where all the records lie.
    pub(super) fn spans(&self) -> Spans {
        let mut spans = Spans::of(&self.loose);
        for pack in &self.packs {
            spans.join(pack.spans.clone(), |_| true);
        }
        spans
    }

    /// Forgets the records of a partition.
    pub(super) fn remove(&mut self, partition: i32) {
        let (touched, whole) =
            std::mem::take(&mut self.packs).into_iter().partition(|pack| pack.spans.has(partition));
        self.packs = whole;
        let touched: Vec<Pack> = touched;
        let unpacked = touched.iter().flat_map(Pack::records);
        self.loose = unpacked.chain(std::mem::take(&mut self.loose)).collect();
        self.loose.retain(|taken| taken.partition != partition);
        self.loose_bytes = self.loose.iter().map(Taken::memory_bytes).sum();
    }

    /// Packs what is loose, if it is time and worth it; answers the bytes that this frees.
    pub(super) fn pack(&mut self, packer: &mut Packer) -> usize {
        if self.loose_bytes < PACK_BYTES || self.unpacked_bytes() > MAX_PACKED_BYTES {
            return 0;
        }
        let before = self.memory_bytes();
        // What is refused already is rare, and stays as it is.
        let (refused, records): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.loose).into_iter().partition(|taken| taken.rejection.is_some());
        match packer.pack(&records) {
            Ok(pack) => {
                self.packs.push(pack);
                self.loose = refused;
            }
            // Nothing is lost by it but the memory.
            Err(error) => {
                tracing::debug!(%error, "records not packed");
                self.loose = refused.into_iter().chain(records).collect();
            }
        }
        self.loose_bytes = self.loose.iter().map(Taken::memory_bytes).sum();
        before.saturating_sub(self.memory_bytes())
    }

    /// All the records, off the async threads where that takes time.
    pub(in crate::worker) async fn into_records(self) -> Vec<Taken> {
        let Self { loose, packs, .. } = self;
        if packs.is_empty() {
            return loose;
        }
        let unpack = move || packs.iter().flat_map(Pack::records).chain(loose).collect();
        tokio::task::spawn_blocking(unpack).await.expect("unpacking is not cancelled, and doesn't panic")
    }
}

impl Packer {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { compressor: zstd::bulk::Compressor::new(LEVEL)?, buffer: Vec::new() })
    }

    fn pack(&mut self, records: &[Taken]) -> std::io::Result<Pack> {
        self.buffer.clear();
        for taken in records {
            put(&mut self.buffer, taken);
        }
        Ok(Pack {
            bytes: self.compressor.compress(&self.buffer)?.into_boxed_slice(),
            packed_bytes: self.buffer.len(),
            loose_bytes: records.iter().map(Taken::memory_bytes).sum(),
            spans: Spans::of(records),
        })
    }
}

impl Pack {
    /// The records, in their order; they share their memory.
    fn records(&self) -> Vec<Taken> {
        let bytes = zstd::bulk::decompress(&self.bytes, self.packed_bytes);
        let mut rest = Bytes::from(bytes.expect("what this process has compressed"));
        let mut records = Vec::with_capacity(self.spans.records());
        let mut source: Arc<str> = Arc::from("");
        while rest.has_remaining() {
            records.push(get(&mut rest, &mut source));
        }
        records
    }
}

fn put(buffer: &mut Vec<u8>, taken: &Taken) {
    buffer.put_i32_le(taken.partition);
    buffer.put_i64_le(taken.offset);
    buffer.put_i64_le(taken.received_at_us);
    let source = Some(taken.source.as_bytes());
    for part in [source, taken.key.as_deref(), taken.value.as_deref(), taken.traceparent.as_deref()] {
        // Records are a megabyte at the most.
        let length = part.and_then(|part| u32::try_from(part.len()).ok());
        buffer.put_u32_le(length.unwrap_or(ABSENT));
        buffer.extend_from_slice(part.unwrap_or_default());
    }
}

/// `source`: that of the record before, which mostly is this one's, too.
fn get(rest: &mut Bytes, source: &mut Arc<str>) -> Taken {
    let (partition, offset, received_at_us) = (rest.get_i32_le(), rest.get_i64_le(), rest.get_i64_le());
    let mut part = || match rest.get_u32_le() {
        ABSENT => None,
        length => Some(rest.split_to(length as usize)),
    };
    let named = part().unwrap_or_default();
    if named != source.as_bytes() {
        *source = Arc::from(String::from_utf8_lossy(&named));
    }
    let (key, value, traceparent) = (part(), part(), part());
    let source = Arc::clone(source);
    Taken { partition, offset, received_at_us, source, key, value, traceparent, rejection: None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use firn_inventory::RejectionKind;

    use super::*;

    fn taken(partition: i32, offset: i64) -> Taken {
        let text = |text: String| Some(Bytes::from(text));
        Taken {
            partition,
            offset,
            received_at_us: 1_790_000_000_000_000 + offset,
            source: Arc::from(if offset % 3 == 0 { "native" } else { "osquery" }),
            key: text(format!("acme/host-{offset}")).filter(|_| offset % 5 != 0),
            value: text(format!(r#"{{"host_id":"host-{offset}","note":"{}"}}"#, "x".repeat(500)))
                .filter(|_| offset % 7 != 0),
            traceparent: text("00-1-2-01".to_owned()).filter(|_| offset % 2 == 0),
            rejection: None,
        }
    }

    fn filled(records: &[Taken]) -> (Pending, Packer) {
        let mut pending = Pending::default();
        for taken in records {
            pending.push(taken.clone());
        }
        (pending, Packer::new().unwrap())
    }

    #[tokio::test]
    async fn packed_records_come_back_as_they_were() {
        let records: Vec<Taken> = (0..300).map(|offset| taken(0, offset)).collect();
        let (mut pending, mut packer) = filled(&records);
        let (loose_bytes, spans) = (pending.memory_bytes(), format!("{:?}", pending.spans()));
        pending.pack(&mut packer);
        assert!(pending.memory_bytes() < loose_bytes / 6, "{} of {loose_bytes}", pending.memory_bytes());
        assert_eq!((pending.unpacked_bytes(), format!("{:?}", pending.spans())), (loose_bytes, spans));
        pending.push(taken(0, 300));
        let expected: Vec<Taken> = (0..301).map(|offset| taken(0, offset)).collect();
        assert_eq!(pending.into_records().await, expected);
    }

    #[tokio::test]
    async fn refused_records_and_few_ones_stay_loose() {
        let mut records: Vec<Taken> = (0..300).map(|offset| taken(0, offset)).collect();
        let (mut few, mut packer) = filled(&records[..10]);
        few.pack(&mut packer);
        assert_eq!((few.packs.len(), few.loose.len()), (0, 10));
        records[7].misaddressed("no tenant");
        let (mut pending, _) = filled(&records);
        pending.pack(&mut packer);
        assert_eq!((pending.packs.len(), pending.loose.len()), (1, 1));
        let refused: Vec<_> =
            pending.into_records().await.into_iter().filter_map(|taken| taken.rejection).collect();
        assert_eq!(refused.len(), 1);
        assert_eq!(refused[0].kind, RejectionKind::Misaddressed);
    }

    #[tokio::test]
    async fn a_revoked_partition_leaves_packs_too() {
        let records: Vec<Taken> = (0..300).map(|offset| taken(i32::from(offset % 4 == 0), offset)).collect();
        let (mut pending, mut packer) = filled(&records);
        pending.pack(&mut packer);
        pending.remove(1);
        let kept: Vec<Taken> = records.into_iter().filter(|taken| taken.partition == 0).collect();
        assert_eq!(pending.memory_bytes(), kept.iter().map(Taken::memory_bytes).sum::<usize>());
        assert_eq!(pending.into_records().await, kept);
    }
}
