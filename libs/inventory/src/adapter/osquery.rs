//! A host as Fleet's API and its host webhooks write it: the details that osquery collected.

use serde_json::Value;

use super::{
    AdaptError,
    document::{bytes, count, elements, flag, instant, number, text, without},
    words::{addresses, name_and_version, os_type},
};
use crate::{Inventory, Software};

/// Fleet counts in gigabytes of 10^9 bytes.
const GIGABYTE: f64 = 1e9;

/// Held in fields of the record.
const DROPPED: [&str; 1] = ["software"];

/// Either the host itself, or an answer with it under `host`. The host is the hardware's UUID, as osquery identifies it.
pub(super) fn adapt(mut document: Value) -> Result<(Inventory, Value), AdaptError> {
    let host = if document["host"].is_object() { document["host"].take() } else { document };
    let host_id = text(&host, &["uuid"])
        .ok_or_else(|| AdaptError("the host has no 'uuid': it is no host as Fleet answers it".to_owned()))?;
    let (os_name, os_version) = name_and_version(&text(&host, &["os_version"]).unwrap_or_default());
    let platform = ["platform_like", "platform"].into_iter().filter_map(|key| text(&host, &[key]));
    let platforms: Vec<_> = platform.filter_map(|platform| os_type(&platform)).collect();
    let software = elements(&host, &["software"]).iter().filter_map(package).collect::<Vec<_>>();
    let inventory = Inventory {
        collected_at: instant(&host, &["detail_updated_at"]),
        agent_name: Some("osquery".to_owned()),
        agent_version: text(&host, &["osquery_version"]),
        host_id,
        hostname: text(&host, &["hostname"]).or_else(|| text(&host, &["computer_name"])),
        organization_id: text(&host, &["team_name"]),
        owner_email: elements(&host, &["device_mapping"]).iter().find_map(|user| text(user, &["email"])),
        serial_number: text(&host, &["hardware_serial"]),
        hardware_vendor: text(&host, &["hardware_vendor"]),
        hardware_model: text(&host, &["hardware_model"]),
        host_ip: addresses(text(&host, &["primary_ip"])),
        // `rhel` runs Linux though neither word says so everywhere: the more general of the two names wins.
        os_type: platforms.iter().find(|word| *word == "linux").or(platforms.last()).cloned(),
        os_name,
        os_version,
        os_kernel: text(&host, &["kernel_version"]).or_else(|| text(&host, &["build"])),
        architecture: text(&host, &["cpu_type"]),
        booted_at: instant(&host, &["last_restarted_at"]),
        cpu_count: count(&host, &["cpu_logical_cores"]),
        memory_total_bytes: number(&host, &["memory"]),
        disk_total_bytes: bytes(&host, &["gigs_total_disk_space"], GIGABYTE),
        disk_free_bytes: bytes(&host, &["gigs_disk_space_available"], GIGABYTE),
        disk_encrypted: flag(&host, &["disk_encryption_enabled"]),
        software: host["software"].is_array().then_some(software),
        ..Inventory::default()
    };
    Ok((inventory, without(host, &DROPPED)))
}

fn package(package: &Value) -> Option<Software> {
    Some(Software {
        name: text(package, &["name"])?,
        version: text(package, &["version"]),
        vendor: text(package, &["vendor"]),
    })
}
