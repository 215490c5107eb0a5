//! What a run is asked to do.

use super::MAIN;

/// A run as it is asked for. The service asks for all models of `main`, each when it is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRequest {
    /// Branch that the run starts from and publishes to.
    pub reference: String,
    /// Models that run, as [`crate::ModelGraph::select`] takes them; all of them if there are none.
    pub models: Vec<String>,
    /// Compute everything anew.
    pub full: bool,
    /// Make tables anew that no longer fit their models; others are left as they are.
    pub rebuild: bool,
    /// Run models before their interval has passed.
    pub early: bool,
}

impl Default for RunRequest {
    fn default() -> Self {
        Self { reference: MAIN.to_owned(), models: Vec::new(), full: false, rebuild: false, early: false }
    }
}
