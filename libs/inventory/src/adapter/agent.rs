//! Requests of agents that speak a protocol of their own.

use super::{AdaptError, glpi, ocs};

/// What an agent asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentRequest {
    /// Whether it shall send an inventory.
    Prolog,
    /// To take an inventory.
    Inventory {
        /// The native record.
        record: Vec<u8>,
        /// `fusioninventory`, `glpi` or `ocs`.
        source: &'static str,
    },
}

impl AgentRequest {
    /// Reads a request in OCS Inventory's protocol. `user_agent` is the HTTP header: OCS's own agent names itself nowhere
    /// else.
    ///
    /// # Errors
    /// [`AdaptError`] if it is no such XML, asks for something else, or names no device.
    pub fn parse(bytes: &[u8], user_agent: Option<&str>) -> Result<Self, AdaptError> {
        ocs::parse(bytes, user_agent)
    }

    /// Reads a request in GLPI's own protocol.
    ///
    /// # Errors
    /// [`AdaptError`] if it is no such JSON, asks for something else, or is no inventory of a whole computer.
    pub fn parse_glpi(bytes: &[u8]) -> Result<Self, AdaptError> {
        glpi::parse(bytes)
    }
}
