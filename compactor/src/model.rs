//! Models: SQL files whose header says how their output is kept.
//!
//! A header is the comment lines before the SQL. A line `-- word: value` is a directive, any other is the description:
//!
//! | directive | value |
//! |---|---|
//! | `model` | the output table, `namespace.name` |
//! | `kind` | `append`, `latest`, `aggregate`, `full` or `rules` |
//! | `key` | columns that identify a row; never null. Of `append`: the rows of a key follow from the input's rows of it alone |
//! | `order` | columns by which a later row of one key replaces an earlier one |
//! | `dedup` | `KEYS within DURATION of TIME by ORDER`: drop repeats, the first in ORDER is kept |
//! | `current` | for `rules`: the table of latest records, judged again when the rules change |
//! | `judged` | `RULE, STATE`: each input row is read once per rule of the tenant, with its id and what it says in these columns |
//! | `partition` | partition fields, such as `day(received_at)` |
//! | `interval` | least time between two computations, such as `30s` |
//! | `freshness` | longest time that the output may lack what its inputs have, such as `5m`; with `lazy` it is computed twice in that time instead of with each commit |
//! | `check` | `NAME warn\|drop\|fail SQL`: the SQL boolean must not be false |
//! | `column` | `NAME TEXT`: documents a column, with its unit |
//!
//! Inputs are the tables that the SQL names. All kinds but `full` read what changed of one table since the last run, and
//! write what follows from it:
//!
//! | kind | added rows | removed rows | computed in full |
//! |---|---|---|---|
//! | `append` | are added | | if rows were removed |
//! | `append` with `key` | their keys are computed anew | the same | |
//! | `latest` | take the place of older ones | the next newest is looked for in the input | |
//! | `aggregate` | are added to partial sums and counts of their groups | are taken off | if a group's partial can't be kept: the reason says which |
//! | `rules` | are judged | | if rows were removed |
//!
//! Rows that a check of severity `drop` leaves out are left out of a `latest` before the newest is chosen.

mod cases;
mod graph;
mod header;
mod own;
mod select;
mod shipped;
mod sources;
mod test_run;

use std::{collections::BTreeMap, fmt, time::Duration};

use firn_catalog_client::iceberg::TableIdent;
use firn_table::Partitioning;
use sha2::{Digest, Sha256};

pub use cases::TEST_SUFFIX;
pub use graph::ModelGraph;
pub(crate) use header::{parse_duration, position_of};
pub use own::{ModelFiles, TenantModels, change_own_models};
pub use shipped::{models, shipped_cases};
pub use sources::{SourceTables, check_own_models};
pub use test_run::{CaseOutcome, test_models};

/// How a model's output follows from its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// New input rows give new output rows; with a key, changed input rows give changed ones.
    Append,
    /// The newest row per key.
    Latest,
    /// Groups, kept by partial sums and counts.
    Aggregate,
    /// Computed in full.
    Full,
    /// The tenant's compliance rules over the rows: one output row per key and rule.
    Rules,
}

/// What a broken check does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckSeverity {
    /// Counts.
    Warn,
    /// Leaves the row out and counts it.
    Drop,
    /// Fails the run.
    Fail,
}

impl CheckSeverity {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Warn, Self::Drop, Self::Fail];
}

/// A condition that each output row must meet. As in SQL's CHECK, null is no breach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Name, unique within the model.
    pub name: String,
    /// What a breach does.
    pub severity: CheckSeverity,
    /// SQL boolean over the output's columns.
    pub condition: String,
    /// Line in the model's file.
    pub line: u64,
}

/// Which rows repeat an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dedup {
    /// Rows that agree in these, none of them null, are repeats …
    pub key: Vec<String>,
    /// … if they lie less than this apart …
    pub within: Duration,
    /// … in this timestamp.
    pub time: String,
    /// Integer columns that give the order in which rows came in.
    pub order: Vec<String>,
}

/// A parsed model.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Output table.
    pub table: TableIdent,
    /// Kind.
    pub kind: ModelKind,
    /// File it was read from.
    pub file: String,
    /// Free text of the header.
    pub description: String,
    /// The file's text; comments are SQL comments.
    pub sql: String,
    /// Tables the SQL names, and `current`.
    pub inputs: Vec<TableIdent>,
    /// Columns that identify an output row.
    pub key: Vec<String>,
    /// Columns that say which row of a key is newest.
    pub order: Vec<String>,
    /// Repeats to drop.
    pub dedup: Option<Dedup>,
    /// For `rules`: latest records.
    pub current: Option<TableIdent>,
    /// Names of the columns in which the input's rows bring a rule and what it says of them.
    pub judged: Option<(String, String)>,
    /// Partition fields of the output.
    pub partitioning: Vec<Partitioning>,
    /// Least time between two computations.
    pub interval: Option<Duration>,
    /// Longest time that the output may lack what its inputs have.
    pub freshness: Option<Duration>,
    /// Checks.
    pub checks: Vec<Check>,
    /// Documentation by column.
    pub columns: BTreeMap<String, String>,
}

impl Model {
    /// Parses a model file.
    pub fn parse(file: &str, text: &str) -> Result<Self, ModelError> {
        header::parse(file, text)
    }

    /// Identifies what is computed: 16 hex digits. Checks, descriptions and comments are not part of it.
    #[must_use]
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        let mut shape = format!("{:?}\n{:?}\n{:?}\n{:?}\n", self.kind, self.key, self.order, self.dedup);
        if let Some(judged) = &self.judged {
            shape.push_str(&format!("{judged:?}\n"));
        }
        hasher.update(shape);
        for line in self.sql.lines().filter(|line| !line.trim_start().starts_with("--")) {
            hasher.update(line.trim());
            hasher.update("\n");
        }
        hex::encode(&hasher.finalize()[..8])
    }

    /// The input that increments are taken from: the first table that the SQL names.
    #[must_use]
    pub fn driving_input(&self) -> &TableIdent {
        &self.inputs[0]
    }
}

/// What is wrong with a model, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelError {
    /// File.
    pub file: String,
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

impl std::error::Error for ModelError {}
