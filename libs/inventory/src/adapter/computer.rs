//! The sections in which agents of OCS Inventory's family describe a computer, whether they write XML or JSON.

use serde_json::Value;

use super::{
    AdaptError, AgentRequest, native,
    words::{addresses, host_type, os_type},
    xml::Element,
};
use crate::{Inventory, Software};

/// Most elements of a document: an inventory with 10,000 packages has about 100,000.
pub(super) const MAX_ELEMENTS: usize = 1_000_000;

/// They count in megabytes of 2^20 bytes.
const MEGABYTE: i64 = 1 << 20;

/// Groups whose members may do everything.
const ADMIN_GROUPS: [&str; 5] = ["sudo", "wheel", "admin", "administrators", "administrateurs"];

/// Who sent an inventory.
pub(super) struct Sender {
    /// The agent made it itself once, and keeps it: so it is the host.
    pub(super) device_id: String,
    /// What the agent was told of where it belongs (`--tag`).
    pub(super) tag: Option<String>,
    /// Name and version, as in `GLPI-Agent_v1.11`.
    pub(super) agent: String,
    /// `fusioninventory`, `glpi` or `ocs`.
    pub(super) source: &'static str,
}

/// The record of a computer; `rest` goes into `extra`.
pub(super) fn request(content: &Element, sender: Sender, rest: Value) -> Result<AgentRequest, AdaptError> {
    let Sender { device_id: host_id, tag, agent, source } = sender;
    let (agent_name, agent_version) = match agent.rsplit_once("_v") {
        Some((name, version)) => (Some(name.to_owned()), Some(version.to_owned())),
        None => ((!agent.is_empty()).then_some(agent), None),
    };
    let system = OperatingSystem::of(content);
    let volume = system_volume(content);
    let megabytes =
        |element: Option<&Element>, name| Some(element?.number(&[name])?.saturating_mul(MEGABYTE));
    let inventory = Inventory {
        install_id: Some(host_id.clone()),
        collected_at: content.text(&["ACCESSLOG", "LOGDATE"]).and_then(|local| instant(content, &local)),
        agent_name,
        agent_version,
        host_id,
        hostname: content.text(&["HARDWARE", "NAME"]),
        organization_id: tag,
        serial_number: content.text(&["BIOS", "SSN"]),
        hardware_vendor: content.text(&["BIOS", "SMANUFACTURER"]),
        hardware_model: content.text(&["BIOS", "SMODEL"]),
        host_type: kind_of_host(content),
        host_ip: host_ip(content),
        os_type: system.os_type,
        os_name: system.name,
        os_version: system.version,
        os_kernel: system.kernel,
        architecture: system.architecture,
        booted_at: content.text(&["OPERATINGSYSTEM", "BOOT_TIME"]).and_then(|local| instant(content, &local)),
        cpu_count: processors(content, source == "glpi"),
        memory_total_bytes: megabytes(content.child("HARDWARE"), "MEMORY"),
        disk_total_bytes: megabytes(volume, "TOTAL"),
        disk_free_bytes: megabytes(volume, "FREE"),
        disk_encrypted: volume
            .and_then(|volume| volume.text(&["ENCRYPT_STATUS"]))
            .map(|status| status.eq_ignore_ascii_case("yes")),
        firewall_enabled: any(content, "FIREWALL", |firewall| {
            firewall.text(&["STATUS"]).is_some_and(|status| status.eq_ignore_ascii_case("on"))
        }),
        antivirus_name: content.text(&["ANTIVIRUS", "NAME"]),
        antivirus_enabled: any(content, "ANTIVIRUS", |antivirus| antivirus.number(&["ENABLED"]) == Some(1)),
        local_admins: admins(content),
        software: Some(content.all("SOFTWARES").filter_map(package).collect()),
        ..Inventory::default()
    };
    Ok(AgentRequest::Inventory { record: native(&inventory, source, rest)?, source })
}

struct OperatingSystem {
    os_type: Option<String>,
    name: Option<String>,
    version: Option<String>,
    kernel: Option<String>,
    architecture: Option<String>,
}

impl OperatingSystem {
    /// FusionInventory and GLPI have a section for it; in OCS's own `HARDWARE` the version means the system's.
    fn of(content: &Element) -> Self {
        let own = |name| content.text(&["OPERATINGSYSTEM", name]);
        let hardware = |name| content.text(&["HARDWARE", name]);
        let has_section = content.child("OPERATINGSYSTEM").is_some();
        let name = own("NAME").or_else(|| hardware("OSNAME"));
        Self {
            os_type: own("KERNEL_NAME").or_else(|| name.clone()).and_then(|name| os_type(&name)),
            name,
            version: own("VERSION").or_else(|| if has_section { None } else { hardware("OSVERSION") }),
            kernel: own("KERNEL_VERSION"),
            architecture: own("ARCH").or_else(|| content.text(&["CPUS", "CPUARCH"])),
        }
    }
}

/// A local time with the zone that the inventory names; without one nothing is known.
fn instant(content: &Element, local: &str) -> Option<String> {
    let offset = content.text(&["OPERATINGSYSTEM", "TIMEZONE", "OFFSET"])?;
    let time = chrono::DateTime::parse_from_str(&format!("{local} {offset}"), "%Y-%m-%d %H:%M:%S %z").ok()?;
    Some(time.to_rfc3339())
}

fn kind_of_host(content: &Element) -> Option<String> {
    let machine = content.text(&["HARDWARE", "VMSYSTEM"]).filter(|system| system != "Physical");
    if machine.is_some() {
        return Some("virtual".to_owned());
    }
    let chassis = [["HARDWARE", "CHASSIS_TYPE"], ["BIOS", "TYPE"]];
    chassis.into_iter().find_map(|path| host_type(&content.text(&path)?))
}

fn host_ip(content: &Element) -> Option<Vec<String>> {
    let networks = content.all("NETWORKS");
    let found = networks.flat_map(|network| [network.text(&["IPADDRESS"]), network.text(&["IPADDRESS6"])]);
    addresses(found.flatten().chain(content.text(&["HARDWARE", "IPADDR"])))
}

/// Each entry is a socket. GLPI's agent counts the threads of a core, the others those of the socket.
fn processors(content: &Element, threads_of_a_core: bool) -> Option<i32> {
    let of = |cpu: &Element| {
        let number = |names: &[&str]| names.iter().find_map(|name| cpu.number(&[name]));
        match (number(&["LOGICAL_CPUS"]), number(&["THREAD"]), number(&["CORE", "CORES"])) {
            (Some(logical), ..) => Some(logical),
            (None, Some(threads), Some(cores)) if threads_of_a_core => Some(threads.saturating_mul(cores)),
            (None, threads, cores) => threads.or(cores),
        }
    };
    let count = content.all("CPUS").filter_map(of).fold(0_i64, i64::saturating_add);
    i32::try_from(count).ok().filter(|count| *count > 0)
}

/// The root file system, or Windows' system drive.
fn system_volume(content: &Element) -> Option<&Element> {
    content.all("DRIVES").find(|drive| {
        drive.text(&["TYPE"]).as_deref() == Some("/")
            || drive.number(&["SYSTEMDRIVE"]) == Some(1)
            || drive.text(&["LETTER"]).is_some_and(|letter| letter.starts_with("C:"))
    })
}

/// Whether one of the sections is so; `None` if there is none.
fn any(content: &Element, name: &str, is: impl Fn(&Element) -> bool) -> Option<bool> {
    let mut sections = content.all(name).peekable();
    sections.peek()?;
    Some(sections.any(is))
}

fn admins(content: &Element) -> Option<Vec<String>> {
    content.child("LOCAL_GROUPS")?;
    let is_admin = |group: &&Element| {
        group.text(&["NAME"]).is_some_and(|name| ADMIN_GROUPS.contains(&name.to_lowercase().as_str()))
    };
    let groups = content.all("LOCAL_GROUPS").filter(is_admin);
    let mut members: Vec<String> =
        groups.flat_map(|group| group.all("MEMBER")).map(|member| member.text.trim().to_owned()).collect();
    members.retain(|member| !member.is_empty());
    members.sort_unstable();
    members.dedup();
    Some(members)
}

fn package(package: &Element) -> Option<Software> {
    Some(Software {
        name: package.text(&["NAME"])?,
        version: package.text(&["VERSION"]),
        vendor: package.text(&["PUBLISHER"]),
    })
}
