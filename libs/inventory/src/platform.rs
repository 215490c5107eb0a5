//! The platform in few words and the version in figures, whatever a computer calls its operating system.

use std::borrow::Cow;

use crate::adapter::words::os_type as word;

/// `linux`, `windows`, `macos` or another word, from what a record says of its operating system.
pub(crate) fn platform<'a>(os_type: Option<&'a str>, os_name: Option<&'a str>) -> Option<Cow<'a, str>> {
    match os_type {
        // Most records say it as it should be.
        Some(known @ ("linux" | "windows" | "macos")) => Some(Cow::Borrowed(known)),
        said => [said, os_name].into_iter().flatten().find_map(word).map(Cow::Owned),
    }
}

/// The first figures with dots in the version, else in the name: `22.04.3` of `22.04.3 LTS (Jammy Jellyfish)`.
pub(crate) fn platform_version<'a>(os_version: Option<&'a str>, os_name: Option<&'a str>) -> Option<&'a str> {
    [os_version, os_name].into_iter().flatten().find_map(figures)
}

fn figures(text: &str) -> Option<&str> {
    let is_mark = |c: char| !c.is_ascii_digit() && c != '.';
    // Figures within a word, as in `x86_64`, are no version; behind a `v` they are.
    text.split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',')).find_map(|part| {
        let part = part.strip_prefix(['v', 'V']).unwrap_or(part);
        let end = part.find(is_mark).unwrap_or(part.len());
        let version = part[..end].trim_end_matches('.');
        version.starts_with(|c: char| c.is_ascii_digit()).then_some(version)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_few_words_however_they_are_called() {
        let of = |os_type, os_name| platform(os_type, os_name).map(Cow::into_owned).unwrap_or_default();
        assert_eq!(of(Some("linux"), Some("Debian GNU/Linux")), "linux");
        assert_eq!(of(Some("Microsoft Windows"), None), "windows");
        assert_eq!(of(Some("Darwin"), None), "macos");
        assert_eq!(of(None, Some("Ubuntu")), "linux");
        assert_eq!(of(Some(" "), Some("macOS Sonoma")), "macos", "an empty word says nothing");
        assert_eq!(of(Some("FreeBSD 14"), None), "freebsd");
        assert_eq!(of(None, None), "");
    }

    #[test]
    fn versions_are_figures() {
        let of = |version| platform_version(Some(version), None).unwrap_or_default();
        assert_eq!(
            [
                "24.04",
                "22.04.3 LTS (Jammy Jellyfish)",
                "12 (bookworm)",
                "v3.19.1",
                "14.1-RELEASE",
                "CentOS Linux 8.3."
            ]
            .map(of),
            ["24.04", "22.04.3", "12", "3.19.1", "14.1", "8.3"]
        );
        assert_eq!(["bookworm/sid", "", "rolling", ".5"].map(of), ["", "", "", ""]);
        assert_eq!(platform_version(Some("trixie/sid"), Some("Debian GNU/Linux 13")), Some("13"));
        assert_eq!(platform_version(None, None), None);
    }
}
