//! How policies and their cases are written: TOML, or YAML where a file's name says so.

use std::path::Path;

use serde::de::DeserializeOwned;

use crate::PolicyError;

/// Ends of the names of policy files.
const EXTENSIONS: [&str; 3] = ["toml", "yaml", "yml"];
/// Stands before the end of the names of files with cases: those of `disk.toml` stand in `disk.test.toml`.
const TEST: &str = "test";

/// Whether a file's name is a policy's: one of TOML or YAML, that holds no cases.
#[must_use]
pub fn is_policy_file(file: &Path) -> bool {
    let holds_cases = file.file_stem().is_some_and(|stem| Path::new(stem).extension() == Some(TEST.as_ref()));
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    EXTENSIONS.contains(&extension) && !holds_cases
}

/// Where the cases of a policy file stand.
#[must_use]
pub fn cases_beside(file: &Path) -> std::path::PathBuf {
    let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or(EXTENSIONS[0]);
    file.with_extension(format!("{TEST}.{extension}"))
}

/// Reads a file's text.
pub(crate) fn read<T: DeserializeOwned>(text: &str, file: &str) -> Result<T, PolicyError> {
    let fail = |message: String| PolicyError::new(file, message.trim_end());
    match Path::new(file).extension().and_then(|extension| extension.to_str()) {
        Some("yaml" | "yml") => serde_saphyr::from_str(text).map_err(|error| {
            let message = error.to_string();
            // It speaks as a compiler does; that it is an error is said by whoever shows it.
            fail(message.strip_prefix("error: ").unwrap_or(&message).to_owned())
        }),
        _ => toml::from_str(text).map_err(|error| fail(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::{CaseVerdict, parse, parse_cases};

    const YAML: &str = "id: x-1\ntitle: X\nseverity: high\nplatforms: [linux]\nrule: |\n  disk_encrypted\nlabels:\n  team: it\n";

    #[test]
    fn yaml_says_the_same_as_toml() {
        let toml = "id='x-1'\ntitle='X'\nseverity='high'\nplatforms=['linux']\nrule=\"disk_encrypted\\n\"\nlabels={team='it'}";
        let wanted = parse(toml, "x.toml").unwrap();
        assert_eq!(parse(YAML, "x.yaml").unwrap(), wanted);
        assert_eq!(parse(YAML, "x.yml").unwrap(), wanted);
        let cases = "case:\n- name: n\n  records:\n  - {at_s: 3, disk_encrypted: true}\n  verdict: pass\n";
        let cases = parse_cases(cases, "x.test.yaml").unwrap();
        assert_eq!((cases[0].verdict, &cases[0].records[0]["at_s"]), (Some(CaseVerdict::Pass), &3.into()));
    }

    #[test]
    fn yaml_that_is_wrong_says_where() {
        let refusal = |text: &str| parse(text, "x.yaml").unwrap_err().to_string();
        let message = refusal(&format!("{YAML}grase_s: 3\n"));
        assert!(message.contains("grase_s") && message.contains('9'), "{message}");
        assert!(message.starts_with("policy 'x.yaml': ") && !message.contains("error:"), "{message}");
        assert!(refusal("id: [").contains("x.yaml"));
        // What refers to itself again and again isn't written out.
        let bomb = (1..30).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
            format!("{text}a{n}: &a{n} [*a{0}, *a{0}, *a{0}, *a{0}]\n", n - 1)
        });
        refusal(&bomb);
    }

    #[test]
    fn files_with_cases_stand_beside_policies() {
        for (name, cases) in [("a/disk.toml", "a/disk.test.toml"), ("disk.yml", "disk.test.yml")] {
            assert!(is_policy_file(Path::new(name)) && !is_policy_file(Path::new(cases)));
            assert_eq!(cases_beside(Path::new(name)), Path::new(cases));
        }
        assert!(!is_policy_file(Path::new("README.md")));
    }
}
