//! Installed packages, as the package manager knows them.

use firn_inventory::Software;

use super::probe::Machine;

/// Debian's, Red Hat's or Alpine's packages, sorted by name; `None` if there is none of these package managers.
pub(super) async fn installed(machine: &Machine) -> Option<Vec<Software>> {
    let mut packages = match machine.text("/var/lib/dpkg/status") {
        Some(status) => dpkg(&status),
        None => match machine.text("/lib/apk/db/installed") {
            Some(database) => apk(&database),
            None => {
                let format = "%{NAME}\\t%{VERSION}-%{RELEASE}\\t%{VENDOR}\\n";
                rpm(&machine.output("rpm", &["-qa", "--queryformat", format]).await?)
            }
        },
    };
    packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    packages.dedup();
    Some(packages)
}

fn dpkg(status: &str) -> Vec<Software> {
    let package = |paragraph: &str| {
        let field =
            |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let installed = field("Status")?.split(' ').nth(2)? == "installed";
        let vendor = field("Origin").map(str::to_owned);
        installed.then_some(Software {
            name: field("Package")?.to_owned(),
            version: field("Version").map(str::to_owned),
            vendor,
        })
    };
    status.split("\n\n").filter_map(package).collect()
}

fn apk(database: &str) -> Vec<Software> {
    let package = |paragraph: &str| {
        let field = |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name));
        let version = field("V:").map(str::to_owned);
        Some(Software { name: field("P:")?.to_owned(), version, vendor: None })
    };
    database.split("\n\n").filter_map(package).collect()
}

fn rpm(list: &str) -> Vec<Software> {
    let package = |line: &str| {
        let mut fields = line.split('\t').map(str::to_owned);
        let name = fields.next().filter(|name| !name.is_empty())?;
        let version = fields.next();
        Some(Software { name, version, vendor: fields.next().filter(|vendor| vendor != "(none)") })
    };
    list.lines().filter_map(package).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn software(name: &str, version: &str, vendor: Option<&str>) -> Software {
        Software { name: name.into(), version: Some(version.into()), vendor: vendor.map(str::to_owned) }
    }

    #[test]
    fn removed_packages_of_debian_are_not_installed() {
        let status = "Package: vim\nStatus: install ok installed\nVersion: 2:9.1\nDescription: editor\n Package: no\n\n\
                      Package: nano\nStatus: deinstall ok config-files\nVersion: 7\n";
        assert_eq!(dpkg(status), [software("vim", "2:9.1", None)]);
    }

    #[test]
    fn other_package_managers_are_understood() {
        assert_eq!(
            rpm("bash\t5.2-1\tRed Hat\nx\t1-1\t(none)\n"),
            [software("bash", "5.2-1", Some("Red Hat")), software("x", "1-1", None)]
        );
        assert_eq!(
            apk("C:x\nP:musl\nV:1.2.5\n\nP:zlib\nV:1.3\n"),
            [software("musl", "1.2.5", None), software("zlib", "1.3", None)]
        );
    }
}
