//! One computer of the fleet: born from the fleet's random numbers, ageing with every report.

use std::net::Ipv4Addr;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use firn_inventory::{Inventory, SCHEMA_VERSION, Software};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use uuid::Uuid;

use super::traits::{
    CLIENT_HARDWARE, FORBIDDEN, MAC_HARDWARE, ORGANIZATIONS, PACKAGES, PEOPLE, PLATFORMS, Platform,
    SERVER_HARDWARE,
};

const GIB: i64 = 1 << 30;

/// Between two reports a computer ages this much, however fast reports are sent: so that there is something to see.
const HOURS_PER_REPORT: i64 = 6;

/// Ages in hours start here and grow in steps of six, so that none is ever near a limit of whole days.
const FIRST_AGE_H: i64 = 3;

/// A computer. What can't be told on its platform is `None` for good.
pub(super) struct Device {
    host_id: String,
    install_id: String,
    hostname: String,
    organization: &'static str,
    owner: &'static str,
    serial: String,
    platform: &'static Platform,
    hardware: (&'static str, &'static str),
    ip: Ipv4Addr,
    cpu_count: i32,
    memory: i64,
    disk_total: i64,
    disk_free: i64,
    /// Lost per report.
    disk_growth: i64,
    seq: i64,
    patch_age_h: i64,
    uptime_h: i64,
    reboot_pending: Option<bool>,
    encrypted: Option<bool>,
    firewall: Option<bool>,
    /// On, and age of its signatures in hours; none on Linux.
    antivirus: Option<(bool, i64)>,
    screen_lock: Option<bool>,
    secure_boot: Option<bool>,
    tpm: Option<bool>,
    admins: Option<Vec<String>>,
    software: Vec<Software>,
    /// Turns that it will be silent.
    silent_turns: u32,
}

fn id(rng: &mut StdRng) -> String {
    Uuid::from_u128(rng.random()).hyphenated().to_string()
}

fn package(&(name, version, vendor): &(&str, &str, &str)) -> Software {
    Software { name: name.to_owned(), version: Some(version.to_owned()), vendor: Some(vendor.to_owned()) }
}

fn pick<T: Copy>(rng: &mut StdRng, of: &[T], default: T) -> T {
    of.choose(rng).copied().unwrap_or(default)
}

fn pick_platform(rng: &mut StdRng) -> &'static Platform {
    let mut ticket = rng.random_range(0..PLATFORMS.iter().map(|platform| platform.share).sum());
    for platform in PLATFORMS {
        if ticket < platform.share {
            return platform;
        }
        ticket -= platform.share;
    }
    &PLATFORMS[0]
}

impl Device {
    /// The computer with this number.
    pub(super) fn born(number: u32, rng: &mut StdRng) -> Self {
        let platform = pick_platform(rng);
        let linux = platform.os_type == "linux";
        let hardware = match (platform.os_type, platform.server) {
            ("macos", _) => pick(rng, MAC_HARDWARE, MAC_HARDWARE[0]),
            (_, true) => pick(rng, SERVER_HARDWARE, SERVER_HARDWARE[0]),
            _ => pick(rng, CLIENT_HARDWARE, CLIENT_HARDWARE[0]),
        };
        let organization = pick(rng, ORGANIZATIONS, "sales");
        let disk_total = pick(rng, &[256, 512, 512, 1024], 512) * GIB;
        let most_admins = if rng.random_bool(0.12) { 6 } else { 3 };
        let fastest_growth = disk_total / if rng.random_bool(0.1) { 40 } else { 400 };
        let admins = rng.random_range(1..=most_admins);
        let mut software: Vec<_> =
            PACKAGES.choose_multiple(rng, if platform.server { 3 } else { 6 }).map(package).collect();
        if rng.random_bool(0.03) {
            software.extend(FORBIDDEN.choose(rng).map(package));
        }
        let most_patch_age = if rng.random_bool(0.1) { 240 } else { 100 };
        Self {
            host_id: id(rng),
            install_id: id(rng),
            hostname: format!(
                "{}-{}{number:05}",
                &organization[..3],
                if platform.server { "srv" } else { "pc" }
            ),
            organization,
            owner: pick(rng, PEOPLE, "a.novak"),
            serial: format!("SN{:010X}", rng.random_range(0..1_u64 << 40)),
            platform,
            hardware,
            ip: Ipv4Addr::new(10, rng.random(), rng.random(), rng.random_range(1..255)),
            cpu_count: pick(rng, &[4, 8, 8, 12, 16], 8) * if platform.server { 4 } else { 1 },
            memory: pick(rng, &[8, 16, 16, 32], 16) * GIB * if platform.server { 4 } else { 1 },
            disk_total,
            disk_free: disk_total / 100 * rng.random_range(4..80),
            disk_growth: rng.random_range(0..fastest_growth),
            seq: 0,
            patch_age_h: FIRST_AGE_H + HOURS_PER_REPORT * rng.random_range(0..most_patch_age),
            uptime_h: FIRST_AGE_H
                + HOURS_PER_REPORT * rng.random_range(0..if platform.server { 300 } else { 60 }),
            reboot_pending: if platform.os_type == "macos" { None } else { Some(rng.random_bool(0.05)) },
            encrypted: Some(rng.random_bool(if platform.server { 0.7 } else { 0.95 })),
            firewall: if linux && rng.random_bool(0.1) { None } else { Some(rng.random_bool(0.96)) },
            antivirus: (!linux)
                .then(|| (rng.random_bool(0.97), FIRST_AGE_H + HOURS_PER_REPORT * rng.random_range(0..20))),
            screen_lock: if platform.server { None } else { Some(rng.random_bool(0.94)) },
            secure_boot: if platform.os_type == "macos" { None } else { Some(rng.random_bool(0.9)) },
            tpm: if platform.os_type == "macos" { None } else { Some(rng.random_bool(0.93)) },
            admins: rng
                .random_bool(0.9)
                .then(|| PEOPLE.choose_multiple(rng, admins).map(|&person| person.to_owned()).collect()),
            software,
            silent_turns: 0,
        }
    }

    /// Whether the agent says nothing this turn.
    pub(super) fn is_silent(&mut self, rng: &mut StdRng) -> bool {
        if self.silent_turns > 0 {
            self.silent_turns -= 1;
            return true;
        }
        if rng.random_bool(0.01) {
            // Mostly an evening or a week; now and then it is gone for good.
            self.silent_turns = if rng.random_bool(0.05) { u32::MAX } else { rng.random_range(1..8) };
        }
        false
    }

    /// Its report at an instant; afterwards it is older.
    pub(super) fn report(&mut self, at: DateTime<Utc>, rng: &mut StdRng) -> Inventory {
        let ago = |hours: i64| text(at - TimeDelta::hours(hours));
        let busiest = if rng.random_bool(0.05) { 10_000 } else { 4_500 };
        let usage = rng.random_range(100..busiest);
        self.seq += 1;
        let report = Inventory {
            schema_version: Some(SCHEMA_VERSION),
            event_id: Some(id(rng)),
            install_id: Some(self.install_id.clone()),
            seq: Some(self.seq),
            collected_at: Some(text(at)),
            sent_at: Some(text(at)),
            agent_name: Some("firn-simulator".into()),
            agent_version: Some(env!("CARGO_PKG_VERSION").into()),
            host_id: self.host_id.clone(),
            hostname: Some(self.hostname.clone()),
            organization_id: Some(self.organization.into()),
            owner_email: Some(format!("{}@{}.example", self.owner, self.organization)),
            serial_number: Some(self.serial.clone()),
            hardware_vendor: Some(self.hardware.0.into()),
            hardware_model: Some(self.hardware.1.into()),
            host_type: Some(self.host_type().into()),
            host_ip: Some(vec![self.ip.to_string()]),
            os_type: Some(self.platform.os_type.into()),
            os_name: Some(self.platform.os_name.into()),
            os_version: Some(self.platform.os_version.into()),
            os_kernel: Some(self.platform.kernel.into()),
            architecture: Some(if self.platform.os_type == "macos" { "arm64" } else { "x86_64" }.into()),
            booted_at: Some(ago(self.uptime_h)),
            patched_at: Some(ago(self.patch_age_h)),
            reboot_pending: self.reboot_pending,
            cpu_count: Some(self.cpu_count),
            cpu_usage: Some(usage),
            memory_total_bytes: Some(self.memory),
            memory_used_bytes: Some(self.memory / 100 * rng.random_range(20..95)),
            disk_total_bytes: Some(self.disk_total),
            disk_free_bytes: Some(self.disk_free),
            disk_encrypted: self.encrypted,
            firewall_enabled: self.firewall,
            antivirus_name: self.antivirus.map(|_| "Defender".into()),
            antivirus_enabled: self.antivirus.map(|(enabled, _)| enabled),
            antivirus_updated_at: self.antivirus.map(|(_, age_h)| ago(age_h)),
            screen_lock_enabled: self.screen_lock,
            secure_boot: self.secure_boot,
            tpm_present: self.tpm,
            local_admins: self.admins.clone(),
            software: Some(self.software.clone()),
        };
        self.age(rng);
        report
    }

    fn host_type(&self) -> &'static str {
        match (self.platform.server, self.hardware.1) {
            (true, "Standard PC (Q35)") => "virtual",
            (true, _) => "server",
            (false, "ThinkCentre M70q" | "OptiPlex 7020") => "desktop",
            _ => "laptop",
        }
    }

    fn age(&mut self, rng: &mut StdRng) {
        self.disk_free -= self.disk_growth;
        if self.disk_free < self.disk_total / 50 || rng.random_bool(0.01) {
            // Someone cleaned up.
            self.disk_free = self.disk_total / 100 * rng.random_range(30..70);
        }
        self.patch_age_h += HOURS_PER_REPORT;
        self.uptime_h += HOURS_PER_REPORT;
        if rng.random_bool(0.02) {
            self.patch_age_h = FIRST_AGE_H;
            self.reboot_pending = self.reboot_pending.map(|_| rng.random_bool(0.5));
        }
        if rng.random_bool(0.03) {
            self.uptime_h = FIRST_AGE_H;
            self.reboot_pending = self.reboot_pending.map(|_| false);
        }
        // What is off is turned on again sooner than what is on is turned off.
        for switch in [&mut self.encrypted, &mut self.firewall, &mut self.screen_lock] {
            *switch = switch.map(|on| if on { !rng.random_bool(0.004) } else { rng.random_bool(0.1) });
        }
        self.antivirus = self.antivirus.map(|(on, age_h)| {
            let on = if on { !rng.random_bool(0.004) } else { rng.random_bool(0.1) };
            (on, if on && rng.random_bool(0.2) { FIRST_AGE_H } else { age_h + HOURS_PER_REPORT })
        });
        if rng.random_bool(0.001) {
            self.software.extend(FORBIDDEN.choose(rng).map(package));
        }
    }

    /// Whether its operating system still gets updates.
    #[cfg(test)]
    pub(super) fn is_supported(&self) -> bool {
        self.platform.supported
    }
}

fn text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
