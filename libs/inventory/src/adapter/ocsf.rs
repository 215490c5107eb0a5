//! OCSF's Device Inventory Info, class 5001 (versions 1.0 and later).

use serde_json::Value;

use super::{
    AdaptError,
    document::{bytes, count, elements, instant, instant_ms, text},
    words::{addresses, host_type, os_type},
};
use crate::Inventory;

/// Device Inventory Info.
const CLASS: i64 = 5001;

/// OCSF counts memory in megabytes of 2^20 bytes.
const MEGABYTE: f64 = 1_048_576.0;

/// The host is the device's unique id.
pub(super) fn adapt(event: Value) -> Result<(Inventory, Value), AdaptError> {
    match event["class_uid"].as_i64() {
        Some(CLASS) => {}
        Some(other) => {
            return Err(AdaptError(format!(
                "'class_uid' is {other}; only Device Inventory Info, {CLASS}, is taken"
            )));
        }
        None => return Err(AdaptError(format!("'class_uid' is missing; Device Inventory Info is {CLASS}"))),
    }
    let device = &event["device"];
    let ids = ["uid", "instance_uid", "uid_alt"].into_iter();
    let host_id = ids.filter_map(|key| text(device, &[key])).next();
    let host_id = host_id.ok_or_else(|| AdaptError("'device.uid' is missing".to_owned()))?;
    let own = text(device, &["ip"]).into_iter();
    let interfaces = elements(device, &["network_interfaces"]).iter().filter_map(|one| text(one, &["ip"]));
    let inventory = Inventory {
        event_id: text(&event, &["metadata", "uid"]),
        collected_at: instant_ms(&event, &["time"]).or_else(|| instant(&event, &["time_dt"])),
        agent_name: text(&event, &["metadata", "product", "name"]),
        agent_version: text(&event, &["metadata", "product", "version"]),
        host_id,
        hostname: text(device, &["hostname"]).or_else(|| text(device, &["name"])),
        organization_id: text(device, &["org", "uid"]).or_else(|| text(device, &["org", "name"])),
        owner_email: text(device, &["owner", "email_addr"]),
        serial_number: text(device, &["hw_info", "serial_number"]),
        hardware_vendor: text(device, &["hw_info", "vendor_name"]).or_else(|| text(device, &["vendor_name"])),
        hardware_model: text(device, &["model"]),
        host_type: device_type(device),
        host_ip: addresses(own.chain(interfaces)),
        os_type: operating_system(device),
        os_name: text(device, &["os", "name"]),
        os_version: text(device, &["os", "version"]),
        os_kernel: text(device, &["os", "kernel_release"]).or_else(|| text(device, &["os", "build"])),
        architecture: text(device, &["hw_info", "cpu_architecture"]),
        booted_at: instant_ms(device, &["boot_time"]).or_else(|| instant(device, &["boot_time_dt"])),
        cpu_count: count(device, &["hw_info", "cpu_cores"])
            .or_else(|| count(device, &["hw_info", "cpu_count"])),
        memory_total_bytes: bytes(device, &["hw_info", "ram_size"], MEGABYTE),
        ..Inventory::default()
    };
    Ok((inventory, event))
}

/// By `type_id`, whose numbers are fixed, else by the words beside it.
fn device_type(device: &Value) -> Option<String> {
    let known = match device["type_id"].as_i64() {
        Some(1) => "server",
        Some(2) => "desktop",
        Some(3) => "laptop",
        Some(4) => "tablet",
        Some(5) => "mobile",
        Some(6) => "virtual",
        _ => return text(device, &["type"]).and_then(|name| host_type(&name)),
    };
    Some(known.to_owned())
}

fn operating_system(device: &Value) -> Option<String> {
    let known = match device["os"]["type_id"].as_i64() {
        Some(100 | 101) => "windows",
        Some(200) => "linux",
        Some(201) => "android",
        Some(300) => "macos",
        Some(301) => "ios",
        Some(302) => "ipados",
        _ => return ["type", "name"].into_iter().find_map(|key| os_type(&text(device, &["os", key])?)),
    };
    Some(known.to_owned())
}
