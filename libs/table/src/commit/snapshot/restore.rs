//! A snapshot with the files of an earlier state.

use std::collections::{BTreeMap, HashSet};

use iceberg::spec::{DataContentType, ManifestContentType, ManifestFile};
use serde_json::Value;

use super::{DeleteKey, FILES_PER_MANIFEST, LiveDeletes, Removal, SnapshotBuilder, delete_key, live_files};
use crate::{TableError, TableState, manifests::LiveFile};

impl SnapshotBuilder<'_> {
    /// What the state has and the base hasn't is added under the sequence numbers that it had, so that deletes apply as they
    /// did; the rest of the base is removed. So a reader of changes sees exactly the difference.
    pub(super) async fn restore(
        &mut self,
        state: &TableState,
        summary: &BTreeMap<String, String>,
    ) -> Result<Value, TableError> {
        let base = self.table.live_manifests(None).await?;
        let data = live_files(self.table.file_io(), &base.data).await?;
        let deletes = live_files(self.table.file_io(), &base.deletes).await?;
        let key = |file: &LiveFile| delete_key(&file.entry);
        let present: HashSet<DeleteKey> = data.iter().chain(&deletes).map(key).collect();
        let wanted: HashSet<DeleteKey> = state.files.iter().map(key).collect();

        let back = state.files.iter().filter(|file| !present.contains(&key(file)));
        let (data_back, deletes_back): (Vec<&LiveFile>, Vec<&LiveFile>) =
            back.partition(|file| file.data_file().content_type() == DataContentType::Data);
        let mut manifests = self.bring_back(&data_back, ManifestContentType::Data).await?;
        manifests.extend(self.bring_back(&deletes_back, ManifestContentType::Deletes).await?);

        let gone = data.iter().filter(|file| !wanted.contains(&key(file)));
        let gone = Removal::Files(gone.map(|file| file.location().to_owned()).collect());
        manifests.extend(self.remove_files(base.data, gone).await?.0);
        let gone: HashSet<DeleteKey> = deletes.iter().map(key).filter(|key| !wanted.contains(key)).collect();
        let deletes = LiveDeletes::load(self.table, base.deletes).await?;
        manifests.extend(self.remove_deletes(deletes, &gone).await?);
        self.finish("overwrite", summary, manifests).await
    }

    async fn bring_back(
        &mut self,
        files: &[&LiveFile],
        content: ManifestContentType,
    ) -> Result<Vec<ManifestFile>, TableError> {
        let mut by_spec: BTreeMap<i32, Vec<&LiveFile>> = BTreeMap::new();
        for file in files {
            by_spec.entry(file.spec_id).or_default().push(file);
        }
        let mut manifests = Vec::new();
        for (spec_id, files) in by_spec {
            for chunk in files.chunks(FILES_PER_MANIFEST) {
                let mut encoder = self.encoder(spec_id, content)?;
                for file in chunk {
                    self.changes.add(file.data_file());
                    encoder.add(file.data_file().clone(), Some(file.sequence_number()))?;
                }
                manifests.push(encoder.write(self.table.file_io()).await?);
            }
        }
        Ok(manifests)
    }
}
