//! The words of the record for what agents name in many ways.

/// `linux`, `windows`, `macos` or another word, from the name of a kernel, platform or operating system.
pub(crate) fn os_type(name: &str) -> Option<String> {
    const LINUX: [&str; 17] = [
        "linux", "debian", "ubuntu", "rhel", "red hat", "centos", "fedora", "suse", "amzn", "amazon", "arch",
        "alpine", "gentoo", "rocky", "alma", "oracle", "kali",
    ];
    let name = name.trim().to_lowercase();
    let is = |word: &str| name.contains(word);
    let known = if is("darwin") || is("mac os") || is("macos") {
        "macos"
    } else if is("windows") || is("mswin32") {
        "windows"
    } else if LINUX.into_iter().any(is) {
        "linux"
    } else {
        name.split_whitespace().next()?
    };
    Some(known.to_owned())
}

/// `laptop`, `desktop`, `server` or `virtual`, from the name of a chassis (SMBIOS) or of a kind of device.
pub(super) fn host_type(name: &str) -> Option<String> {
    let name = name.to_lowercase();
    let is = |words: &[&str]| words.iter().any(|word| name.contains(word));
    let known = if is(&["laptop", "notebook", "portable", "convertible", "detachable"]) {
        "laptop"
    } else if is(&["virtual"]) {
        "virtual"
    } else if is(&["server", "rack mount", "blade"]) {
        "server"
    } else if is(&["desktop", "tower", "all in one", "mini pc", "low profile", "workstation"]) {
        "desktop"
    } else {
        return None;
    };
    Some(known.to_owned())
}

/// Name and version of `Ubuntu 22.04.3 LTS`: the version begins at the first word with a digit in front.
pub(super) fn name_and_version(text: &str) -> (Option<String>, Option<String>) {
    let words: Vec<&str> = text.split_whitespace().collect();
    let begins = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
    let split = words.iter().position(begins).unwrap_or(words.len());
    let joined = |words: &[&str]| (!words.is_empty()).then(|| words.join(" "));
    (joined(&words[..split]), joined(&words[split..]))
}

/// Addresses without repeats, loopback left out, in the order they came; `None` if there are none.
pub(super) fn addresses(found: impl IntoIterator<Item = String>) -> Option<Vec<String>> {
    let mut addresses: Vec<String> = Vec::new();
    for address in found {
        let loopback = address.starts_with("127.") || address == "::1" || address.is_empty();
        if !loopback && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    (!addresses.is_empty()).then_some(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_the_records_words() {
        let os = |name| os_type(name).unwrap_or_default();
        assert_eq!(
            ["Darwin", "MSWin32", "Debian GNU/Linux 12", "ubuntu", "FreeBSD 14"].map(os),
            ["macos", "windows", "linux", "linux", "freebsd"]
        );
        assert_eq!(host_type("Rack Mount Chassis").as_deref(), Some("server"));
        assert_eq!(host_type("Other"), None);
        let (name, version) = name_and_version("Microsoft Windows 11 Pro");
        assert_eq!((name.as_deref(), version.as_deref()), (Some("Microsoft Windows"), Some("11 Pro")));
        assert_eq!(name_and_version(""), (None, None));
    }
}
