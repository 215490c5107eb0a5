#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::{Decoded, Inventory, decode};

/// What GLPI-Agent 1.12 sent of a Debian 12 virtual machine, shortened; names and numbers are made up.
const SENT: &str = include_str!("inventory.json");

fn inventory(message: &Value) -> Result<(Inventory, Value, &'static str), AdaptError> {
    let AgentRequest::Inventory { record, source } = parse(message.to_string().as_bytes())? else {
        panic!("an inventory")
    };
    let Decoded { inventory, extra } = decode(&record).unwrap();
    Ok((inventory, serde_json::from_str(&extra.unwrap()).unwrap(), source))
}

fn sent() -> Value {
    serde_json::from_str(SENT).unwrap()
}

#[test]
fn agents_json_becomes_a_record() {
    let (record, rest, source) = inventory(&sent()).unwrap();
    let text = |text: &str| Some(text.to_owned());
    let software = record.software.clone().unwrap();
    assert_eq!(
        software.iter().map(|package| package.name.as_str()).collect::<Vec<_>>(),
        ["adduser", "apt", "base-files"]
    );
    let expected = Inventory {
        install_id: text("pc-7-2026-11-22-17-26-55"),
        collected_at: text("2026-11-22T17:26:56+01:00"),
        agent_name: text("GLPI-Agent"),
        agent_version: text("1.12-dev"),
        host_id: "pc-7-2026-11-22-17-26-55".into(),
        hostname: text("pc-7"),
        organization_id: text("berlin"),
        serial_number: text("PF1"),
        hardware_vendor: text("LENOVO"),
        hardware_model: text("20XW"),
        host_type: text("virtual"),
        host_ip: Some(vec!["192.0.2.2".into(), "fd00::2".into()]),
        os_type: text("linux"),
        os_name: text("Debian GNU/Linux"),
        os_version: text("12.11"),
        os_kernel: text("6.1.0-9-amd64"),
        architecture: text("x86_64"),
        booted_at: text("2026-11-22T13:29:38+01:00"),
        cpu_count: Some(4),
        memory_total_bytes: Some(24105 << 20),
        disk_total_bytes: Some(258_019 << 20),
        disk_free_bytes: Some(52_524 << 20),
        firewall_enabled: Some(true),
        local_admins: Some(vec!["ann".into(), "bob".into()]),
        software: Some(software),
        ..Inventory::default()
    };
    assert_eq!((record, source), (expected, "glpi"));
    assert_eq!(rest["glpi"]["versionclient"], "GLPI-Agent_v1.12-dev");
    assert!(rest["glpi"]["cpus"][0]["core"].is_number(), "as it was sent");
    assert!(!rest.to_string().contains("secret"), "{rest}");
}

#[test]
fn flags_are_read_as_flags() {
    let mut message = sent();
    message["content"]["drives"] = json!([
        {"letter": "D:", "total": 5, "free": 1, "systemdrive": false},
        {"letter": "E:", "total": 7, "free": 2, "systemdrive": true, "encrypt_status": "Yes"},
    ]);
    message["content"]["antivirus"] = json!([{"name": "Defender", "enabled": true, "uptodate": true}]);
    let (record, _, _) = inventory(&message).unwrap();
    assert_eq!((record.disk_total_bytes, record.disk_encrypted), (Some(7 << 20), Some(true)));
    assert_eq!((record.antivirus_name.as_deref(), record.antivirus_enabled), (Some("Defender"), Some(true)));
}

#[test]
fn what_is_no_whole_computer_is_refused_with_the_reason() {
    let changed = |key: &str, value: Value| {
        let mut message = sent();
        message[key] = value;
        message
    };
    let refused = |message: &Value| inventory(message).unwrap_err().to_string();
    assert!(refused(&changed("partial", json!(true))).contains("full-inventory-postpone = 0"));
    assert!(refused(&changed("itemtype", json!("NetworkEquipment"))).contains("NetworkEquipment"));
    assert!(refused(&changed("action", json!("get_params"))).contains("get_params"));
    assert!(refused(&changed("deviceid", json!(""))).contains("'deviceid' is missing"));
    assert!(refused(&changed("content", json!([]))).contains("'content' is missing"));
    assert!(inventory(&changed("partial", json!(false))).is_ok());
    assert_eq!(parse(br#"{"action":"contact","deviceid":"d"}"#), Ok(AgentRequest::Prolog));
    assert_eq!(
        parse(b"<REQUEST><DEVICEID>d</DEVICEID><QUERY>PROLOG</QUERY></REQUEST>"),
        Ok(AgentRequest::Prolog)
    );
    assert!(parse(b"{").unwrap_err().to_string().starts_with("not JSON"));
    let many = format!("[{}1]", "[],".repeat(MAX_ELEMENTS));
    assert!(parse(many.as_bytes()).unwrap_err().to_string().contains("elements"));
}
