//! Choosing some of a graph's models by name.

use std::collections::BTreeSet;

use firn_auth::glob_fits;
use firn_catalog_client::iceberg::TableIdent;

use super::{Model, ModelGraph};

impl ModelGraph {
    /// The models that are named, in the order they run; all of them if none is. A name is that of an output; `*` in it stands
    /// for any characters, a `+` before it for those that it reads, directly or not, and a `+` behind it for those that read it.
    pub fn select(&self, names: &[String]) -> Result<Vec<&Model>, String> {
        if names.is_empty() {
            return Ok(self.models().iter().collect());
        }
        let mut chosen = BTreeSet::new();
        for name in names {
            let (pattern, read) = name.strip_prefix('+').map_or((name.as_str(), false), |rest| (rest, true));
            let (pattern, readers) = pattern.strip_suffix('+').map_or((pattern, false), |rest| (rest, true));
            let outputs = self.models().iter().map(|model| &model.table);
            let meant: BTreeSet<_> =
                outputs.filter(|table| glob_fits(pattern, &table.to_string())).cloned().collect();
            if meant.is_empty() {
                let known: Vec<_> = self.models().iter().map(|model| model.table.to_string()).collect();
                return Err(format!("no model makes '{pattern}': there are {}", known.join(", ")));
            }
            if read {
                chosen.extend(self.upstream(&meant));
            }
            if readers {
                chosen.extend(self.downstream(&meant));
            }
            chosen.extend(meant);
        }
        Ok(self.models().iter().filter(|model| chosen.contains(&model.table)).collect())
    }

    /// Tables that these are made of.
    fn upstream(&self, tables: &BTreeSet<TableIdent>) -> BTreeSet<TableIdent> {
        let mut found = tables.clone();
        // Each model comes after those it reads.
        for model in self.models().iter().rev() {
            if found.contains(&model.table) {
                found.extend(model.inputs.iter().cloned());
            }
        }
        found
    }

    /// Tables that are made of these.
    fn downstream(&self, tables: &BTreeSet<TableIdent>) -> BTreeSet<TableIdent> {
        let mut found = tables.clone();
        for model in self.models() {
            if model.inputs.iter().any(|input| found.contains(input)) {
                found.insert(model.table.clone());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::models;

    fn selected(names: &[&str]) -> Result<Vec<String>, String> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let graph = models().unwrap();
        Ok(graph.select(&names)?.iter().map(|model| model.table.to_string()).collect())
    }

    #[test]
    fn names_patterns_and_what_they_read_or_are_read_by() {
        assert_eq!(selected(&["gold.compliance"]).unwrap(), ["gold.compliance"]);
        assert_eq!(
            selected(&["+gold.compliance"]).unwrap(),
            ["silver.inventory", "silver.device", "gold.compliance"]
        );
        assert_eq!(
            selected(&["silver.device+"]).unwrap(),
            ["silver.device", "gold.compliance", "gold.device_health", "silver.software"]
        );
        assert_eq!(
            selected(&["gold.*", "silver.device"]).unwrap(),
            [
                "gold.org_metrics",
                "silver.device",
                "gold.compliance",
                "gold.device_health",
                "gold.compliance_daily"
            ]
        );
        assert_eq!(selected(&[]).unwrap().len(), 8);
        let refused = selected(&["gold.complaince"]).unwrap_err();
        assert!(refused.contains("'gold.complaince'") && refused.contains("gold.compliance,"), "{refused}");
    }
}
