//! The fields of the record as data: one line each for class, unit, range and place in [`Inventory`].
//!
//! Decoder, Arrow builders and JSON Schema all walk this table, so a field that is added here and in [`Inventory`] is
//! added everywhere.

use std::{collections::HashMap, ops::RangeInclusive, sync::LazyLock};

use serde::{Deserialize, Serialize};

use crate::Inventory;

/// How sensitive a field is; retention, erasure and masking go by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldClass {
    /// Says nothing about a person or a weakness.
    Public,
    /// Not for outsiders.
    Internal,
    /// About a person.
    Personal,
}

impl FieldClass {
    /// The class as it is written in column docs and table properties.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Personal => "personal",
        }
    }
}

/// The class of a field of [`Inventory`] or of a column of the bronze tables, by name. What is not known is personal:
/// nobody said that it is not.
#[must_use]
pub fn field_class(field: &str) -> FieldClass {
    match field {
        "received_at" | "event_time" | "clock_skew_s" | "source" | "platform" | "platform_version" => {
            FieldClass::Public
        }
        "log_topic_id" | "log_partition" | "log_offset" | "reason" | "reason_kind" | "org_id"
        | "org_name" | "org_unit" => FieldClass::Internal,
        name => position(name).map_or(FieldClass::Personal, |index| FIELDS[index].class),
    }
}

/// One field of the record.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) class: FieldClass,
    pub(crate) unit: Option<&'static str>,
    pub(crate) slot: Slot,
}

/// Type of a field, and where its value stands.
pub(crate) enum Slot {
    /// `host_id`: the only one that is required.
    HostId,
    Text(Access<String>),
    /// RFC 3339 text in the record, microseconds in tables.
    Instant(Access<String>),
    Flag(Access<bool>),
    Int(Access<i32>, RangeInclusive<i32>),
    Long(Access<i64>, RangeInclusive<i64>),
    Texts(Access<Vec<String>>),
    Software,
}

/// Reads and writes one field.
pub(crate) struct Access<T> {
    pub(crate) get: fn(&Inventory) -> &Option<T>,
    pub(crate) set: fn(&mut Inventory) -> &mut Option<T>,
}

macro_rules! at {
    ($field:ident) => {
        Access { get: |record| &record.$field, set: |record| &mut record.$field }
    };
}

const fn field(name: &'static str, class: FieldClass, slot: Slot) -> Field {
    Field { name, class, unit: None, slot }
}

const fn measured(name: &'static str, class: FieldClass, unit: &'static str, slot: Slot) -> Field {
    Field { name, class, unit: Some(unit), slot }
}

const BYTES: RangeInclusive<i64> = 0..=i64::MAX;

/// All fields, in the order of the record and of the columns.
pub(crate) static FIELDS: [Field; 41] = {
    use FieldClass::{Internal, Personal, Public};
    use Slot::{Flag, HostId, Instant, Int, Long, Software, Text, Texts};
    [
        field("schema_version", Public, Int(at!(schema_version), 1..=i32::MAX)),
        field("event_id", Internal, Text(at!(event_id))),
        field("install_id", Internal, Text(at!(install_id))),
        field("seq", Public, Long(at!(seq), 0..=i64::MAX)),
        field("collected_at", Public, Instant(at!(collected_at))),
        field("sent_at", Public, Instant(at!(sent_at))),
        field("agent_name", Public, Text(at!(agent_name))),
        field("agent_version", Public, Text(at!(agent_version))),
        field("host_id", Internal, HostId),
        field("hostname", Internal, Text(at!(hostname))),
        field("organization_id", Internal, Text(at!(organization_id))),
        field("owner_email", Personal, Text(at!(owner_email))),
        field("serial_number", Internal, Text(at!(serial_number))),
        field("hardware_vendor", Public, Text(at!(hardware_vendor))),
        field("hardware_model", Public, Text(at!(hardware_model))),
        field("host_type", Public, Text(at!(host_type))),
        field("host_ip", Personal, Texts(at!(host_ip))),
        field("os_type", Public, Text(at!(os_type))),
        field("os_name", Public, Text(at!(os_name))),
        field("os_version", Public, Text(at!(os_version))),
        field("os_kernel", Public, Text(at!(os_kernel))),
        field("architecture", Public, Text(at!(architecture))),
        field("booted_at", Internal, Instant(at!(booted_at))),
        field("patched_at", Internal, Instant(at!(patched_at))),
        field("reboot_pending", Internal, Flag(at!(reboot_pending))),
        measured("cpu_count", Public, "processors", Int(at!(cpu_count), 1..=1_048_576)),
        measured("cpu_usage", Public, "1/100 percent", Int(at!(cpu_usage), 0..=10_000)),
        measured("memory_total_bytes", Public, "bytes", Long(at!(memory_total_bytes), BYTES)),
        measured("memory_used_bytes", Public, "bytes", Long(at!(memory_used_bytes), BYTES)),
        measured("disk_total_bytes", Public, "bytes", Long(at!(disk_total_bytes), BYTES)),
        measured("disk_free_bytes", Public, "bytes", Long(at!(disk_free_bytes), BYTES)),
        field("disk_encrypted", Internal, Flag(at!(disk_encrypted))),
        field("firewall_enabled", Internal, Flag(at!(firewall_enabled))),
        field("antivirus_name", Internal, Text(at!(antivirus_name))),
        field("antivirus_enabled", Internal, Flag(at!(antivirus_enabled))),
        field("antivirus_updated_at", Internal, Instant(at!(antivirus_updated_at))),
        field("screen_lock_enabled", Internal, Flag(at!(screen_lock_enabled))),
        field("secure_boot", Internal, Flag(at!(secure_boot))),
        field("tpm_present", Internal, Flag(at!(tpm_present))),
        field("local_admins", Personal, Texts(at!(local_admins))),
        field("software", Internal, Software),
    ]
};

/// The index of a field in [`FIELDS`].
pub(crate) fn position(name: &str) -> Option<usize> {
    static BY_NAME: LazyLock<HashMap<&'static str, usize>> =
        LazyLock::new(|| FIELDS.iter().enumerate().map(|(index, field)| (field.name, index)).collect());
    BY_NAME.get(name).copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn table_names_every_field_of_the_record() {
        let schema = crate::json_schema();
        let mut published: Vec<_> =
            schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let mut listed: Vec<_> = FIELDS.iter().map(|field| field.name).collect();
        published.sort_unstable();
        listed.sort_unstable();
        assert_eq!(listed, published);
    }

    #[test]
    fn each_field_reads_what_it_wrote() {
        let mut record = Inventory::default();
        for field in &FIELDS {
            let untouched = record.clone();
            match &field.slot {
                Slot::HostId | Slot::Software => continue,
                Slot::Text(access) | Slot::Instant(access) => {
                    *(access.set)(&mut record) = Some("value".into());
                    assert_eq!((access.get)(&record).as_deref(), Some("value"), "{}", field.name);
                }
                Slot::Flag(access) => {
                    *(access.set)(&mut record) = Some(true);
                    assert_eq!(*(access.get)(&record), Some(true), "{}", field.name);
                }
                Slot::Int(access, _) => *(access.set)(&mut record) = Some(7),
                Slot::Long(access, _) => *(access.set)(&mut record) = Some(7),
                Slot::Texts(access) => *(access.set)(&mut record) = Some(vec![]),
            }
            let json = serde_json::to_value(&record).unwrap();
            assert!(json.get(field.name).is_some(), "{} writes another field", field.name);
            assert_ne!(record, untouched, "{} stands twice", field.name);
        }
    }

    #[test]
    fn unknown_names_are_personal() {
        assert_eq!(field_class("owner_email"), FieldClass::Personal);
        assert_eq!(field_class("os_name"), FieldClass::Public);
        assert_eq!(field_class("extra"), FieldClass::Personal);
    }
}
