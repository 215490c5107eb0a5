//! Which delete files apply to a data file (specification, "Scan Planning").
//!
//! | delete | applies to data files | of which partition |
//! | --- | --- | --- |
//! | deletion vector, position deletes | with the same or a lower data sequence number | the same; vectors: the one file they name |
//! | equality deletes | with a lower data sequence number | the same; of an unpartitioned spec: all |
//!
//! Where a data file has a deletion vector, its position delete files no longer count.

use std::collections::{BTreeMap, HashMap};

use iceberg::{
    metadata_columns::RESERVED_FIELD_ID_DELETE_FILE_PATH,
    spec::{DataContentType, DataFile, DataFileFormat, ManifestFile, PartitionSpec, PrimitiveLiteral},
};

use crate::{
    Table, TableError, TableErrorKind,
    manifests::{LiveFile, PartitionKey, live_files},
};

/// The delete files of a snapshot, by what they can apply to.
#[derive(Default)]
pub(crate) struct DeleteIndex {
    vectors: HashMap<String, Vec<LiveFile>>,
    positions_of_file: HashMap<String, Vec<LiveFile>>,
    positions_of_partition: HashMap<PartitionKey, Vec<LiveFile>>,
    equality_of_partition: HashMap<PartitionKey, Vec<LiveFile>>,
    equality_everywhere: Vec<LiveFile>,
}

/// What applies to one data file.
#[derive(Clone, Default)]
pub(crate) struct FileDeletes {
    pub(crate) vector: Option<LiveFile>,
    /// Empty where there is a vector.
    pub(crate) positions: Vec<LiveFile>,
    pub(crate) equality: Vec<LiveFile>,
}

impl FileDeletes {
    /// Files to be read to know all deleted rows.
    pub(crate) fn count(&self) -> usize {
        self.vector.iter().count() + self.positions.len() + self.equality.len()
    }

    /// Rows that are deleted by position, as far as the manifests tell.
    pub(crate) fn known_rows(&self) -> u64 {
        let own = self.positions.iter().filter(|delete| only_data_file(delete.data_file()).is_some());
        self.vector.iter().chain(own).map(|delete| delete.data_file().record_count()).sum()
    }

    /// Whether rows are deleted by position.
    pub(crate) fn by_position(&self) -> bool {
        self.vector.is_some() || !self.positions.is_empty()
    }
}

impl DeleteIndex {
    /// The index over the live entries of delete manifests.
    pub(crate) async fn load(table: &Table, manifests: &[ManifestFile]) -> Result<Self, TableError> {
        let files = live_files(table.file_io(), manifests).await?;
        Ok(Self::new(files, &table.partition_specs()?))
    }

    pub(crate) fn new(files: Vec<LiveFile>, specs: &BTreeMap<i32, PartitionSpec>) -> Self {
        let mut index = Self::default();
        for file in files {
            let list = match file.data_file().content_type() {
                DataContentType::Data => continue,
                DataContentType::PositionDeletes => match only_data_file(file.data_file()) {
                    Some(path) if is_vector(file.data_file()) => index.vectors.entry(path).or_default(),
                    Some(path) => index.positions_of_file.entry(path).or_default(),
                    None => index.positions_of_partition.entry(file.partition_key()).or_default(),
                },
                DataContentType::EqualityDeletes if global_scope(&file, specs) => {
                    &mut index.equality_everywhere
                }
                DataContentType::EqualityDeletes => {
                    index.equality_of_partition.entry(file.partition_key()).or_default()
                }
            };
            list.push(file);
        }
        index
    }

    fn is_empty(&self) -> bool {
        self.vectors.is_empty()
            && self.positions_of_file.is_empty()
            && self.positions_of_partition.is_empty()
            && self.equality_of_partition.is_empty()
            && self.equality_everywhere.is_empty()
    }

    /// What applies to a data file. Two deletion vectors for one file are a malformed table.
    pub(crate) fn of(&self, file: &LiveFile) -> Result<FileDeletes, TableError> {
        if self.is_empty() {
            return Ok(FileDeletes::default());
        }
        let (path, sequence_number, partition) =
            (file.location(), file.sequence_number(), file.partition_key());
        let not_older = |delete: &&LiveFile| delete.sequence_number() >= sequence_number;
        let newer = |delete: &&LiveFile| delete.sequence_number() > sequence_number;
        let mut deletes = FileDeletes::default();
        let mut vectors = self.vectors.get(path).into_iter().flatten().filter(not_older);
        deletes.vector = vectors.next().cloned();
        if let (Some(first), Some(second)) = (&deletes.vector, vectors.next()) {
            return Err(TableError::new(
                TableErrorKind::Invalid,
                format!(
                    "{path} has two deletion vectors, in {} and {}; rewrite the table with the engine that wrote them",
                    first.location(),
                    second.location()
                ),
            ));
        }
        if deletes.vector.is_none() {
            let of_file = self.positions_of_file.get(path).into_iter().flatten();
            let of_partition = self.positions_of_partition.get(&partition).into_iter().flatten();
            let of_partition = of_partition.filter(|delete| may_name(delete.data_file(), path));
            deletes.positions = of_file.chain(of_partition).filter(not_older).cloned().collect();
        }
        let of_partition = self.equality_of_partition.get(&partition).into_iter().flatten();
        deletes.equality = of_partition.chain(&self.equality_everywhere).filter(newer).cloned().collect();
        Ok(deletes)
    }
}

/// Whether an equality delete file applies to all partitions.
pub(crate) fn global_scope(file: &LiveFile, specs: &BTreeMap<i32, PartitionSpec>) -> bool {
    specs
        .get(&file.spec_id)
        .map_or_else(|| file.data_file().partition().iter().next().is_none(), PartitionSpec::is_unpartitioned)
}

fn is_vector(delete: &DataFile) -> bool {
    delete.file_format() == DataFileFormat::Puffin
}

/// The one data file that position deletes name, if the manifest tells.
fn only_data_file(delete: &DataFile) -> Option<String> {
    delete.referenced_data_file().or_else(|| {
        let (lower, upper) = path_bounds(delete);
        lower.filter(|lower| Some(lower) == upper.as_ref())
    })
}

fn may_name(delete: &DataFile, path: &str) -> bool {
    let (lower, upper) = path_bounds(delete);
    lower.is_none_or(|lower| lower.as_str() <= path) && upper.is_none_or(|upper| path <= upper.as_str())
}

fn path_bounds(delete: &DataFile) -> (Option<String>, Option<String>) {
    let text = |bounds: &HashMap<i32, iceberg::spec::Datum>| match bounds
        .get(&RESERVED_FIELD_ID_DELETE_FILE_PATH)?
        .literal()
    {
        PrimitiveLiteral::String(text) => Some(text.clone()),
        _ => None,
    };
    (text(delete.lower_bounds()), text(delete.upper_bounds()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use iceberg::spec::{DataFileBuilder, Datum, Literal, ManifestEntry, ManifestStatus, Struct};

    use super::*;

    /// Spec 0 is unpartitioned, spec 1 by one column.
    fn specs() -> BTreeMap<i32, PartitionSpec> {
        let spec = |json: &str| serde_json::from_str::<PartitionSpec>(json).unwrap();
        let one =
            r#"{"spec-id":1,"fields":[{"name":"n","transform":"identity","source-id":1,"field-id":1000}]}"#;
        BTreeMap::from([(0, spec(r#"{"spec-id":0,"fields":[]}"#)), (1, spec(one))])
    }

    struct New {
        path: &'static str,
        content: DataContentType,
        partition: Option<Literal>,
        sequence_number: i64,
        names: Option<&'static str>,
        bounds: Option<(&'static str, &'static str)>,
    }

    fn new(path: &'static str, content: DataContentType, sequence_number: i64) -> New {
        New { path, content, partition: None, sequence_number, names: None, bounds: None }
    }

    fn live(new: New) -> LiveFile {
        let format =
            if new.path.ends_with("puffin") { DataFileFormat::Puffin } else { DataFileFormat::Parquet };
        let spec_id = i32::from(new.partition.is_some());
        let mut builder = DataFileBuilder::default();
        builder
            .content(new.content)
            .file_path(new.path.to_owned())
            .file_format(format)
            .partition(Struct::from_iter(new.partition.map(Some)))
            .record_count(1)
            .file_size_in_bytes(1)
            .referenced_data_file(new.names.map(str::to_owned));
        if let Some((lower, upper)) = new.bounds {
            let bound =
                |text: &str| HashMap::from([(RESERVED_FIELD_ID_DELETE_FILE_PATH, Datum::string(text))]);
            builder.lower_bounds(bound(lower)).upper_bounds(bound(upper));
        }
        let entry = ManifestEntry::builder()
            .status(ManifestStatus::Added)
            .sequence_number(new.sequence_number)
            .data_file(builder.build().unwrap());
        LiveFile { spec_id, entry: Arc::new(entry.build()) }
    }

    fn names(deletes: &FileDeletes) -> Vec<&str> {
        let all = deletes.vector.iter().chain(&deletes.positions).chain(&deletes.equality);
        all.map(LiveFile::location).collect()
    }

    use DataContentType::{Data, EqualityDeletes, PositionDeletes};

    #[test]
    fn positions_apply_to_their_own_commit_and_equality_only_to_earlier_ones() {
        let deletes = vec![live(new("p3", PositionDeletes, 3)), live(new("e3", EqualityDeletes, 3))];
        let index = DeleteIndex::new(deletes, &specs());
        let of = |sequence_number| index.of(&live(new("d", Data, sequence_number))).unwrap();
        assert_eq!(names(&of(2)), ["p3", "e3"]);
        assert_eq!(names(&of(3)), ["p3"]);
        assert_eq!(names(&of(4)), Vec::<&str>::new());
    }

    #[test]
    fn deletes_stay_in_their_partition_but_for_equality_deletes_of_an_unpartitioned_spec() {
        let within = |mut file: New, partition| {
            file.partition = Some(partition);
            live(file)
        };
        let deletes = vec![
            within(new("p", PositionDeletes, 3), Literal::long(1)),
            within(new("e", EqualityDeletes, 3), Literal::long(1)),
            live(new("everywhere", EqualityDeletes, 3)),
            live(new("unpartitioned positions", PositionDeletes, 3)),
        ];
        let index = DeleteIndex::new(deletes, &specs());
        // The column was an int when the data file was written.
        let same = index.of(&within(new("d", Data, 1), Literal::int(1))).unwrap();
        assert_eq!(names(&same), ["p", "e", "everywhere"]);
        let other = index.of(&within(new("d", Data, 1), Literal::int(2))).unwrap();
        assert_eq!(names(&other), ["everywhere"]);
        let unpartitioned = index.of(&live(new("d", Data, 1))).unwrap();
        assert_eq!(names(&unpartitioned), ["unpartitioned positions", "everywhere"]);
    }

    #[test]
    fn positions_apply_to_the_files_they_can_name_and_give_way_to_vectors() {
        let deletes = vec![
            live(New { names: Some("d"), ..new("named", PositionDeletes, 3) }),
            live(New { bounds: Some(("d", "d")), ..new("one by bounds", PositionDeletes, 3) }),
            live(New { bounds: Some(("a", "f")), ..new("range", PositionDeletes, 3) }),
            live(New { bounds: Some(("e", "f")), ..new("beyond", PositionDeletes, 3) }),
            live(New { names: Some("v"), ..new("named v", PositionDeletes, 3) }),
            live(New { names: Some("v"), ..new("v.puffin", PositionDeletes, 4) }),
        ];
        let index = DeleteIndex::new(deletes, &specs());
        let d = index.of(&live(new("d", Data, 1))).unwrap();
        assert_eq!(names(&d), ["named", "one by bounds", "range"]);
        let v = index.of(&live(new("v", Data, 1))).unwrap();
        assert_eq!(names(&v), ["v.puffin"]);
    }

    #[test]
    fn two_vectors_for_one_file_are_refused() {
        let vector = |path| live(New { names: Some("d"), ..new(path, PositionDeletes, 3) });
        let index = DeleteIndex::new(vec![vector("1.puffin"), vector("2.puffin")], &specs());
        let error = index.of(&live(new("d", Data, 1))).err().unwrap();
        assert!(error.context.contains("1.puffin and 2.puffin"), "{error}");
    }
}
