//! Whose a computer is, and what its organisation is called: looked up for each record. No I/O.
//!
//! A row of the table describes an organisation, or assigns it a computer (`host_id`) or all computers of a person
//! (`owner_email`). What says more of a computer wins: the row of the computer, the row of its owner, the organisation that the
//! record names. A row that assigns may also say what differs from the organisation's own row.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, StringBuilder},
    compute::cast,
    datatypes::DataType,
    error::ArrowError,
};
use firn_inventory::ORGANIZATION_COLUMNS;
use serde_json::{Map, Value};

/// The one column that the table must have: the organisation that a row is about.
const ID: &str = "organization_id";
const HOST: &str = "host_id";
const OWNER: &str = "owner_email";
const NAME: &str = "name";
const UNIT: &str = "unit";

/// A tenant's organisations at one snapshot of the table.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::worker) struct Organizations {
    snapshot_id: Option<i64>,
    by_host: HashMap<String, Arc<Organization>>,
    /// By mail address in lower case.
    by_owner: HashMap<String, Arc<Organization>>,
    by_id: HashMap<String, Arc<Organization>>,
    memory_bytes: usize,
}

/// What a row of `bronze.inventory` says of its organisation, in the order of [`ORGANIZATION_COLUMNS`].
#[derive(Debug, PartialEq, Eq)]
struct Organization([Option<String>; 4]);

/// What a row of the table says, without empty values.
type Row = BTreeMap<String, Value>;

impl Organizations {
    /// From the rows of a snapshot. Of several rows for the same, the one whose content sorts first counts, so that the answer
    /// doesn't depend on how they lie in files.
    pub(super) fn of(snapshot_id: Option<i64>, rows: Vec<Map<String, Value>>) -> Result<Self, String> {
        let (mut hosts, mut owners, mut described) = (HashMap::new(), HashMap::new(), HashMap::new());
        let any = !rows.is_empty();
        for row in rows {
            let row: Row = row.into_iter().filter(|(_, value)| text(value).is_some()).collect();
            let value = |column: &str| row.get(column).and_then(text);
            // A row without an organisation says nothing.
            let Some(id) = value(ID) else { continue };
            let (rows, key) = match (value(HOST), value(OWNER)) {
                (Some(host), _) => (&mut hosts, host),
                (None, Some(owner)) => (&mut owners, owner.to_lowercase()),
                (None, None) => (&mut described, id),
            };
            match rows.entry(key) {
                Entry::Vacant(entry) => _ = entry.insert(row),
                Entry::Occupied(mut entry) if order(&row) < order(entry.get()) => _ = entry.insert(row),
                Entry::Occupied(_) => {}
            }
        }
        if any && hosts.is_empty() && owners.is_empty() && described.is_empty() {
            return Err(format!("no row has a value in the column '{ID}'"));
        }
        let mut all = Self { snapshot_id, ..Self::default() };
        all.by_id = described.iter().map(|(id, row)| (id.clone(), Organization::new(row, None))).collect();
        all.by_host = all.assigned(hosts, &described);
        all.by_owner = all.assigned(owners, &described);
        all.memory_bytes = all.count_bytes();
        Ok(all)
    }

    /// Most rows that assign say nothing else: they share what their organisation's row says.
    fn assigned(
        &self,
        rows: HashMap<String, Row>,
        described: &HashMap<String, Row>,
    ) -> HashMap<String, Arc<Organization>> {
        let assign = |row: &Row| {
            let id = row.get(ID).and_then(text).unwrap_or_default();
            let says_more = row.keys().any(|column| ![ID, HOST, OWNER].contains(&column.as_str()));
            match self.by_id.get(&id) {
                Some(known) if !says_more => Arc::clone(known),
                _ => Organization::new(row, described.get(&id)),
            }
        };
        rows.iter().map(|(key, row)| (key.clone(), assign(row))).collect()
    }

    fn count_bytes(&self) -> usize {
        const ENTRY_BYTES: usize = 64;
        let is_shared = |organization: &Arc<Organization>| {
            let id = organization.0[0].as_deref().unwrap_or_default();
            self.by_id.get(id).is_some_and(|known| Arc::ptr_eq(known, organization))
        };
        let described = self.by_id.iter().map(|(id, known)| ENTRY_BYTES + id.len() + known.text_bytes());
        let assigned = self.by_host.iter().chain(&self.by_owner).map(|(key, organization)| {
            ENTRY_BYTES + key.len() + if is_shared(organization) { 0 } else { organization.text_bytes() }
        });
        described.chain(assigned).sum()
    }

    /// The snapshot of the table, if there is one.
    pub(in crate::worker) fn snapshot_id(&self) -> Option<i64> {
        self.snapshot_id
    }

    /// Rows that count.
    pub(super) fn rows(&self) -> usize {
        self.by_host.len() + self.by_owner.len() + self.by_id.len()
    }

    /// Bytes of memory held, roughly.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Rows of `bronze.inventory` with what is known of their organisations.
    pub(in crate::worker) fn fill(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        if self.rows() == 0 || rows.num_rows() == 0 {
            return Ok(rows.clone());
        }
        let [hosts, owners, ids] = [HOST, OWNER, ID].map(|name| texts(rows, name));
        let (hosts, owners, ids) = (hosts?, owners?, ids?);
        let mut filled = [(); 4].map(|()| StringBuilder::new());
        for row in 0..rows.num_rows() {
            let found = self.find(value(&hosts, row), value(&owners, row), value(&ids, row));
            for (index, column) in filled.iter_mut().enumerate() {
                column.append_option(found.and_then(|found| found.0[index].as_deref()));
            }
        }
        let schema = rows.schema();
        let mut columns = rows.columns().to_vec();
        for (name, mut column) in ORGANIZATION_COLUMNS.into_iter().zip(filled) {
            columns[schema.index_of(name)?] = Arc::new(column.finish()) as ArrayRef;
        }
        RecordBatch::try_new(schema, columns)
    }

    fn find(&self, host: Option<&str>, owner: Option<&str>, id: Option<&str>) -> Option<&Organization> {
        let by_host = || self.by_host.get(host?);
        let by_owner =
            || if self.by_owner.is_empty() { None } else { self.by_owner.get(&owner?.trim().to_lowercase()) };
        let by_id = || self.by_id.get(id?);
        by_host().or_else(by_owner).or_else(by_id).map(Arc::as_ref)
    }
}

impl Organization {
    /// What a row says, and where it says nothing what the organisation's own row says.
    fn new(row: &Row, described: Option<&Row>) -> Arc<Self> {
        let mut all = described.cloned().unwrap_or_default();
        all.extend(row.iter().map(|(column, value)| (column.clone(), value.clone())));
        let mut take = |column: &str| all.remove(column).as_ref().and_then(text);
        let [id, name, unit, ..] = [ID, NAME, UNIT, HOST, OWNER].map(&mut take);
        let attributes = (!all.is_empty()).then(|| serde_json::json!(all).to_string());
        Arc::new(Self([id, name, unit, attributes]))
    }

    fn text_bytes(&self) -> usize {
        size_of::<Self>() + self.0.iter().flatten().map(String::len).sum::<usize>()
    }
}

/// A value as text, if it says anything.
fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    };
    (!text.is_empty()).then_some(text)
}

/// By what rows for the same are put in order.
fn order(row: &Row) -> String {
    serde_json::json!(row).to_string()
}

fn texts(rows: &RecordBatch, name: &str) -> Result<StringArray, ArrowError> {
    let column = rows.column(rows.schema().index_of(name)?);
    Ok(cast(column, &DataType::Utf8)?.as_string().clone())
}

fn value(column: &StringArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row))
}

#[cfg(test)]
mod tests;
