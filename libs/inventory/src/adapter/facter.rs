//! Facts as `facter --json` prints them (structured facts, Facter 3 and later).

use serde_json::Value;

use super::{
    AdaptError,
    document::{bytes, count, elements, flag, number, text, without},
    words::{addresses, host_type, os_type},
};
use crate::Inventory;

/// The caller's search path says nothing of the host.
const DROPPED: [&str; 1] = ["path"];

/// The host is Puppet's certificate name where there is one, else the full name, which is what Puppet makes it from.
pub(super) fn adapt(facts: Value) -> Result<(Inventory, Value), AdaptError> {
    let host_id = [&["clientcert"][..], &["networking", "fqdn"], &["networking", "hostname"]];
    let host_id = host_id.into_iter().find_map(|path| text(&facts, path));
    let host_id = host_id.ok_or_else(|| {
        AdaptError("the facts name no host: neither 'clientcert' nor 'networking.fqdn' is there".to_owned())
    })?;
    let is_virtual = flag(&facts, &["is_virtual"]) == Some(true);
    let inventory = Inventory {
        agent_name: Some("facter".to_owned()),
        agent_version: text(&facts, &["facterversion"]),
        host_id,
        hostname: text(&facts, &["networking", "hostname"]),
        serial_number: text(&facts, &["dmi", "product", "serial_number"]),
        hardware_vendor: text(&facts, &["dmi", "manufacturer"]),
        hardware_model: text(&facts, &["dmi", "product", "name"]),
        host_type: if is_virtual {
            Some("virtual".to_owned())
        } else {
            text(&facts, &["dmi", "chassis", "type"]).and_then(|chassis| host_type(&chassis))
        },
        host_ip: host_ip(&facts),
        os_type: text(&facts, &["kernel"]).and_then(|kernel| os_type(&kernel)),
        os_name: text(&facts, &["os", "name"]),
        os_version: text(&facts, &["os", "release", "full"]),
        os_kernel: text(&facts, &["kernelrelease"]),
        architecture: text(&facts, &["os", "architecture"]),
        cpu_count: count(&facts, &["processors", "count"]),
        memory_total_bytes: number(&facts, &["memory", "system", "total_bytes"]),
        memory_used_bytes: number(&facts, &["memory", "system", "used_bytes"]),
        disk_total_bytes: bytes(&facts, &["mountpoints", "/", "size_bytes"], 1.0),
        disk_free_bytes: bytes(&facts, &["mountpoints", "/", "available_bytes"], 1.0),
        ..Inventory::default()
    };
    Ok((inventory, without(facts, &DROPPED)))
}

fn host_ip(facts: &Value) -> Option<Vec<String>> {
    let interfaces = facts["networking"]["interfaces"].as_object()?;
    let of = |interface: &Value| -> Vec<String> {
        let bindings = ["bindings", "bindings6"].into_iter().flat_map(|key| elements(interface, &[key]));
        bindings.filter_map(|binding| text(binding, &["address"])).collect()
    };
    addresses(interfaces.values().flat_map(of))
}
