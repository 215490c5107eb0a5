//! What runs on it, and how well it is kept.

use chrono::{DateTime, Local, NaiveDateTime, SecondsFormat, TimeZone, Utc};
use firn_inventory::Inventory;

use super::probe::Machine;

pub(super) fn collect(machine: &Machine, inventory: &mut Inventory) {
    inventory.os_type = Some(std::env::consts::OS.to_owned());
    let release = machine.text("/etc/os-release").or_else(|| machine.text("/usr/lib/os-release"));
    let field = |name: &str| release.as_deref().and_then(|text| release_field(text, name));
    inventory.os_name = field("NAME");
    inventory.os_version = field("VERSION_ID");
    inventory.os_kernel = machine.word("/proc/sys/kernel/osrelease");
    inventory.architecture = Some(std::env::consts::ARCH.to_owned());
    inventory.booted_at = machine.text("/proc/stat").and_then(|text| boot_time(&text));
    inventory.patched_at = machine.text("/var/log/apt/history.log").and_then(|text| last_upgrade(&text));
    inventory.reboot_pending = reboot_pending(machine);
}

fn release_field(text: &str, name: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

fn boot_time(stat: &str) -> Option<String> {
    let seconds = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    DateTime::from_timestamp(seconds, 0).map(rfc3339)
}

/// End of the newest run of apt that upgraded something; apt writes local time.
fn last_upgrade(history: &str) -> Option<String> {
    let upgrades = history.split("\n\n").filter(|run| run.lines().any(|line| line.starts_with("Upgrade:")));
    let ends = upgrades.filter_map(|run| run.lines().find_map(|line| line.strip_prefix("End-Date:")));
    let last =
        ends.filter_map(|end| NaiveDateTime::parse_from_str(end.trim(), "%Y-%m-%d %H:%M:%S").ok()).max()?;
    Local.from_local_datetime(&last).earliest().map(|end| rfc3339(end.to_utc()))
}

/// Debian's packages leave a mark when one wants a restart; without the one that writes it, nobody knows.
fn reboot_pending(machine: &Machine) -> Option<bool> {
    if machine.exists("/run/reboot-required") || machine.exists("/var/run/reboot-required") {
        return Some(true);
    }
    machine.exists("/usr/share/update-notifier/notify-reboot-required").then_some(false)
}

fn rfc3339(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn release_fields_lose_their_quotes() {
        let text = "PRETTY_NAME=\"Ubuntu 24.04.1 LTS\"\nNAME=\"Ubuntu\"\nVERSION_ID='24.04'\nBUILD_ID=\n";
        assert_eq!(release_field(text, "NAME").as_deref(), Some("Ubuntu"));
        assert_eq!(release_field(text, "VERSION_ID").as_deref(), Some("24.04"));
        assert_eq!(release_field(text, "BUILD_ID"), None);
    }

    #[test]
    fn installations_are_no_patches() {
        let history = "\nStart-Date: 2026-11-01  10:00:00\nUpgrade: libc6:amd64 (1, 2)\nEnd-Date: 2026-11-01  \
                       10:00:09\n\nStart-Date: 2026-11-05  10:00:00\nInstall: vim:amd64 (9)\nEnd-Date: \
                       2026-11-05  10:00:01\n";
        let patched: DateTime<Utc> = last_upgrade(history).unwrap().parse().unwrap();
        let want = NaiveDateTime::parse_from_str("2026-11-01 10:00:09", "%Y-%m-%d %H:%M:%S").unwrap();
        assert_eq!(patched, Local.from_local_datetime(&want).unwrap().to_utc());
        assert_eq!(last_upgrade("Start-Date: 2026-11-05  10:00:00\nInstall: vim\n"), None);
    }

    #[test]
    fn boot_time_is_read_from_the_kernel() {
        assert_eq!(boot_time("cpu 1\nbtime 1764000000\n").as_deref(), Some("2025-11-24T16:00:00Z"));
    }
}
