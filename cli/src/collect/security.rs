//! How well it is guarded.

use std::{collections::BTreeSet, time::SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use firn_inventory::Inventory;
use serde_json::Value;

use super::{block_device, probe::Machine};

/// The EFI variable that says whether secure boot is on: four bytes of attributes, then the value.
const SECURE_BOOT: &str = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Groups whose members may become root.
const ADMIN_GROUPS: [&str; 3] = ["sudo", "wheel", "admin"];

pub(super) async fn collect(machine: &Machine, inventory: &mut Inventory) {
    inventory.disk_encrypted = block_device::system_volume_encrypted(machine);
    inventory.firewall_enabled = firewall(machine).await;
    inventory.secure_boot = machine.bytes(SECURE_BOOT).and_then(|bytes| bytes.get(4).map(|byte| *byte == 1));
    inventory.tpm_present = machine.names("/sys/class/tpm").map(|names| !names.is_empty());
    inventory.local_admins = local_admins(machine);
    antivirus(machine, inventory);
}

/// True if one of the usual firewalls is active; false only if one that would know says that nothing is filtered.
async fn firewall(machine: &Machine) -> Option<bool> {
    let ufw = machine.text("/etc/ufw/ufw.conf").map(|text| ufw_enabled(&text));
    if ufw == Some(true) {
        return ufw;
    }
    if machine.output("firewall-cmd", &["--state"]).await.is_some_and(|state| state.trim() == "running") {
        return Some(true);
    }
    match machine.output("nft", &["-j", "list", "ruleset"]).await.and_then(|json| filters(&json)) {
        Some(filters) => Some(filters),
        None => ufw,
    }
}

fn ufw_enabled(text: &str) -> bool {
    text.lines().any(|line| line.trim().trim_end_matches(['"', '\'']).eq_ignore_ascii_case("enabled=yes"))
}

/// Whether a ruleset of nftables stops anything that comes in: a base chain at `input` that drops by default, or a rule
/// there.
fn filters(json: &str) -> Option<bool> {
    let ruleset: Value = serde_json::from_str(json).ok()?;
    let items = ruleset["nftables"].as_array()?;
    let inputs: Vec<&Value> =
        items.iter().map(|item| &item["chain"]).filter(|chain| chain["hook"] == "input").collect();
    let has_rule = |chain: &&Value| {
        let same = |rule: &Value| {
            rule["chain"] == chain["name"]
                && rule["table"] == chain["table"]
                && rule["family"] == chain["family"]
        };
        items.iter().any(|item| same(&item["rule"]))
    };
    Some(inputs.iter().any(|chain| chain["policy"] == "drop" || has_rule(chain)))
}

/// Accounts with user id 0, and members of the groups that may become root.
fn local_admins(machine: &Machine) -> Option<Vec<String>> {
    let passwd = machine.text("/etc/passwd")?;
    let group = machine.text("/etc/group")?;
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let mut admins = BTreeSet::new();
    for account in passwd.lines().map(fields) {
        if account.get(2).is_some_and(|id| id == "0") {
            admins.insert(account[0].clone());
        }
    }
    for group in group.lines().map(fields).filter(|group| ADMIN_GROUPS.contains(&group[0].as_str())) {
        let members = group.get(3).map(String::as_str).unwrap_or_default();
        admins.extend(members.split(',').filter(|member| !member.is_empty()).map(str::to_owned));
    }
    Some(admins.into_iter().collect())
}

/// `ClamAV` is the one that can be told from files alone; of others nothing is known, not even their absence.
fn antivirus(machine: &Machine, inventory: &mut Inventory) {
    if !["/usr/sbin/clamd", "/usr/bin/clamscan"].iter().any(|program| machine.exists(program)) {
        return;
    }
    inventory.antivirus_name = Some("ClamAV".to_owned());
    inventory.antivirus_enabled = machine.names("/proc").map(|processes| {
        let running =
            |id: &String| machine.word(&format!("/proc/{id}/comm")).is_some_and(|name| name == "clamd");
        processes.iter().any(running)
    });
    let signatures = ["/var/lib/clamav/daily.cld", "/var/lib/clamav/daily.cvd"];
    let changed =
        signatures.iter().filter_map(|file| machine.path(file).metadata().ok()?.modified().ok()).max();
    inventory.antivirus_updated_at = changed.map(rfc3339);
}

fn rfc3339(instant: SystemTime) -> String {
    DateTime::<Utc>::from(instant).to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ruleset_filters_by_policy_or_by_rule() {
        let chain = |policy: &str| {
            format!(
                r#"{{"chain":{{"family":"inet","table":"f","name":"in","hook":"input","policy":"{policy}"}}}}"#
            )
        };
        let rule = r#"{"rule":{"family":"inet","table":"f","chain":"in","expr":[]}}"#;
        let ruleset = |items: &str| format!(r#"{{"nftables":[{items}]}}"#);
        assert_eq!(filters(&ruleset("")), Some(false));
        assert_eq!(filters(&ruleset(&chain("accept"))), Some(false));
        assert_eq!(filters(&ruleset(&chain("drop"))), Some(true));
        assert_eq!(filters(&ruleset(&format!("{},{rule}", chain("accept")))), Some(true));
        assert_eq!(filters("no json"), None);
    }

    #[test]
    fn ufw_says_whether_it_is_on() {
        assert!(ufw_enabled("# ENABLED=no\nENABLED=yes\n"));
        assert!(!ufw_enabled("#ENABLED=yes\nENABLED=no\n"));
    }

    #[test]
    fn admins_are_named_once_and_sorted() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("etc")).unwrap();
        std::fs::write(folder.path().join("etc/passwd"), "root:x:0:0::/:/bin/sh\nada:x:1000:1000:::\n")
            .unwrap();
        std::fs::write(folder.path().join("etc/group"), "sudo:x:27:ada,bob\nwheel:x:10:ada\nusers:x:1:eve\n")
            .unwrap();
        let admins = local_admins(&Machine::at(folder.path())).unwrap();
        assert_eq!(admins, ["ada", "bob", "root"]);
    }
}
