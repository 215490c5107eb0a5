//! Iceberg tables: what lies behind a catalog entry. Reads metadata and manifests, plans and runs scans, writes data
//! files, and commits.
//!
//! Nothing here knows inventories, rules or tenants' rights; the catalog is reached through its HTTP client only.

mod arrivals;
mod commit;
mod create;
mod deletes;
mod error;
mod file_io;
mod incremental;
mod manifests;
mod pace;
mod positions;
mod reshape;
mod rewrite;
mod scan;
mod schema;
mod scrub;
mod session;
mod state;
mod sums;
mod table;
mod views;
mod write;

pub use arrivals::Arrival;
pub use commit::{CommitOutcome, Operation, TableOperation, Transaction};
pub use create::{NewTable, Partitioning, ensure_table};
pub use error::{TableError, TableErrorKind};
pub use file_io::{FileIo, StorageConfig};
pub use incremental::{Increment, RETENTION, increment};
pub use pace::Pace;
pub use positions::{FILE_COLUMN, POSITION_COLUMN, PositionScan, RowPositions};
pub use rewrite::{RewriteOptions, RewriteScan, RewrittenFiles, RowOrder, SortCluster, SortColumn, SortJob};
pub use scan::TableScan;
pub use scrub::{Applied, DirtyFile, Doomed, RowMatch, Scrub, Survey, column_values};
pub use session::{LakeCatalog, ReferenceSpec, lake_session};
pub use state::TableState;
pub use table::{DataFileEntry, SnapshotInfo, Table};
pub use write::{DataFileWriter, WriteOptions, WrittenFile};
