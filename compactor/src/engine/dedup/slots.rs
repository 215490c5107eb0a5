//! Which keys may be there more than once, by their hashes: a bit for each of many slots.
//!
//! Two rows of one key always share a slot; rows of different keys do rarely. So what shares none needs no closer look, and
//! memory is two bits a slot, whatever the number of rows: with more rows than slots more of them are looked at, no result changes.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, BooleanArray, StringArray},
        compute::cast,
        datatypes::DataType,
        error::ArrowError,
    },
    common::hash_utils::{RandomState, create_hashes},
    error::Result,
    logical_expr::{ColumnarValue, Expr, Volatility, cast as cast_expr, create_udf},
};

use crate::engine::locate::named;

/// Slots for each expected row, so that one in 256 rows shares its own by chance.
const SLOTS_PER_ROW: u64 = 256;
/// Fewest and most slots: 128 KiB to 16 MiB for each of the two sets of bits.
const SLOTS: (u64, u64) = (1 << 20, 1 << 27);

/// One bit per slot.
struct Bits(Vec<u64>);

impl Bits {
    fn new(slots: u64) -> Self {
        Self(vec![0; usize::try_from(slots / 64).unwrap_or(usize::MAX)])
    }

    /// Word and bit of a hash; the number of slots is a power of two.
    fn place(&self, hash: u64) -> (usize, u64) {
        let slot = hash & (self.0.len() as u64 * 64 - 1);
        (usize::try_from(slot / 64).unwrap_or_default(), 1 << (slot % 64))
    }

    fn has(&self, hash: u64) -> bool {
        let (word, bit) = self.place(hash);
        self.0[word] & bit != 0
    }

    fn set(&mut self, hash: u64) {
        let (word, bit) = self.place(hash);
        self.0[word] |= bit;
    }
}

/// Slots of the keys that were seen.
pub(super) struct Slots {
    taken: Bits,
    shared: Bits,
}

impl Slots {
    /// Slots for about so many rows.
    pub(super) fn for_rows(rows: u64) -> Self {
        let slots = rows.saturating_mul(SLOTS_PER_ROW).clamp(SLOTS.0, SLOTS.1).next_power_of_two();
        Self { taken: Bits::new(slots), shared: Bits::new(slots) }
    }

    /// Adds rows; those with a null in their key take no slot.
    pub(super) fn take(&mut self, key: &[StringArray], rows: usize) -> Result<(), ArrowError> {
        let hashes = hash_keys(key, rows)?;
        for (row, hash) in hashes.into_iter().enumerate() {
            if key.iter().any(|column| column.is_null(row)) {
                continue;
            }
            if self.taken.has(hash) {
                self.shared.set(hash);
            } else {
                self.taken.set(hash);
            }
        }
        Ok(())
    }

    /// True for rows whose slot more than one row took.
    pub(super) fn shared(self, key: &[String]) -> Expr {
        in_slots("firn_in_shared_slot", self.shared, key)
    }

    /// True for rows whose slot was taken.
    pub(super) fn taken(self, key: &[String]) -> Expr {
        in_slots("firn_in_taken_slot", self.taken, key)
    }
}

/// Hashes of the rows' keys, the same for equal keys of all batches.
pub(super) fn hash_keys(key: &[StringArray], rows: usize) -> Result<Vec<u64>, ArrowError> {
    let mut hashes = vec![0; rows];
    let columns = key.iter().map(|column| column as &dyn Array);
    create_hashes(columns, &RandomState::default(), &mut hashes)
        .map_err(|error| ArrowError::ComputeError(error.to_string()))?;
    Ok(hashes)
}

fn in_slots(name: &str, bits: Bits, key: &[String]) -> Expr {
    let test = move |columns: &[ColumnarValue]| -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(columns)?;
        let text = |array: &ArrayRef| Ok(cast(array, &DataType::Utf8)?.as_string::<i32>().clone());
        let key = arrays.iter().map(text).collect::<Result<Vec<_>, ArrowError>>()?;
        let hashes = hash_keys(&key, arrays.first().map_or(0, |array| array.len()))?;
        let found: BooleanArray = hashes.into_iter().map(|hash| Some(bits.has(hash))).collect();
        Ok(ColumnarValue::Array(Arc::new(found)))
    };
    let types = vec![DataType::Utf8; key.len()];
    let function = create_udf(name, types, DataType::Boolean, Volatility::Immutable, Arc::new(test));
    function.call(key.iter().map(|name| cast_expr(named(name), DataType::Utf8)).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rows_of_one_key_share_a_slot_and_others_hardly_ever() {
        let rows = 10_000;
        let key = |range: std::ops::Range<u32>| {
            [range.map(|number| Some(format!("event-{number}"))).collect::<StringArray>()]
        };
        let mut slots = Slots::for_rows(rows);
        slots.take(&key(0..10_000), 10_000).unwrap();
        let mut crowded = Vec::new();
        for (number, hash) in hash_keys(&key(0..10_000), 10_000).unwrap().into_iter().enumerate() {
            assert!(slots.taken.has(hash));
            crowded.extend(slots.shared.has(hash).then_some(number));
        }
        assert!(crowded.len() < 200, "{} of 10,000 share a slot by chance", crowded.len());
        slots.take(&key(5..6), 1).unwrap();
        let five = hash_keys(&key(5..6), 1).unwrap()[0];
        assert!(slots.shared.has(five));
        slots.take(&[StringArray::from(vec![None::<&str>])], 1).unwrap();
        assert!(!slots.taken.has(hash_keys(&[StringArray::from(vec![None::<&str>])], 1).unwrap()[0]));
    }
}
