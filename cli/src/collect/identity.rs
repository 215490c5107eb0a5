//! Which computer this is.

use std::net::IpAddr;

use firn_inventory::Inventory;

use super::probe::Machine;

/// What vendors write where they wrote nothing.
const PLACEHOLDERS: [&str; 9] = [
    "to be filled by o.e.m.",
    "default string",
    "none",
    "not specified",
    "not applicable",
    "system serial number",
    "system product name",
    "system manufacturer",
    "0",
];
/// Names by which virtual machines introduce themselves.
const HYPERVISORS: [&str; 9] = [
    "qemu",
    "kvm",
    "vmware",
    "virtualbox",
    "virtual machine",
    "bochs",
    "xen",
    "amazon ec2",
    "google compute",
];

pub(super) fn collect(machine: &Machine, inventory: &mut Inventory) {
    inventory.host_id = host_id(machine).unwrap_or_default();
    inventory.hostname = machine.word("/proc/sys/kernel/hostname").or_else(|| machine.word("/etc/hostname"));
    inventory.serial_number = dmi(machine, "product_serial");
    inventory.hardware_vendor = dmi(machine, "sys_vendor");
    inventory.hardware_model = dmi(machine, "product_name");
    inventory.host_type = host_type(machine);
    inventory.host_ip = addresses();
}

fn host_id(machine: &Machine) -> Option<String> {
    let files = ["/etc/machine-id", "/var/lib/dbus/machine-id"];
    let id = files.iter().find_map(|file| machine.word(file)).filter(|id| id != "uninitialized");
    id.or_else(|| dmi(machine, "product_uuid").map(|id| id.to_lowercase()))
}

fn dmi(machine: &Machine, field: &str) -> Option<String> {
    let value = machine.word(&format!("/sys/class/dmi/id/{field}"))?;
    (!PLACEHOLDERS.contains(&value.to_lowercase().as_str())).then_some(value)
}

fn host_type(machine: &Machine) -> Option<String> {
    if machine.exists("/.dockerenv") || machine.exists("/run/.containerenv") {
        return Some("container".to_owned());
    }
    let names = [dmi(machine, "sys_vendor"), dmi(machine, "product_name")];
    let names = names.into_iter().flatten().collect::<Vec<_>>().join(" ").to_lowercase();
    let hypervisor = machine.exists("/sys/hypervisor/type")
        || machine.text("/proc/cpuinfo").is_some_and(|text| has_flag(&text, "hypervisor"));
    if hypervisor || HYPERVISORS.iter().any(|name| names.contains(name)) {
        return Some("virtual".to_owned());
    }
    // SMBIOS 3.7, table 17.
    let kind = match machine.word("/sys/class/dmi/id/chassis_type")?.parse::<u8>().ok()? {
        3..=7 | 13 | 15 | 16 | 24 | 35 | 36 => "desktop",
        8..=10 | 14 | 31 | 32 => "laptop",
        17 | 23 | 25 | 28 | 29 => "server",
        11 | 30 => "tablet",
        _ => return None,
    };
    Some(kind.to_owned())
}

fn has_flag(cpuinfo: &str, flag: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|line| line.split_whitespace().any(|word| word == flag))
}

/// Addresses by which others may reach it: neither loopback nor link-local.
fn addresses() -> Option<Vec<String>> {
    let networks = sysinfo::Networks::new_with_refreshed_list();
    let all = networks.values().flat_map(|network| network.ip_networks()).map(|network| network.addr);
    let mut addresses: Vec<_> = all.filter(is_reachable).collect();
    addresses.sort();
    addresses.dedup();
    (!addresses.is_empty()).then(|| addresses.iter().map(IpAddr::to_string).collect())
}

fn is_reachable(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local() && !v6.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let machine = Machine::at(folder.path());
        (folder, machine)
    }

    #[test]
    fn placeholders_of_vendors_are_not_facts() {
        let (_folder, machine) = machine(&[
            ("etc/machine-id", "abc123\n"),
            ("sys/class/dmi/id/product_serial", "To Be Filled By O.E.M.\n"),
            ("sys/class/dmi/id/sys_vendor", "LENOVO\n"),
            ("sys/class/dmi/id/chassis_type", "10\n"),
        ]);
        let mut inventory = Inventory::default();
        collect(&machine, &mut inventory);
        assert_eq!(inventory.host_id, "abc123");
        assert_eq!(inventory.serial_number, None);
        assert_eq!(inventory.hardware_vendor.as_deref(), Some("LENOVO"));
        assert_eq!(inventory.host_type.as_deref(), Some("laptop"));
    }

    #[test]
    fn hypervisor_flag_makes_it_virtual() {
        let (_folder, machine) = machine(&[("proc/cpuinfo", "flags\t\t: fpu hypervisor sse\n")]);
        assert_eq!(host_type(&machine).as_deref(), Some("virtual"));
    }
}
