//! What the values of a column add up to. Meant to cost little beside encoding them: one pass over memory, without hashing.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, ByteView, GenericByteArray, GenericListArray, OffsetSizeTrait},
    buffer::{Buffer, NullBuffer},
    datatypes::{
        BinaryType, BinaryViewType, ByteArrayType, ByteViewType, DataType, Field, LargeBinaryType,
        LargeUtf8Type, StringViewType, Utf8Type,
    },
};

use super::ColumnSums;
use crate::schema::field_id;

/// Adds a column's values, and those within it, where neither it nor what it is part of (`parent`) is null.
pub(super) fn add(sums: &mut ColumnSums, field: &Field, array: &ArrayRef, parent: Option<&NullBuffer>) {
    let nulls = NullBuffer::union(parent, array.logical_nulls().as_ref());
    let nulls = nulls.as_ref().filter(|nulls| nulls.null_count() > 0);
    match array.data_type() {
        DataType::Struct(fields) => {
            for (field, child) in fields.iter().zip(array.as_struct().columns()) {
                add(sums, field, child, nulls);
            }
        }
        DataType::List(item) => list(sums, field, item, array.as_list::<i32>(), nulls),
        DataType::LargeList(item) => list(sums, field, item, array.as_list::<i64>(), nulls),
        DataType::Map(entries, _) => {
            let map = array.as_map();
            let (offsets, entry_rows) = (map.offsets(), map.entries());
            let length = count(sums, field, offsets, nulls);
            let rows: ArrayRef = Arc::new(entry_rows.clone());
            each_shown(offsets, nulls, length, |range| {
                add(sums, entries, &rows.slice(range.start, range.len()), None);
            });
        }
        DataType::Utf8 => texts::<Utf8Type>(sums, field, array, nulls),
        DataType::LargeUtf8 => texts::<LargeUtf8Type>(sums, field, array, nulls),
        DataType::Binary => texts::<BinaryType>(sums, field, array, nulls),
        DataType::LargeBinary => texts::<LargeBinaryType>(sums, field, array, nulls),
        DataType::Utf8View => views::<StringViewType>(sums, field, array, nulls),
        DataType::BinaryView => views::<BinaryViewType>(sums, field, array, nulls),
        _ => fixed(sums, field, array, nulls),
    }
}

fn list<O: OffsetSizeTrait>(
    sums: &mut ColumnSums,
    field: &Field,
    item: &Field,
    lists: &GenericListArray<O>,
    nulls: Option<&NullBuffer>,
) {
    let length = count(sums, field, lists.offsets(), nulls);
    each_shown(lists.offsets(), nulls, length, |range| {
        add(sums, item, &lists.values().slice(range.start, range.len()), None);
    });
}

/// Adds up the lengths of lists under the column's own id.
fn count<O: OffsetSizeTrait>(
    sums: &mut ColumnSums,
    field: &Field,
    offsets: &[O],
    nulls: Option<&NullBuffer>,
) -> usize {
    let length = shown(offsets, nulls);
    put(sums, field, length as u64);
    length
}

fn texts<T: ByteArrayType>(
    sums: &mut ColumnSums,
    field: &Field,
    array: &ArrayRef,
    nulls: Option<&NullBuffer>,
) {
    let array: &GenericByteArray<T> = array.as_bytes::<T>();
    let (offsets, bytes) = (array.value_offsets(), array.value_data());
    let length = shown(offsets, nulls);
    if sums.with_content {
        let mut content = 0_u64;
        each_shown(offsets, nulls, length, |range| content = content.wrapping_add(of_bytes(&bytes[range])));
        put(sums, field, content);
    }
    put_bytes(sums, field, length as u64);
}

/// The same values add up to the same, wherever they lie.
fn views<T: ByteViewType>(
    sums: &mut ColumnSums,
    field: &Field,
    array: &ArrayRef,
    nulls: Option<&NullBuffer>,
) {
    let array = array.as_byte_view::<T>();
    let (views, buffers) = (array.views(), array.data_buffers());
    let (mut bytes, mut content) = (0_u64, 0_u64);
    for run in runs(nulls, views.len()) {
        for view in &views[run] {
            bytes = bytes.wrapping_add(u64::from(ByteView::from(*view).length));
            if sums.with_content {
                content = content.wrapping_add(of_view(*view, buffers));
            }
        }
    }
    put(sums, field, content);
    put_bytes(sums, field, bytes);
}

/// Values of one width. Of types that no table's column has nothing is told.
fn fixed(sums: &mut ColumnSums, field: &Field, array: &ArrayRef, nulls: Option<&NullBuffer>) {
    if !sums.with_content {
        return;
    }
    if let Some(booleans) = array.as_boolean_opt() {
        let values = booleans.values();
        let set =
            nulls.map_or_else(|| values.count_set_bits(), |nulls| (values & nulls.inner()).count_set_bits());
        return put(sums, field, set as u64);
    }
    let width = match array.data_type() {
        DataType::FixedSizeBinary(width) => usize::try_from(*width).ok(),
        other => other.primitive_width(),
    };
    let data = array.to_data();
    let (Some(width), Some(buffer)) = (width, data.buffers().first()) else { return };
    let values = &buffer[data.offset() * width..][..data.len() * width];
    let mut content = 0_u64;
    for run in runs(nulls, data.len()) {
        content = content.wrapping_add(of_fixed(&values[run.start * width..run.end * width], width));
    }
    put(sums, field, content);
}

fn put(sums: &mut ColumnSums, field: &Field, content: u64) {
    if let Some(id) = field_id(field).filter(|_| sums.with_content) {
        let sum = sums.columns.entry(id).or_default().content.get_or_insert_default();
        *sum = sum.wrapping_add(content);
    }
}

fn put_bytes(sums: &mut ColumnSums, field: &Field, bytes: u64) {
    if let Some(id) = field_id(field) {
        *sums.columns.entry(id).or_default().bytes.get_or_insert_default() += bytes;
    }
}

/// Runs of rows that have a value.
fn runs(nulls: Option<&NullBuffer>, length: usize) -> impl Iterator<Item = Range<usize>> {
    let whole = nulls.is_none().then_some(0..length);
    let valid = nulls.into_iter().flat_map(NullBuffer::valid_slices).map(|(start, end)| start..end);
    whole.into_iter().chain(valid)
}

fn span<O: OffsetSizeTrait>(offsets: &[O], rows: Range<usize>) -> Range<usize> {
    offsets[rows.start].as_usize()..offsets[rows.end].as_usize()
}

/// Bytes, or values, that rows with a value refer to. Those of the others are counted, since there are mostly none.
fn shown<O: OffsetSizeTrait>(offsets: &[O], nulls: Option<&NullBuffer>) -> usize {
    let rows = offsets.len() - 1;
    let (all, mut hidden, mut first) = (span(offsets, 0..rows).len(), 0, 0);
    let Some(nulls) = nulls else { return all };
    let chunks = nulls.inner().bit_chunks();
    for valid in chunks.iter().chain([chunks.remainder_bits()]) {
        let end = rows.min(first + 64);
        let mut missing = !valid;
        if missing == u64::MAX {
            hidden += span(offsets, first..end).len();
            missing = 0;
        }
        while missing != 0 {
            let row = first + missing.trailing_zeros() as usize;
            if row >= end {
                break;
            }
            hidden += span(offsets, row..row + 1).len();
            missing &= missing - 1;
        }
        first = end;
    }
    all - hidden
}

/// Calls `use_range` with what rows that have a value refer to: all at once, unless others refer to something, too.
fn each_shown<O: OffsetSizeTrait>(
    offsets: &[O],
    nulls: Option<&NullBuffer>,
    shown: usize,
    mut use_range: impl FnMut(Range<usize>),
) {
    let rows = offsets.len() - 1;
    let all = span(offsets, 0..rows);
    if all.len() == shown {
        use_range(all);
    } else {
        runs(nulls, rows).for_each(|run| use_range(span(offsets, run)));
    }
}

/// Little-endian numbers of 1, 2, 4 or 8 bytes; longer values in parts of 8 bytes.
fn of_fixed(values: &[u8], width: usize) -> u64 {
    let sum = |values: &mut dyn Iterator<Item = u64>| values.fold(0, u64::wrapping_add);
    match width {
        2 => sum(&mut values.as_chunks().0.iter().map(|value| u64::from(u16::from_le_bytes(*value)))),
        4 => sum(&mut values.as_chunks().0.iter().map(|value| u64::from(u32::from_le_bytes(*value)))),
        8 | 16 => sum(&mut values.as_chunks().0.iter().map(|value| u64::from_le_bytes(*value))),
        _ => of_bytes(values),
    }
}

/// Bytes of a value that lies in its view.
const IN_VIEW: u32 = 12;

/// The sum of a view's bytes. Short values lie in it, behind their length, followed by zeros.
fn of_view(view: u128, buffers: &[Buffer]) -> u64 {
    let place = ByteView::from(view);
    if place.length <= IN_VIEW {
        return add_up(pairs((view >> 32) as u64).wrapping_add(pairs((view >> 96) as u64)));
    }
    let start = place.offset as usize;
    of_bytes(&buffers[place.buffer_index as usize][start..][..place.length as usize])
}

/// The sum of bytes: eight at once, as four sums of 16 bits, which hold no more than 128 pairs of bytes.
fn of_bytes(bytes: &[u8]) -> u64 {
    const PAIRS: usize = 128;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut sum = match bytes.last_chunk::<8>() {
        // What the last of the words has already is shifted out.
        Some(last) if !rest.is_empty() => add_up(pairs(u64::from_le_bytes(*last) >> (64 - 8 * rest.len()))),
        _ => rest.iter().map(|byte| u64::from(*byte)).sum(),
    };
    for block in words.chunks(PAIRS) {
        let mut sums = 0_u64;
        for word in block {
            sums = sums.wrapping_add(pairs(u64::from_le_bytes(*word)));
        }
        sum += add_up(sums);
    }
    sum
}

/// Sums of two bytes each.
fn pairs(word: u64) -> u64 {
    const EVEN: u64 = 0x00ff_00ff_00ff_00ff;
    (word & EVEN).wrapping_add((word >> 8) & EVEN)
}

/// What four sums of 16 bits add up to.
fn add_up(sums: u64) -> u64 {
    const EVEN: u64 = 0x0000_ffff_0000_ffff;
    let sums = (sums & EVEN).wrapping_add((sums >> 16) & EVEN);
    (sums & 0xffff_ffff).wrapping_add(sums >> 32)
}
