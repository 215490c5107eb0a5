//! A host's state as it is kept in memory: packed, as in the log, since most hosts are silent most of the time.

use std::sync::Arc;

use crate::{codec, host::HostState};

/// A state that can be unpacked. Cheap to clone: engine and index share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packed(Arc<[u8]>);

impl Packed {
    /// Packs a state.
    pub(crate) fn of(state: &HostState) -> Self {
        Self(codec::encode(state).into())
    }

    /// Takes what was read from the log; the error says what is wrong with it.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        codec::decode(bytes)?;
        Ok(Self(bytes.into()))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The state.
    pub(crate) fn state(&self) -> HostState {
        codec::decode(&self.0).expect("it was packed here, or unpacked once when it was read")
    }

    pub(crate) fn has_findings(&self) -> bool {
        self.findings().0 > 0
    }

    /// Whether both say the same of all findings.
    pub(crate) fn has_findings_of(&self, other: &Self) -> bool {
        self.findings() == other.findings()
    }

    fn findings(&self) -> (u64, &[u8]) {
        codec::findings(&self.0).expect("it was packed here, or unpacked once when it was read")
    }
}
