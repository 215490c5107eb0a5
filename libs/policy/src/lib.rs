//! Compliance rules: parse, compile to DataFusion expressions, evaluate, and the life of a finding. No I/O.

mod compile;
mod finding;
mod policy;
mod shipped;

pub use compile::{CompiledRule, Evaluation, Verdict, compile};
pub use finding::{FindingState, FindingStatus, Observation, Transition, observe};
pub use policy::{Policy, PolicyError, Severity, parse, rules_schema, rules_from_batches, rules_to_batch};
pub use shipped::shipped;
