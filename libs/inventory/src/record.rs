//! The canonical record.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of the published schema that this build writes. Readers accept any version, since fields are only added.
pub const SCHEMA_VERSION: i32 = 1;

/// One inventory of one computer. Only `host_id` is required; an absent field means "not known", never "no".
///
/// Instants are RFC 3339 text in JSON and microseconds in UTC in tables. Sizes are bytes. Shares are in hundredths of a
/// percent (0 to 10,000), so that sums stay exact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Inventory {
    // --- envelope ---
    /// Version of the schema that the sender wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<i32>,
    /// Unique id of this report, made by the sender: the same report sent twice carries the same id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// Random id of the agent's installation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install_id: Option<String>,
    /// Number of the report within its installation, rising by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<i64>,
    /// When the facts were collected, by the host's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collected_at: Option<String>,
    /// When the report was sent, by the host's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<String>,
    /// Name of the agent (`agent.name` in ECS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_name: Option<String>,
    /// Version of the agent (`agent.version` in ECS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_version: Option<String>,
    // --- identity ---
    /// Stable id of the computer, unique within its tenant (`host.id` in ECS).
    pub host_id: String,
    /// Name of the computer (`host.hostname` in ECS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Organisation it belongs to (`organization.id` in ECS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<String>,
    /// Mail address of its owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_email: Option<String>,
    /// Serial number of the hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    /// Manufacturer of the hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware_vendor: Option<String>,
    /// Model of the hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware_model: Option<String>,
    /// `laptop`, `desktop`, `server`, `virtual` or another word (`host.type` in ECS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_type: Option<String>,
    /// Addresses, IPv4 and IPv6 (`host.ip` in ECS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<Vec<String>>,
    // --- operating system ---
    /// `linux`, `windows`, `macos` or another word (`host.os.type` in ECS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_type: Option<String>,
    /// Name, such as `Ubuntu` (`host.os.name` in ECS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_name: Option<String>,
    /// Version, such as `24.04` (`host.os.version` in ECS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Kernel or build (`host.os.kernel` in ECS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_kernel: Option<String>,
    /// Processor architecture (`host.architecture` in ECS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// When it was last started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booted_at: Option<String>,
    /// When the operating system was last patched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patched_at: Option<String>,
    /// Whether a restart is pending to finish an update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot_pending: Option<bool>,
    // --- load ---
    /// Logical processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_count: Option<i32>,
    /// Use of all processors, in hundredths of a percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_usage: Option<i32>,
    /// Memory, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_total_bytes: Option<i64>,
    /// Memory in use, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_used_bytes: Option<i64>,
    /// Size of the system volume, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_total_bytes: Option<i64>,
    /// Free space of the system volume, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_free_bytes: Option<i64>,
    // --- security ---
    /// Whether the system volume is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_encrypted: Option<bool>,
    /// Whether a firewall is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firewall_enabled: Option<bool>,
    /// Name of the antivirus product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub antivirus_name: Option<String>,
    /// Whether the antivirus is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub antivirus_enabled: Option<bool>,
    /// When its signatures were last updated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub antivirus_updated_at: Option<String>,
    /// Whether the screen locks by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub screen_lock_enabled: Option<bool>,
    /// Whether secure boot is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure_boot: Option<bool>,
    /// Whether a trusted platform module is present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm_present: Option<bool>,
    /// Accounts with administrator rights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_admins: Option<Vec<String>>,
    // --- software ---
    /// Installed packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<Vec<Software>>,
}

/// One installed package (`package.*` in ECS).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Software {
    /// Name.
    pub name: String,
    /// Version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Vendor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
}
