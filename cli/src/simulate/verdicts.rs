//! What the shipped rules should say of a record, written by hand and without libs/policy: the ledger's truth must not come
//! from the code that it judges.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use firn_inventory::Inventory;

use super::traits::{FORBIDDEN, PLATFORMS};

/// `true` in compliance, `false` in breach, `None` without result.
pub(super) type Verdicts = BTreeMap<&'static str, Option<bool>>;

/// The verdict of every shipped rule.
pub(super) fn verdicts(record: &Inventory, at: DateTime<Utc>) -> Verdicts {
    let linux = record.os_type.as_deref() == Some("linux");
    let mac = record.os_type.as_deref() == Some("macos");
    let server = record.host_type.as_deref() == Some("server");
    let within = |instant: &Option<String>, days: i64| {
        let instant = DateTime::parse_from_rfc3339(instant.as_deref()?).ok()?;
        Some(instant >= at - TimeDelta::days(days))
    };
    let antivirus = and(record.antivirus_enabled, within(&record.antivirus_updated_at, 14));
    let restarted = and(Some(record.reboot_pending != Some(true)), within(&record.booted_at, 60));
    let tenth_free =
        record.disk_free_bytes.zip(record.disk_total_bytes).map(|(free, total)| free >= total / 10);
    BTreeMap::from([
        ("antivirus", antivirus.filter(|_| !linux)),
        ("disk-encryption", record.disk_encrypted),
        ("disk-space", tenth_free),
        ("firewall", record.firewall_enabled),
        ("forbidden-software", allowed_software(record)),
        ("local-admins", record.local_admins.as_ref().map(|admins| admins.len() <= 3)),
        ("min-os-version", supported(record)),
        ("patch-age", within(&record.patched_at, 30)),
        ("screen-lock", record.screen_lock_enabled.filter(|_| !server)),
        ("secure-boot-tpm", and(record.secure_boot, record.tpm_present).filter(|_| !mac)),
        ("uptime-reboot", restarted),
    ])
}

/// SQL's AND.
fn and(a: Option<bool>, b: Option<bool>) -> Option<bool> {
    match (a, b) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

fn allowed_software(record: &Inventory) -> Option<bool> {
    let packages = record.software.as_ref()?;
    let forbidden = |name: &str| FORBIDDEN.iter().any(|(forbidden, ..)| *forbidden == name);
    Some(!packages.iter().any(|package| forbidden(&package.name)))
}

/// The fleet's platforms are few: each was looked up by hand.
fn supported(record: &Inventory) -> Option<bool> {
    let (name, version) = (record.os_name.as_deref()?, record.os_version.as_deref()?);
    let platform =
        PLATFORMS.iter().find(|platform| (platform.os_name, platform.os_version) == (name, version));
    platform.map(|platform| platform.supported)
}
