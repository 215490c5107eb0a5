//! Which model may run next: one that reads no model's output that is still to be made.

use std::collections::BTreeSet;

use firn_catalog_client::iceberg::TableIdent;

use crate::Model;

/// Models that run as soon as those they read are done.
pub(super) struct Schedule<'a> {
    waiting: Vec<&'a Model>,
    /// Outputs that are still to be made.
    unmade: BTreeSet<&'a TableIdent>,
}

impl<'a> Schedule<'a> {
    /// Of models in the order of their graph.
    pub(super) fn new(models: &[&'a Model]) -> Self {
        Self { waiting: models.to_vec(), unmade: models.iter().map(|model| &model.table).collect() }
    }

    /// The first model that need not wait, if there is one. It counts as unfinished until [`Schedule::done`].
    pub(super) fn next_ready(&mut self) -> Option<&'a Model> {
        let ready = |model: &&'a Model| !model.inputs.iter().any(|input| self.unmade.contains(input));
        let index = self.waiting.iter().position(ready)?;
        Some(self.waiting.remove(index))
    }

    /// A model's output is made.
    pub(super) fn done(&mut self, model: &Model) {
        self.unmade.remove(&model.table);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::ModelGraph;

    fn model(table: &str, inputs: &str) -> Model {
        let text = format!("-- model: {table}\n-- kind: full\nSELECT *\nFROM {inputs}");
        Model::parse("m.sql", &text).unwrap()
    }

    #[test]
    fn a_model_waits_for_those_it_reads_and_for_no_others() {
        let models = vec![
            model("silver.a", "bronze.x"),
            model("silver.b", "bronze.x"),
            model("silver.c", "silver.a"),
            model("gold.d", "silver.c, silver.b"),
        ];
        let graph = ModelGraph::new(models).unwrap();
        let models: Vec<_> = graph.models().iter().collect();
        let mut schedule = Schedule::new(&models);
        let name = |model: Option<&Model>| model.map(|model| model.table.to_string());
        let (a, b) = (schedule.next_ready().unwrap(), schedule.next_ready().unwrap());
        assert_eq!((a.table.name.as_str(), b.table.name.as_str()), ("a", "b"));
        assert_eq!(schedule.next_ready(), None, "both others read what is not there yet");
        schedule.done(a);
        let c = schedule.next_ready().unwrap();
        assert_eq!(c.table.name, "c");
        schedule.done(b);
        assert_eq!(schedule.next_ready(), None);
        schedule.done(c);
        assert_eq!(name(schedule.next_ready()), Some("gold.d".to_owned()));
        assert_eq!(schedule.next_ready(), None);
    }

    #[test]
    fn a_selection_waits_for_nothing_that_is_not_in_it() {
        let d = model("gold.d", "silver.c");
        assert!(Schedule::new(&[&d]).next_ready().is_some());
    }
}
