//! The policies that come with Firn, from `policies/*.toml` beside this crate.

use crate::{Policy, parse};

/// Name and text of each file, by id.
const FILES: [(&str, &str); 13] = [
    ("antivirus.toml", include_str!("../policies/antivirus.toml")),
    ("cpu-load.toml", include_str!("../policies/cpu-load.toml")),
    ("disk-encryption.toml", include_str!("../policies/disk-encryption.toml")),
    ("disk-space.toml", include_str!("../policies/disk-space.toml")),
    ("firewall.toml", include_str!("../policies/firewall.toml")),
    ("forbidden-software.toml", include_str!("../policies/forbidden-software.toml")),
    ("inventory-missing.toml", include_str!("../policies/inventory-missing.toml")),
    ("local-admins.toml", include_str!("../policies/local-admins.toml")),
    ("min-os-version.toml", include_str!("../policies/min-os-version.toml")),
    ("patch-age.toml", include_str!("../policies/patch-age.toml")),
    ("screen-lock.toml", include_str!("../policies/screen-lock.toml")),
    ("secure-boot-tpm.toml", include_str!("../policies/secure-boot-tpm.toml")),
    ("uptime-reboot.toml", include_str!("../policies/uptime-reboot.toml")),
];

/// All shipped policies, by id.
#[must_use]
pub fn shipped() -> Vec<Policy> {
    // A file that doesn't parse can't ship: the tests below count them.
    FILES.iter().filter_map(|(file, text)| parse(text, file).ok()).collect()
}

#[cfg(test)]
mod tests;
