//! Inventories of about 1 KB, as the gateway writes them into the log.

use bytes::Bytes;
use firn_inventory::{
    Inventory, SCHEMA_VERSION, Software, record_key,
    tables::{INVENTORY_TOPIC, RECEIVED_AT_HEADER, SOURCE_HEADER, TENANT_HEADER},
};
use firn_stream::{Header, ProduceRecord};

/// Computers over all tenants.
const HOSTS: u64 = 20_000;

/// The tenant with this number.
pub(crate) fn tenant(number: u64) -> String {
    format!("tenant-{number:04}")
}

/// The inventory with this number: computers report in turn, and no two reports are alike.
pub(crate) fn inventory(number: u64) -> Inventory {
    let host = number % HOSTS;
    let noise = scrambled(number);
    let text = |text: &str| Some(text.to_owned());
    let package = |name: &str, version: u64| Software {
        name: name.to_owned(),
        version: Some(format!("{}.{}.{}", version % 9, version / 9 % 20, version / 180 % 7)),
        vendor: text("Example Software Foundation"),
    };
    Inventory {
        schema_version: Some(SCHEMA_VERSION),
        event_id: Some(format!("{noise:016x}{number:016x}")),
        install_id: Some(format!("{:016x}", scrambled(host))),
        seq: i64::try_from(number / HOSTS).ok(),
        collected_at: Some(instant(number, 0)),
        sent_at: Some(instant(number, 2)),
        agent_name: text("firn-bench"),
        agent_version: text("0.1.0"),
        host_id: format!("host-{host:08}"),
        hostname: Some(format!("pc-{host:08}.example.org")),
        organization_id: Some(format!("org-{}", host % 50)),
        serial_number: Some(format!("SN{:010X}", scrambled(host) % (1 << 40))),
        hardware_vendor: text("Lenovo"),
        hardware_model: text("ThinkPad T14 Gen 5"),
        host_type: text("laptop"),
        host_ip: Some(vec![format!("10.{}.{}.{}", host / 65_536, host / 256 % 256, host % 256)]),
        os_type: text("linux"),
        os_name: text("Ubuntu"),
        os_version: text("24.04"),
        os_kernel: text("6.8.0-48-generic"),
        architecture: text("x86_64"),
        booted_at: Some(instant(host, 0)),
        reboot_pending: Some(noise.is_multiple_of(20)),
        cpu_count: Some(8),
        cpu_usage: i32::try_from(noise % 10_000).ok(),
        memory_total_bytes: Some(16 << 30),
        memory_used_bytes: i64::try_from(noise % (16 << 30)).ok(),
        disk_total_bytes: Some(512_000_000_000),
        disk_free_bytes: i64::try_from(noise % 512_000_000_000).ok(),
        disk_encrypted: Some(!host.is_multiple_of(11)),
        firewall_enabled: Some(true),
        software: Some(vec![package("firefox", host), package("openssh", host / 7)]),
        ..Inventory::default()
    }
}

/// The same as JSON.
pub(crate) fn json(number: u64) -> Vec<u8> {
    serde_json::to_vec(&inventory(number)).expect("plain data is always JSON")
}

/// The same as a record of the log, of one of so many tenants.
pub(crate) fn produced(number: u64, tenants: u64, received_at_us: i64) -> ProduceRecord {
    let (tenant, inventory) = (tenant(number % tenants), inventory(number));
    let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let header = |name: &str, value: &str| -> Header { (name.to_owned(), text(value)) };
    ProduceRecord {
        topic: INVENTORY_TOPIC.to_owned(),
        key: Some(Bytes::from(record_key(&tenant, &inventory.host_id))),
        partition: None,
        value: serde_json::to_vec(&inventory).ok().map(Bytes::from),
        headers: vec![
            header(TENANT_HEADER, &tenant),
            header(RECEIVED_AT_HEADER, &received_at_us.to_string()),
            header(SOURCE_HEADER, "native"),
        ],
    }
}

/// An instant of a day, told by a number.
fn instant(number: u64, later_s: u64) -> String {
    let seconds = number % 86_000 + later_s;
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("2026-11-22T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", number % 1_000)
}

/// SplitMix64: numbers that no compression finds a rule in.
fn scrambled(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
