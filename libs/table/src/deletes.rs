//! Row-level deletes: which delete files apply to which data files, and what they delete.

mod equality;
mod index;
mod positions;
mod vector;

pub(crate) use equality::{EqualityDeletes, KeyReader, NotDeleted, SCOPE_COLUMN, SEQUENCE_COLUMN};
use index::global_scope;
pub(crate) use index::{DeleteIndex, FileDeletes};
pub(crate) use positions::{LivePositions, access_plan, load_deleted_rows, load_positions};
pub(crate) use vector::encode as encode_vector;
