#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;
use crate::Decoded;

fn adapted(format: Format, document: &Value) -> (Inventory, Value) {
    read(&format.adapt(document.to_string().as_bytes()).unwrap())
}

fn read(record: &[u8]) -> (Inventory, Value) {
    let Decoded { inventory, extra } = decode(record).unwrap();
    (inventory, extra.map_or(Value::Null, |extra| serde_json::from_str(&extra).unwrap()))
}

fn refused(format: Format, document: &Value) -> String {
    format.adapt(document.to_string().as_bytes()).unwrap_err().to_string()
}

#[test]
fn facts_become_a_record() {
    let facts = json!({
        "facterversion": "4.3.0", "kernel": "Linux", "kernelrelease": "6.1.0-9-amd64", "is_virtual": false, "path": "/secret",
        "dmi": {"manufacturer": "LENOVO", "product": {"name": "20XW", "serial_number": "PF1"}, "chassis": {"type": "Notebook"}},
        "memory": {"system": {"total_bytes": 1000, "used_bytes": 400}},
        "mountpoints": {"/": {"size_bytes": 9, "available_bytes": 4}},
        "networking": {"fqdn": "a.example.org", "hostname": "a", "interfaces": {
            "eth0": {"bindings": [{"address": "192.0.2.2"}], "bindings6": [{"address": "fd00::2"}]},
            "lo": {"bindings": [{"address": "127.0.0.1"}]}}},
        "os": {"name": "Debian", "architecture": "amd64", "release": {"full": "12.11"}},
        "processors": {"count": 8},
    });
    let (record, rest) = adapted(Format::Facter, &facts);
    let text = |text: &str| Some(text.to_owned());
    let expected = Inventory {
        agent_name: text("facter"),
        agent_version: text("4.3.0"),
        host_id: "a.example.org".into(),
        hostname: text("a"),
        serial_number: text("PF1"),
        hardware_vendor: text("LENOVO"),
        hardware_model: text("20XW"),
        host_type: text("laptop"),
        host_ip: Some(vec!["192.0.2.2".into(), "fd00::2".into()]),
        os_type: text("linux"),
        os_name: text("Debian"),
        os_version: text("12.11"),
        os_kernel: text("6.1.0-9-amd64"),
        architecture: text("amd64"),
        cpu_count: Some(8),
        memory_total_bytes: Some(1000),
        memory_used_bytes: Some(400),
        disk_total_bytes: Some(9),
        disk_free_bytes: Some(4),
        ..Inventory::default()
    };
    assert_eq!(record, expected);
    assert_eq!(rest["facter"]["os"]["release"]["full"], "12.11");
    assert_eq!(rest["facter"].get("path"), None);
    assert!(refused(Format::Facter, &json!({"kernel": "Linux"})).contains("networking.fqdn"));
}

#[test]
fn fleet_host_becomes_a_record() {
    let host = json!({"host": {
        "id": 1, "uuid": "392547dc", "hostname": "mac", "platform": "darwin", "platform_like": "darwin",
        "os_version": "macOS 14.1.2", "build": "23B92", "osquery_version": "5.9.1", "memory": 8_589_934_592_i64,
        "cpu_type": "x86_64h", "cpu_logical_cores": 8, "hardware_vendor": "Apple Inc.", "hardware_model": "MacBookPro12,1",
        "hardware_serial": "C0", "primary_ip": "192.0.2.3", "gigs_disk_space_available": 46.1, "gigs_total_disk_space": 160,
        "disk_encryption_enabled": true, "team_name": "Workstations", "last_restarted_at": "2026-11-20T07:00:00Z",
        "detail_updated_at": "0001-01-01T00:00:00Z", "device_mapping": [{"email": "a@example.org", "source": "custom"}],
        "software": [{"id": 7, "name": "zoom", "version": "5.1", "vendor": "", "source": "apps"}],
        "issues": {"failing_policies_count": 1},
    }});
    let (record, rest) = adapted(Format::Osquery, &host);
    assert_eq!((record.host_id.as_str(), record.os_type.as_deref()), ("392547dc", Some("macos")));
    assert_eq!((record.os_name.as_deref(), record.os_version.as_deref()), (Some("macOS"), Some("14.1.2")));
    assert_eq!(
        (record.disk_total_bytes, record.disk_free_bytes),
        (Some(160_000_000_000), Some(46_100_000_000))
    );
    assert_eq!((record.disk_encrypted, record.collected_at), (Some(true), None));
    assert_eq!(record.owner_email.as_deref(), Some("a@example.org"));
    let software = record.software.unwrap();
    assert_eq!((software[0].name.as_str(), software[0].version.as_deref()), ("zoom", Some("5.1")));
    assert_eq!(rest["osquery"]["issues"]["failing_policies_count"], 1);
    assert_eq!(rest["osquery"].get("software"), None);

    let linux =
        json!({"uuid": "u", "platform": "rhel", "platform_like": "fedora", "os_version": "CentOS Linux 8.3"});
    let (record, _) = adapted(Format::Osquery, &linux);
    assert_eq!((record.os_type.as_deref(), record.os_name.as_deref()), (Some("linux"), Some("CentOS Linux")));
    assert!(refused(Format::Osquery, &json!({"hostname": "a"})).contains("uuid"));
}

#[test]
fn ocsf_device_inventory_becomes_a_record() {
    let event = json!({
        "class_uid": 5001, "activity_id": 2, "time": 1_795_341_600_000_i64,
        "metadata": {"uid": "e1", "version": "1.3.0", "product": {"name": "Scanner", "version": "2"}},
        "device": {
            "uid": "dev-1", "hostname": "srv", "ip": "192.0.2.9", "type_id": 1, "model": "R640",
            "os": {"name": "Windows Server 2022", "type_id": 100, "build": "20348", "version": "10.0"},
            "hw_info": {"serial_number": "S", "ram_size": 2048, "cpu_count": 2, "vendor_name": "Dell"},
            "org": {"uid": "o-1"}, "owner": {"email_addr": "b@example.org"},
            "network_interfaces": [{"ip": "192.0.2.9"}, {"ip": "192.0.2.10"}],
        },
        "unmapped": {"x": 1},
    });
    let (record, rest) = adapted(Format::Ocsf, &event);
    assert_eq!((record.host_id.as_str(), record.event_id.as_deref()), ("dev-1", Some("e1")));
    assert_eq!((record.os_type.as_deref(), record.host_type.as_deref()), (Some("windows"), Some("server")));
    assert_eq!((record.memory_total_bytes, record.cpu_count), (Some(2 << 30), Some(2)));
    assert_eq!(record.collected_at.as_deref(), Some("2026-11-22T10:00:00.000Z"));
    assert_eq!(record.host_ip.unwrap(), ["192.0.2.9", "192.0.2.10"]);
    assert_eq!(record.organization_id.as_deref(), Some("o-1"));
    assert_eq!(rest["ocsf"]["unmapped"]["x"], 1);
    assert!(refused(Format::Ocsf, &json!({"class_uid": 2003})).contains("2003"));
    assert!(refused(Format::Ocsf, &json!({"class_uid": 5001, "device": {}})).contains("device.uid"));
}

#[test]
fn foreign_fields_of_a_wrong_type_are_not_known_and_kept() {
    let facts = json!({"clientcert": "a", "processors": {"count": "many"}, "memory": 3, "networking": []});
    let (record, rest) = adapted(Format::Facter, &facts);
    assert_eq!((record.cpu_count, record.memory_total_bytes), (None, None));
    assert_eq!(rest["facter"]["processors"]["count"], "many");
    assert_eq!(refused(Format::Facter, &json!([1])), "the record is not a JSON object");
    assert!(Format::Ocsf.adapt(b"{").unwrap_err().to_string().starts_with("not JSON"));
    let long = json!({"clientcert": "a".repeat(600)});
    assert!(
        refused(Format::Facter, &long).contains("host_id"),
        "what the worker would refuse is refused here"
    );
    assert_eq!(
        "xml".parse::<Format>().unwrap_err().to_string(),
        "format 'xml' is not known: use one of native, ocsf, osquery, facter"
    );
}

const FUSION: &str = r#"<?xml version="1.0" encoding="UTF-8" ?>
<REQUEST><CONTENT>
  <ACCESSLOG><LOGDATE>2026-11-22 17:26:56</LOGDATE></ACCESSLOG>
  <ACCOUNTINFO><KEYNAME>TAG</KEYNAME><KEYVALUE>berlin</KEYVALUE></ACCOUNTINFO>
  <BIOS><SSN>PF1</SSN><SMANUFACTURER>LENOVO</SMANUFACTURER><SMODEL>20XW</SMODEL></BIOS>
  <CPUS><CORE>2</CORE><NAME>AMD &amp; co</NAME><THREAD>4</THREAD></CPUS>
  <DRIVES><FREE>1</FREE><TOTAL>5</TOTAL><TYPE>/boot</TYPE></DRIVES>
  <DRIVES><FREE>52524</FREE><TOTAL>258019.5</TOTAL><TYPE>/</TYPE></DRIVES>
  <ENVS><KEY>TOKEN</KEY><VAL>secret</VAL></ENVS>
  <FIREWALL><STATUS>off</STATUS></FIREWALL>
  <HARDWARE><MEMORY>24105</MEMORY><NAME>vm</NAME><OSNAME>Debian</OSNAME><OSVERSION>6.18</OSVERSION><VMSYSTEM>Physical</VMSYSTEM><CHASSIS_TYPE>Laptop</CHASSIS_TYPE></HARDWARE>
  <LOCAL_GROUPS><MEMBER>ann</MEMBER><MEMBER>bob</MEMBER><NAME>sudo</NAME></LOCAL_GROUPS>
  <LOCAL_GROUPS><MEMBER>eve</MEMBER><NAME>audio</NAME></LOCAL_GROUPS>
  <NETWORKS><IPADDRESS>127.0.0.1</IPADDRESS></NETWORKS>
  <NETWORKS><IPADDRESS>192.0.2.2</IPADDRESS><STATUS/></NETWORKS>
  <OPERATINGSYSTEM><ARCH>x86_64</ARCH><BOOT_TIME>2026-11-22 13:29:38</BOOT_TIME><KERNEL_NAME>linux</KERNEL_NAME><KERNEL_VERSION>6.18.44</KERNEL_VERSION><NAME>Debian GNU/Linux</NAME><TIMEZONE><OFFSET>+0100</OFFSET></TIMEZONE><VERSION>12.11</VERSION></OPERATINGSYSTEM>
  <PROCESSES><CMD>mysql -psecret</CMD></PROCESSES>
  <SOFTWARES><NAME>adduser</NAME><PUBLISHER>Debian</PUBLISHER><VERSION>3.134</VERSION></SOFTWARES>
  <SOFTWARES><VERSION>1</VERSION></SOFTWARES>
  <VERSIONCLIENT>FusionInventory-Agent_v2.6-3</VERSIONCLIENT>
</CONTENT><DEVICEID>vm-2026-11-22-17-26-55</DEVICEID><QUERY>INVENTORY</QUERY></REQUEST>"#;

fn inventory(text: &str, user_agent: Option<&str>) -> (Inventory, Value, &'static str) {
    let AgentRequest::Inventory { record, source } =
        AgentRequest::parse(text.as_bytes(), user_agent).unwrap()
    else {
        panic!("an inventory")
    };
    let (inventory, rest) = read(&record);
    (inventory, rest, source)
}

#[test]
fn agents_xml_becomes_a_record() {
    let (record, rest, source) = inventory(FUSION, None);
    let text = |text: &str| Some(text.to_owned());
    let expected = Inventory {
        install_id: text("vm-2026-11-22-17-26-55"),
        collected_at: text("2026-11-22T17:26:56+01:00"),
        agent_name: text("FusionInventory-Agent"),
        agent_version: text("2.6-3"),
        host_id: "vm-2026-11-22-17-26-55".into(),
        hostname: text("vm"),
        organization_id: text("berlin"),
        serial_number: text("PF1"),
        hardware_vendor: text("LENOVO"),
        hardware_model: text("20XW"),
        host_type: text("laptop"),
        host_ip: Some(vec!["192.0.2.2".into()]),
        os_type: text("linux"),
        os_name: text("Debian GNU/Linux"),
        os_version: text("12.11"),
        os_kernel: text("6.18.44"),
        architecture: text("x86_64"),
        booted_at: text("2026-11-22T13:29:38+01:00"),
        cpu_count: Some(4),
        memory_total_bytes: Some(24105 << 20),
        disk_total_bytes: Some(258_019 << 20),
        disk_free_bytes: Some(52_524 << 20),
        firewall_enabled: Some(false),
        local_admins: Some(vec!["ann".into(), "bob".into()]),
        software: Some(vec![crate::Software {
            name: "adduser".into(),
            version: text("3.134"),
            vendor: text("Debian"),
        }]),
        ..Inventory::default()
    };
    assert_eq!((record, source), (expected, "fusioninventory"));
    assert_eq!(rest["fusioninventory"]["CPUS"]["NAME"], "AMD & co");
    assert_eq!(rest["fusioninventory"]["NETWORKS"].as_array().unwrap().len(), 2);
    assert!(!rest.to_string().contains("secret"), "{rest}");
}

#[test]
fn ocs_agent_is_known_by_its_header() {
    let xml = "<REQUEST><CONTENT><HARDWARE><OSNAME>Debian GNU/Linux 12</OSNAME><OSVERSION>12</OSVERSION></HARDWARE>\
               </CONTENT><DEVICEID>d</DEVICEID><QUERY>INVENTORY</QUERY></REQUEST>";
    let (record, _, source) = inventory(xml, Some("OCS-NG_unified_unix_agent_v2.10.0"));
    assert_eq!(source, "ocs");
    assert_eq!(record.agent_name.as_deref(), Some("OCS-NG_unified_unix_agent"));
    assert_eq!(record.agent_version.as_deref(), Some("2.10.0"));
    assert_eq!((record.os_type.as_deref(), record.os_version.as_deref()), (Some("linux"), Some("12")));
}

#[test]
fn requests_that_are_none_say_what_is_wrong() {
    let refused = |text: &str| AgentRequest::parse(text.as_bytes(), None).unwrap_err().to_string();
    let prolog = "<REQUEST><DEVICEID>d</DEVICEID><QUERY>PROLOG</QUERY></REQUEST>";
    assert_eq!(AgentRequest::parse(prolog.as_bytes(), None), Ok(AgentRequest::Prolog));
    assert!(refused("").contains("ends too early"));
    assert!(refused("{}").contains("not XML"));
    assert!(refused("<REQUEST><QUERY>PROLOG").contains("not XML"));
    assert!(refused("<REPLY/>").contains("<REPLY>"));
    assert!(refused("<REQUEST><QUERY>SNMP</QUERY></REQUEST>").contains("'SNMP'"));
    assert!(refused("<REQUEST><QUERY>INVENTORY</QUERY></REQUEST>").contains("DEVICEID"));
    assert!(refused(&"<a>".repeat(100)).contains("inside each other"));
    let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaa\">]><REQUEST><QUERY>&a;</QUERY></REQUEST>";
    assert!(refused(bomb).contains("entity"), "{}", refused(bomb));
}
