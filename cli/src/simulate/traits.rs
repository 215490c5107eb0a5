//! What computers of the fleet can be: shares of operating systems, models, people, packages.

/// An operating system in one version.
pub(super) struct Platform {
    /// Of a thousand computers.
    pub(super) share: u32,
    pub(super) os_type: &'static str,
    pub(super) os_name: &'static str,
    pub(super) os_version: &'static str,
    pub(super) kernel: &'static str,
    /// Whether it still gets updates, by the shipped rule `min-os-version`.
    pub(super) supported: bool,
    pub(super) server: bool,
}

const fn platform(
    share: u32,
    os: (&'static str, &'static str, &'static str),
    kernel: &'static str,
    supported: bool,
    server: bool,
) -> Platform {
    let (os_type, os_name, os_version) = os;
    Platform { share, os_type, os_name, os_version, kernel, supported, server }
}

/// All platforms; shares add up to 1000.
pub(super) const PLATFORMS: &[Platform] = &[
    platform(330, ("windows", "Windows 11 Enterprise", "10.0.26100"), "26100.2314", true, false),
    platform(200, ("windows", "Windows 11 Enterprise", "10.0.22631"), "22631.4460", true, false),
    platform(70, ("windows", "Windows 10 Enterprise", "10.0.19045"), "19045.5131", true, false),
    platform(25, ("windows", "Windows 10 Enterprise", "10.0.17763"), "17763.6532", false, false),
    platform(110, ("macos", "macOS", "15.1"), "24.1.0", true, false),
    platform(50, ("macos", "macOS", "14.7"), "23.6.0", true, false),
    platform(15, ("macos", "macOS", "12.7"), "21.6.0", false, false),
    platform(70, ("linux", "Ubuntu", "24.04"), "6.8.0-48-generic", true, false),
    platform(60, ("linux", "Ubuntu", "22.04"), "5.15.0-125-generic", true, true),
    platform(15, ("linux", "Ubuntu", "18.04"), "4.15.0-213-generic", false, true),
    platform(30, ("linux", "Debian GNU/Linux", "12"), "6.1.0-27-amd64", true, true),
    platform(25, ("linux", "Rocky Linux", "9.4"), "5.14.0-427.el9", true, true),
];

/// Vendor, models for people's desks.
pub(super) const CLIENT_HARDWARE: &[(&str, &str)] = &[
    ("Lenovo", "ThinkPad T14 Gen 5"),
    ("Lenovo", "ThinkCentre M70q"),
    ("Dell Inc.", "Latitude 7450"),
    ("Dell Inc.", "OptiPlex 7020"),
    ("HP", "EliteBook 840 G11"),
];

/// Apple's.
pub(super) const MAC_HARDWARE: &[(&str, &str)] =
    &[("Apple Inc.", "MacBookPro18,3"), ("Apple Inc.", "Mac14,2"), ("Apple Inc.", "Mac15,6")];

/// Vendor and model of servers.
pub(super) const SERVER_HARDWARE: &[(&str, &str)] =
    &[("Dell Inc.", "PowerEdge R760"), ("HPE", "ProLiant DL380 Gen11"), ("QEMU", "Standard PC (Q35)")];

/// Organisations, the large ones more often.
pub(super) const ORGANIZATIONS: &[&str] = &[
    "sales",
    "sales",
    "sales",
    "engineering",
    "engineering",
    "finance",
    "support",
    "support",
    "legal",
    "research",
];

/// Mailboxes of owners.
pub(super) const PEOPLE: &[&str] = &[
    "a.novak",
    "b.silva",
    "c.okafor",
    "d.lindqvist",
    "e.rossi",
    "f.haddad",
    "g.kim",
    "h.meyer",
    "i.petrov",
    "j.tan",
    "k.dubois",
    "l.garcia",
    "m.kowalski",
    "n.sato",
    "o.byrne",
    "p.mensah",
];

/// Packages that any client has.
pub(super) const PACKAGES: &[(&str, &str, &str)] = &[
    ("firefox", "132.0.2", "Mozilla"),
    ("google-chrome", "131.0.6778.86", "Google LLC"),
    ("7zip", "24.08", "Igor Pavlov"),
    ("git", "2.47.0", "The Git Development Community"),
    ("libreoffice", "24.8.3", "The Document Foundation"),
    ("openssh", "9.9p1", "OpenBSD"),
    ("python3", "3.12.7", "Python Software Foundation"),
    ("vlc", "3.0.21", "VideoLAN"),
    ("zoom", "6.2.7", "Zoom Video Communications"),
    ("slack", "4.41.97", "Slack Technologies"),
    ("visual-studio-code", "1.95.3", "Microsoft Corporation"),
    ("wireguard", "1.0.20210914", "Jason A. Donenfeld"),
];

/// Packages that the shipped rule `forbidden-software` names.
pub(super) const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("utorrent", "3.6.0", "Rainberry Inc."),
    ("anydesk", "8.1.0", "AnyDesk Software GmbH"),
    ("telnetd", "0.17", "Netkit"),
];
