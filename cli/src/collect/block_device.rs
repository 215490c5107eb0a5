//! Whether the system volume lies on an encrypted device.

use super::probe::Machine;

/// Devices stacked deeper than this (file system, LVM, RAID, crypt …) are not followed.
const DEPTH: usize = 8;

/// `None` where the volume isn't a block device that can be looked into (overlays, network, ZFS).
pub(super) fn system_volume_encrypted(machine: &Machine) -> Option<bool> {
    let mounts = machine.text("/proc/self/mountinfo")?;
    let device = root_device(&mounts)?;
    if machine.exists(&device) { encrypted(machine, &device, DEPTH) } else { None }
}

/// The folder in sysfs of what is mounted at `/`.
fn root_device(mounts: &str) -> Option<String> {
    // The last one mounted there is the one that is seen.
    let line = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/"))?;
    let number = line.split(' ').nth(2)?;
    if !number.starts_with("0:") {
        return Some(format!("/sys/dev/block/{number}"));
    }
    // btrfs has no device number of its own, but names its device.
    let (_, after) = line.split_once(" - ")?;
    let source = after.split(' ').nth(1)?.strip_prefix("/dev/")?;
    (!source.contains('/')).then(|| format!("/sys/class/block/{source}"))
}

/// Every path down must be encrypted: half a mirror in clear is in clear.
fn encrypted(machine: &Machine, device: &str, depth: usize) -> Option<bool> {
    if machine.word(&format!("{device}/dm/uuid")).is_some_and(|uuid| uuid.starts_with("CRYPT-")) {
        return Some(true);
    }
    let below = machine.names(&format!("{device}/slaves")).unwrap_or_default();
    if below.is_empty() {
        return Some(false);
    }
    if depth == 0 {
        return None;
    }
    let each = below.iter().map(|name| encrypted(machine, &format!("{device}/slaves/{name}"), depth - 1));
    each.reduce(|all, one| Some(all? && one?))?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn machine(mount: &str, files: &[(&str, &str)]) -> Option<bool> {
        let folder = tempfile::tempdir().unwrap();
        let all = files.iter().copied().chain([("proc/self/mountinfo", mount)]);
        for (path, text) in all {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        system_volume_encrypted(&Machine::at(folder.path()))
    }

    const LVM: &str = "22 1 253:1 / / rw - ext4 /dev/mapper/vg-root rw\n";

    #[test]
    fn volume_on_a_crypt_device_is_encrypted() {
        let below = "sys/dev/block/253:1/slaves/dm-0/dm/uuid";
        assert_eq!(machine(LVM, &[(below, "CRYPT-LUKS2-abc\n")]), Some(true));
    }

    #[test]
    fn mirror_with_one_clear_half_is_not_encrypted() {
        let files = [
            ("sys/dev/block/253:1/slaves/dm-0/dm/uuid", "CRYPT-LUKS2-abc"),
            ("sys/dev/block/253:1/slaves/sda2/size", "1"),
        ];
        assert_eq!(machine(LVM, &files), Some(false));
    }

    #[test]
    fn plain_partition_is_not_and_overlay_is_unknown() {
        let plain = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n";
        assert_eq!(machine(plain, &[("sys/dev/block/8:1/size", "1")]), Some(false));
        assert_eq!(machine("22 1 0:44 / / rw - overlay overlay rw\n", &[]), None);
    }
}
