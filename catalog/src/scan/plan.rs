//! Reading a scan's manifests.

use std::{collections::BTreeSet, ops::Range as Run, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Map, Value, json};

use super::{
    columns::Columns,
    deletes::{Attached, Deletes},
    expression::Expression,
    file::ScanFile,
    filter::Filter,
    judge::Rows,
    layout::Layout,
    request::{Pinned, Range},
    snapshots::steps,
    span::{FILES_PER_ANSWER, Groups, Span},
};
use crate::{
    CatalogError,
    manifests::{Entries, Entry, FileContent, ManifestError, ManifestFile, Status, read_list},
    metadata::Document,
    off_thread::off_thread,
    storage::Storage,
    store::Hash,
};

/// Manifests read at once for one request.
const PARALLEL: usize = 4;

/// A scan of a table of one tenant, ready to be read. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Scan(Arc<Inner>);

struct Inner {
    storage: Storage,
    tenant: String,
    columns: Columns,
    expression: Expression,
    layout: Layout,
    stats: BTreeSet<i64>,
    /// Columns whose statistics are read: those that are tested, and those asked for.
    wanted: BTreeSet<i64>,
    has_filter: bool,
    min_rows: Option<i64>,
    /// Data manifests that may hold something.
    data: Vec<ManifestFile>,
    deletes: Vec<ManifestFile>,
    /// Snapshots whose added files alone count.
    appended: Option<BTreeSet<i64>>,
}

/// A part of a scan.
pub(crate) enum Part {
    /// File scan tasks and delete files, as the specification writes them.
    Files { tasks: Vec<Value>, deletes: Vec<Value> },
    /// Too many for one answer: to be read one by one.
    Portions(Vec<Span>),
}

/// A part, and what its portions are of.
pub(crate) struct Planned {
    /// See [`Scan::print`].
    pub(crate) print: String,
    pub(crate) part: Part,
}

/// What a manifest has for a scan.
struct Matched {
    /// The first of the files, with their places among the manifest's live entries.
    files: Vec<(usize, ScanFile)>,
    /// Places of all others.
    more: Vec<usize>,
}

impl Scan {
    /// Reads the manifest lists of a pinned request.
    pub(crate) async fn open(
        storage: &Storage,
        tenant: &str,
        document: &Document,
        pinned: &Pinned,
    ) -> Result<Self, CatalogError> {
        let (columns, expression) = pinned.bind(document)?;
        let layout = Layout::new(document);
        let stats = columns.ids(&pinned.stats_fields, "stats-fields").map_err(CatalogError::Invalid)?;
        let steps = steps(document, pinned.range)?;
        let appended = match pinned.range {
            Range::At(_) => None,
            Range::Appended { .. } => {
                Some(steps.iter().map(|step| step.snapshot_id).collect::<BTreeSet<_>>())
            }
        };
        let lists = steps.into_iter().map(|step| async move {
            let bytes = storage.read_file(tenant, &step.manifest_list).await?;
            let mut list =
                off_thread(move || read_list(&bytes)).await?.map_err(unreadable(&step.manifest_list))?;
            if matches!(pinned.range, Range::Appended { .. }) {
                list.retain(|manifest| manifest.added_snapshot_id == step.snapshot_id);
            }
            Ok::<_, CatalogError>(list)
        });
        let lists: Vec<_> = lists.collect();
        let lists: Vec<Vec<ManifestFile>> =
            futures::stream::iter(lists).buffered(PARALLEL).try_collect().await?;
        let filter = Filter { expression: &expression, columns: &columns, layout: &layout };
        let (data, mut deletes): (Vec<_>, Vec<_>) = lists
            .into_iter()
            .flatten()
            .filter(|manifest| holds_files(manifest) && filter.may_match(manifest))
            .partition(|manifest| manifest.content == FileContent::Data);
        if appended.is_some() {
            deletes.clear();
        }
        let stats: BTreeSet<i64> = stats.into_iter().collect();
        let wanted = filter.tested().union(&stats).copied().collect();
        Ok(Self(Arc::new(Inner {
            storage: storage.clone(),
            tenant: tenant.to_owned(),
            wanted,
            stats,
            has_filter: pinned.filter.is_some(),
            min_rows: pinned.min_rows,
            columns,
            expression,
            layout,
            data,
            deletes,
            appended,
        })))
    }

    /// All of it.
    pub(crate) fn whole(&self) -> Span {
        Span::all(&self.0.data)
    }

    /// Says which manifests it has: the portions of two scans of one print are the same.
    pub(crate) fn print(&self) -> String {
        let paths: Vec<&str> = self.0.data.iter().map(|manifest| manifest.path.as_str()).collect();
        Hash::of(paths.join("\n").as_bytes()).to_string()[..32].to_owned()
    }

    /// Whether reading it all would keep a client waiting, and may leave little: a filter over many manifests.
    pub(crate) fn is_long(&self) -> bool {
        let filters = !matches!(self.0.expression, Expression::Constant(_));
        filters && !self.whole().is_small(&self.0.data)
    }

    /// A part: read if it is small, and told in portions otherwise.
    pub(crate) async fn part(&self, span: Span) -> Result<Planned, CatalogError> {
        let part = match span.is_small(&self.0.data) {
            true => self.read(span).await?,
            false => Part::Portions(span.portions(&self.0.data)),
        };
        Ok(Planned { print: self.print(), part })
    }

    /// All of it, read however long it takes.
    pub(crate) async fn all(&self) -> Result<Planned, CatalogError> {
        Ok(Planned { print: self.print(), part: self.read(self.whole()).await? })
    }

    async fn read(&self, span: Span) -> Result<Part, CatalogError> {
        let (mut files, mut groups, mut rows) = (Vec::new(), Groups::default(), 0_i64);
        let manifests = span.manifests(&self.0.data);
        let matches = manifests.map(|index| async move {
            Ok::<_, CatalogError>((index, self.matches(index, span.entries(index)).await?))
        });
        let matches: Vec<_> = matches.collect();
        let mut matches = futures::stream::iter(matches).buffered(PARALLEL);
        while let Some((index, matched)) = matches.try_next().await? {
            for (entry, file) in matched.files {
                groups.add((index, entry));
                if files.len() < FILES_PER_ANSWER {
                    rows += self.0.sure_rows(&file);
                    files.push(file);
                }
                // A hint, which holds only where no row may be deleted.
                if self.0.deletes.is_empty() && self.0.min_rows.is_some_and(|least| rows >= least) {
                    return self.with_deletes(files).await;
                }
            }
            for entry in matched.more {
                groups.add((index, entry));
            }
        }
        match groups.finish() {
            Some(portions) => Ok(Part::Portions(portions)),
            None => self.with_deletes(files).await,
        }
    }

    /// The files of a data manifest that may have rows that pass.
    async fn matches(&self, index: usize, run: Run<usize>) -> Result<Matched, CatalogError> {
        let listed = &self.0.data[index];
        let bytes = self.0.storage.read_file(&self.0.tenant, &listed.path).await?;
        let scan = self.clone();
        let matched = off_thread(move || {
            let inner = &scan.0;
            let mut matched = Matched { files: Vec::new(), more: Vec::new() };
            inner.each_file(&bytes, &inner.data[index], run, |place, file| {
                match inner.filter().rows(&file) {
                    Rows::None => {}
                    _ if matched.files.len() < FILES_PER_ANSWER => matched.files.push((place, file)),
                    _ => matched.more.push(place),
                }
            })?;
            Ok::<_, ManifestError>(matched)
        });
        matched.await?.map_err(unreadable(&listed.path))
    }

    /// Finds the deletes of data files and writes all of it down.
    async fn with_deletes(&self, files: Vec<ScanFile>) -> Result<Part, CatalogError> {
        let mut deletes = Deletes::new(files);
        let oldest = deletes.oldest();
        let manifests =
            (0..self.0.deletes.len()).filter(|index| self.0.deletes[*index].sequence_number >= oldest);
        let reads = manifests.map(|index| async move {
            let bytes = self.0.storage.read_file(&self.0.tenant, &self.0.deletes[index].path).await?;
            Ok::<_, CatalogError>((index, bytes))
        });
        let reads: Vec<_> = reads.collect();
        let mut reads = futures::stream::iter(reads).buffered(PARALLEL);
        while let Some((index, bytes)) = reads.try_next().await? {
            let scan = self.clone();
            let offered = off_thread(move || {
                let (inner, listed) = (&scan.0, &scan.0.deletes[index]);
                let unpartitioned = inner.layout.fields(listed.spec_id)?.is_empty();
                inner
                    .each_file(&bytes, listed, 0..usize::MAX, |_, file| deletes.offer(file, unpartitioned))?;
                Ok::<_, ManifestError>(deletes)
            });
            deletes = offered.await?.map_err(unreadable(&self.0.deletes[index].path))?;
        }
        let scan = self.clone();
        off_thread(move || scan.0.files(deletes.finish())).await
    }
}

impl Inner {
    fn filter(&self) -> Filter<'_> {
        Filter { expression: &self.expression, columns: &self.columns, layout: &self.layout }
    }

    /// Calls `each` with the files that are live and count, and their places among the live ones.
    fn each_file(
        &self,
        bytes: &[u8],
        listed: &ManifestFile,
        run: Run<usize>,
        mut each: impl FnMut(usize, ScanFile),
    ) -> Result<(), ManifestError> {
        let mut entries = Entries::open(bytes, listed)?;
        let mut place = 0;
        while let Some(entry) = entries.next() {
            let entry = entry?;
            if !entry.is_live() {
                continue;
            }
            if place >= run.end {
                break;
            }
            if place >= run.start && self.counts(&entry) {
                let details = entries.details(&entry)?;
                let wanted = |id: i64| self.wanted.contains(&id);
                each(place, ScanFile::new(&entry, &details, listed.spec_id, &self.layout, &wanted)?);
            }
            place += 1;
        }
        Ok(())
    }

    fn counts(&self, entry: &Entry) -> bool {
        self.appended.as_ref().is_none_or(|snapshots| {
            entry.status == Status::Added && entry.snapshot_id.is_some_and(|id| snapshots.contains(&id))
        })
    }

    /// Rows of a file that certainly pass.
    fn sure_rows(&self, file: &ScanFile) -> i64 {
        if self.filter().rows(file) == Rows::All { file.records } else { 0 }
    }

    fn files(&self, attached: Attached) -> Part {
        let json = |file: &ScanFile| file.to_json(&self.layout, &self.columns, &self.stats);
        let task = |(file, applying): (&ScanFile, &Vec<usize>)| {
            let mut task = Map::from_iter([("data-file".to_owned(), json(file))]);
            if !applying.is_empty() {
                task.insert("delete-file-references".to_owned(), json!(applying));
            }
            if self.has_filter {
                task.insert("residual-filter".to_owned(), self.filter().residual(file));
            }
            Value::Object(task)
        };
        Part::Files {
            tasks: attached.data.iter().zip(&attached.applying).map(task).collect(),
            deletes: attached.deletes.iter().map(json).collect(),
        }
    }
}

/// Whether a manifest has live files, as far as its list tells.
fn holds_files(manifest: &ManifestFile) -> bool {
    manifest.added.files > 0 || manifest.existing.files > 0
}

fn unreadable(path: &str) -> impl FnOnce(ManifestError) -> CatalogError {
    let path = path.to_owned();
    move |error| CatalogError::Invalid(format!("the scan can't be planned here: '{path}': {error}"))
}
