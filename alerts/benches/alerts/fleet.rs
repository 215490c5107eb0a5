//! Computers of which each breaks one or two of the shipped rules all the time, and one in a hundred records another.

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat};
use firn_inventory::{
    Inventory, Software, record_key,
    tables::{INVENTORY_TOPIC, RECEIVED_AT_HEADER, SOURCE_HEADER, TENANT_HEADER},
};
use firn_stream::ProduceRecord;

use crate::records;

/// Whose computers they are.
pub(crate) const TENANT: &str = "acme";
const DAY_US: i64 = 24 * 3_600 * 1_000_000;

/// The record with this number, of a fleet whose computers report in turn.
pub(crate) fn inventory(number: u64, hosts: u64, received_at_us: i64) -> Inventory {
    let host = number % hosts;
    let windows = host % 3 < 2;
    let text = |text: &str| Some(text.to_owned());
    let days_ago = |days: u64| {
        let instant = DateTime::from_timestamp_micros(received_at_us - days.cast_signed() * DAY_US);
        instant.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true))
    };
    let base = records::inventory(number);
    let mut software = base.software.clone().unwrap_or_default();
    if host.is_multiple_of(100) {
        software.push(Software { name: "AnyDesk".to_owned(), version: text("8.0.1"), vendor: None });
    }
    Inventory {
        host_id: format!("host-{host:08}"),
        hostname: Some(format!("pc-{host:08}.example.org")),
        organization_id: Some(format!("org-{}", host % 50)),
        os_type: text(if windows { "windows" } else { "linux" }),
        os_name: text(if windows { "Windows 11 Pro" } else { "Ubuntu" }),
        os_version: text(match (windows, host % 25) {
            (true, 0) => "10.0.18363",
            (true, _) => "10.0.22631",
            (false, 0) => "20.04",
            (false, _) => "24.04",
        }),
        patched_at: days_ago(host % 33),
        booted_at: days_ago(host % 65),
        reboot_pending: Some(host.is_multiple_of(20)),
        disk_free_bytes: Some(if host.is_multiple_of(20) { 12_000_000_000 } else { 200_000_000_000 }),
        disk_encrypted: Some(!host.is_multiple_of(11)),
        // What changes: now and then, for one record.
        firewall_enabled: Some(!(number * 7 + number / hosts).is_multiple_of(100)),
        antivirus_name: text("Defender"),
        antivirus_enabled: Some(!host.is_multiple_of(50)),
        antivirus_updated_at: days_ago(1),
        screen_lock_enabled: Some(!host.is_multiple_of(40)),
        secure_boot: Some(!host.is_multiple_of(30)),
        tpm_present: Some(true),
        local_admins: Some(vec!["Administrator".to_owned(), format!("user-{host}")]),
        software: Some(software),
        ..base
    }
}

/// The same as the gateway writes it into the log.
pub(crate) fn produced(number: u64, hosts: u64, received_at_us: i64) -> ProduceRecord {
    produce(&inventory(number, hosts, received_at_us), received_at_us)
}

/// A record as the gateway writes it into the log.
pub(crate) fn produce(inventory: &Inventory, received_at_us: i64) -> ProduceRecord {
    let header = |name: &str, value: &str| (name.to_owned(), Bytes::copy_from_slice(value.as_bytes()));
    ProduceRecord {
        topic: INVENTORY_TOPIC.to_owned(),
        key: Some(Bytes::from(record_key(TENANT, &inventory.host_id))),
        partition: None,
        value: serde_json::to_vec(inventory).ok().map(Bytes::from),
        headers: vec![
            header(TENANT_HEADER, TENANT),
            header(RECEIVED_AT_HEADER, &received_at_us.to_string()),
            header(SOURCE_HEADER, "native"),
        ],
    }
}
