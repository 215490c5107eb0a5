//! Delete files by position, whose data files have other names and fewer rows now.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use iceberg::{
    metadata_columns::RESERVED_FIELD_ID_DELETE_FILE_PATH,
    spec::{DataContentType, DataFile, DataFileFormat, Datum},
};
use roaring::RoaringTreemap;

use super::{Scrub, Survey, apply::Pass, names::plain, survey::unreadable};
use crate::{
    TableError,
    commit::{position_delete_file, vector_file},
    deletes::load_positions,
    manifests::{LiveFile, copy_of, load_manifest},
};

/// Plain location and offset: a Puffin file holds many deletion vectors.
pub(super) type DeleteKey = (String, Option<i64>);

pub(super) fn delete_key(file: &DataFile) -> DeleteKey {
    (plain(file.file_path()), file.content_offset())
}

impl Scrub {
    /// Writes anew the delete files that name replaced data files.
    pub(super) async fn rewrite_deletes(
        &mut self,
        survey: &Survey,
        pass: &mut Pass,
    ) -> Result<(), TableError> {
        let mut seen = HashMap::new();
        for (key, (manifest, _)) in &survey.tree.manifests {
            if !survey.tree.stored.contains_key(key) {
                continue;
            }
            for entry in load_manifest(&self.file_io, manifest).await?.iter() {
                let file = &entry.data_file;
                if file.content_type() == DataContentType::PositionDeletes
                    && survey.tree.stored.contains_key(&plain(file.file_path()))
                {
                    let live = LiveFile { spec_id: manifest.partition_spec_id, entry: entry.clone() };
                    seen.entry(delete_key(file)).or_insert(live);
                }
            }
        }
        for (key, delete) in seen {
            // A file that names its only data file needn't be read to know that it stays.
            let named = delete.data_file().referenced_data_file();
            if named.is_some_and(|path| !pass.files.contains_key(&plain(&path))) {
                continue;
            }
            let before = load_positions(&self.file_io, &delete).await?;
            if !before.keys().any(|path| pass.files.contains_key(&plain(path))) {
                continue;
            }
            let mut after = BTreeMap::new();
            for (path, positions) in before {
                let path_key = plain(&path);
                let (path, positions) = match pass.files.get(&path_key) {
                    None => (path, positions),
                    Some(None) => continue,
                    Some(Some(new)) => {
                        let removed = survey.dirty.get(&path_key).cloned().unwrap_or_default();
                        (new.location.clone(), shifted(&positions, &removed))
                    }
                };
                if !positions.is_empty() {
                    after.insert(path, positions);
                }
            }
            let written = self.write_delete(delete.data_file(), &after).await?;
            pass.deletes.insert(key, written);
        }
        Ok(())
    }

    /// A delete file with other positions; `None` if there are none.
    async fn write_delete(
        &mut self,
        old: &DataFile,
        deletes: &BTreeMap<String, RoaringTreemap>,
    ) -> Result<Option<DataFile>, TableError> {
        let Some((first, _)) = deletes.first_key_value() else { return Ok(None) };
        let last = deletes.last_key_value().map_or(first, |(last, _)| last);
        let is_vector = old.file_format() == DataFileFormat::Puffin;
        let suffix = if is_vector { "-deletes.puffin" } else { "-deletes.parquet" };
        let location = self.new_location(old.file_path(), suffix);
        let rows = deletes.iter().map(|(path, positions)| (path.as_str(), positions));
        let mut builder = copy_of(old);
        let bytes = if is_vector {
            let rows: Vec<_> = rows.collect();
            let (bytes, places) = vector_file(&location, &rows).await?;
            let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
            let place = places.first().copied();
            builder
                .content_offset(place.map(|(offset, _)| number(offset)))
                .content_size_in_bytes(place.map(|(_, length)| number(length)));
            bytes
        } else {
            let bytes = position_delete_file(rows).map_err(|error| unreadable(&location, error))?;
            let bound =
                |path: &str| HashMap::from([(RESERVED_FIELD_ID_DELETE_FILE_PATH, Datum::string(path))]);
            builder.lower_bounds(bound(first)).upper_bounds(bound(last));
            Bytes::from(bytes)
        };
        builder
            .file_path(location.clone())
            .record_count(deletes.values().map(RoaringTreemap::len).sum::<u64>())
            .file_size_in_bytes(bytes.len() as u64)
            .column_sizes(HashMap::new())
            .value_counts(HashMap::new())
            .null_value_counts(HashMap::new())
            .split_offsets(None)
            .referenced_data_file(old.referenced_data_file().map(|_| first.clone()));
        let file = builder.build().map_err(|error| unreadable(&location, error))?;
        self.file_io.write_new(&location, bytes).await?;
        Ok(Some(file))
    }
}

/// Where rows stand once those at `removed` are gone.
fn shifted(positions: &RoaringTreemap, removed: &RoaringTreemap) -> RoaringTreemap {
    let stay = positions - removed;
    stay.iter().map(|position| position - removed.rank(position)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_move_up_by_those_that_went_before_them() {
        let set = |positions: &[u64]| positions.iter().copied().collect::<RoaringTreemap>();
        assert_eq!(shifted(&set(&[0, 2, 5, 9]), &set(&[1, 5, 6])), set(&[0, 1, 6]));
        assert_eq!(shifted(&set(&[3]), &set(&[3])), set(&[]));
        assert_eq!(shifted(&set(&[3]), &set(&[])), set(&[3]));
    }
}
