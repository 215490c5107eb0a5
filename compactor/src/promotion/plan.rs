//! Deciding what a model has to do, from what its output says it holds and where its inputs are.

use std::collections::BTreeMap;

use crate::{Model, ModelKind};

/// Where an input or output stands, by name: a snapshot id, [`NOTHING`], or the hash of a set of rules.
pub(crate) type Positions = BTreeMap<String, String>;

/// The position of a table without snapshots.
pub(crate) const NOTHING: &str = "none";

/// Hash of the model in an output that was rolled back: its rows no longer are what its inputs' positions say.
pub(crate) const ROLLED_BACK: &str = "rolled back";

/// What an output table says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OutputState {
    /// Hash of the model that made it.
    pub(crate) hash: String,
    /// Inputs it holds.
    pub(crate) inputs: Positions,
    /// When it was made, milliseconds since the epoch.
    pub(crate) computed_at_ms: i64,
    /// Newest `received_at` it ever held, microseconds since the epoch.
    pub(crate) newest_received_us: Option<i64>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing; says why.
    Skip(&'static str),
    /// Nothing yet: due in so many milliseconds.
    Wait(i64),
    /// Take what was added to the driving input.
    Increment,
    /// Compute everything; says why.
    Full(String),
    /// Nothing until the table is made anew, for which somebody must ask; says what of it doesn't fit.
    Rebuild(String),
}

impl Action {
    /// Whether the model has something to do now.
    pub(crate) fn is_work(&self) -> bool {
        matches!(self, Self::Increment | Self::Full(_))
    }
}

/// Decides for one model. `output` is absent before the first run.
pub(crate) fn decide(model: &Model, output: Option<&OutputState>, inputs: &Positions, now_ms: i64) -> Action {
    let driving = inputs.get(&model.driving_input().to_string());
    if driving.is_none_or(|position| position == NOTHING) {
        return Action::Skip("its input has no rows yet");
    }
    let Some(output) = output else { return Action::Full("first run".to_owned()) };
    if output.hash == ROLLED_BACK {
        return Action::Full("its output was rolled back".to_owned());
    }
    if output.hash != model.hash() {
        return Action::Full("the model changed".to_owned());
    }
    if &output.inputs == inputs {
        return Action::Skip("its inputs did not change");
    }
    if let Some(interval) = model.interval {
        let interval_ms = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX);
        // A clock that was set back must not stop the model for as long.
        let age_ms = now_ms.saturating_sub(output.computed_at_ms).max(0);
        if age_ms < interval_ms {
            return Action::Wait(interval_ms - age_ms);
        }
    }
    match model.kind {
        ModelKind::Full => Action::Full("its kind is full".to_owned()),
        ModelKind::Aggregate if model.inputs.len() > 1 => {
            Action::Full("it groups rows of several tables".to_owned())
        }
        ModelKind::Append | ModelKind::Latest | ModelKind::Aggregate | ModelKind::Rules => Action::Increment,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn model(kind: &str, more: &str) -> Model {
        let text = format!("-- model: silver.a\n-- kind: {kind}\n{more}SELECT * FROM bronze.x");
        Model::parse("a.sql", &text).unwrap()
    }

    fn at(position: &str) -> Positions {
        BTreeMap::from([("bronze.x".to_owned(), position.to_owned())])
    }

    fn held(model: &Model, position: &str) -> OutputState {
        OutputState {
            hash: model.hash(),
            inputs: at(position),
            computed_at_ms: 1_000,
            newest_received_us: None,
        }
    }

    #[test]
    fn a_model_works_only_when_something_changed() {
        let append = model("append", "");
        let known = held(&append, "7");
        assert_eq!(decide(&append, None, &at(NOTHING), 0), Action::Skip("its input has no rows yet"));
        assert_eq!(decide(&append, None, &at("7"), 0), Action::Full("first run".to_owned()));
        assert_eq!(decide(&append, Some(&known), &at("7"), 0), Action::Skip("its inputs did not change"));
        assert_eq!(decide(&append, Some(&known), &at("8"), 0), Action::Increment);
        let rolled_back = OutputState { hash: ROLLED_BACK.to_owned(), ..known.clone() };
        assert_eq!(
            decide(&append, Some(&rolled_back), &at("7"), 0),
            Action::Full("its output was rolled back".to_owned())
        );
        let changed = model("append", "-- dedup: a within 1d of b by c\n");
        assert_eq!(decide(&changed, Some(&known), &at("7"), 0), Action::Full("the model changed".to_owned()));
    }

    #[test]
    fn a_model_with_an_interval_waits_for_it_but_not_for_a_clock() {
        let full = model("full", "-- interval: 30s\n");
        let known = held(&full, "7");
        assert_eq!(decide(&full, Some(&known), &at("8"), 11_000), Action::Wait(20_000));
        assert!(decide(&full, Some(&known), &at("8"), 31_000).is_work());
        assert_eq!(decide(&full, Some(&known), &at("8"), -5_000_000), Action::Wait(30_000));
    }

    #[test]
    fn comments_and_checks_are_not_part_of_the_hash() {
        let same = model("append", "-- About.\n-- check: c warn a > 1\n-- column: a Width.\n");
        assert_eq!(same.hash(), model("append", "").hash());
        assert_ne!(model("full", "").hash(), model("append", "").hash());
    }
}
