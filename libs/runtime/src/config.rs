//! Settings from a TOML file and from variables `FIRN_SECTION__KEY`.
//!
//! The environment is read by the caller and handed in, so that one place decides what counts as configuration. Only
//! names that start with `FIRN_` and hold a double underscore do; `FIRN_URL` and the like are flags' defaults.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

mod nearest;
mod secret;

pub use nearest::nearest;
pub use secret::{SecretRef, SecretRefError};

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file, with the line if it is known.
    File(PathBuf, Option<usize>),
    /// A variable.
    Variable(String),
    /// Neither: something required is absent.
    Absent,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Self::File(path, None) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Absent => f.write_str("configuration"),
        }
    }
}

/// Why the configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration file {path}: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        reason: String,
    },
    /// The file is no TOML.
    #[error("{origin}: not valid TOML: {reason}")]
    Syntax {
        /// Where.
        origin: Origin,
        /// What the parser says.
        reason: String,
    },
    /// A key that nobody knows, or a value that doesn't fit.
    #[error("{origin}: {key}: {reason}")]
    Setting {
        /// Where it was set.
        origin: Origin,
        /// Dotted key.
        key: String,
        /// What is wrong, with the nearest known key.
        reason: String,
    },
}

/// Loads settings. A variable wins over the file; an absent `file` is no error, one that can't be read is.
///
/// `T` should say `#[serde(deny_unknown_fields)]` on each section: then an unknown key is an error that names where it
/// was set, the key, and the nearest known one.
pub fn load<T: DeserializeOwned>(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let source = match file {
        Some(path) => Some((path, read(path)?)),
        None => None,
    };
    let mut settings = match &source {
        Some((path, text)) => parse(path, text)?,
        None => Table::new(),
    };
    let variables = variables_by_key(variables);
    for (key, (name, text)) in &variables {
        insert(&mut settings, key, Value::String(text.clone())).map_err(|reason| ConfigError::Setting {
            origin: Origin::Variable(name.clone()),
            key: key.join("."),
            reason,
        })?;
    }
    deserialize(settings, &variables, source.as_ref().map(|(path, text)| (*path, text.as_str())))
}

type Variables = BTreeMap<Vec<String>, (String, String)>;

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), reason: error.to_string() })
}

fn parse(path: &Path, text: &str) -> Result<Table, ConfigError> {
    text.parse::<Table>().map_err(|error| {
        let line = error.span().map(|span| line_at(text, span.start));
        ConfigError::Syntax {
            origin: Origin::File(path.to_owned(), line),
            reason: error.message().to_owned(),
        }
    })
}

fn variables_by_key(variables: impl IntoIterator<Item = (String, String)>) -> Variables {
    let mut found = Variables::new();
    for (name, value) in variables {
        let Some(rest) = name.strip_prefix("FIRN_") else { continue };
        if !rest.contains("__") {
            continue;
        }
        let key = rest.split("__").map(str::to_lowercase).collect();
        found.insert(key, (name, value));
    }
    found
}

fn insert(settings: &mut Table, key: &[String], value: Value) -> Result<(), String> {
    let Some((last, sections)) = key.split_last() else { return Ok(()) };
    let mut table = settings;
    for section in sections {
        let entry = table.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
        table = entry.as_table_mut().ok_or_else(|| format!("'{section}' is a value, not a section"))?;
    }
    table.insert(last.clone(), value);
    Ok(())
}

/// A variable is text. Where the setting wants a number, a truth value or a list, the text is read as TOML and tried
/// again: at most once per variable, so this ends.
fn deserialize<T: DeserializeOwned>(
    mut settings: Table,
    variables: &Variables,
    file: Option<(&Path, &str)>,
) -> Result<T, ConfigError> {
    let mut retyped = std::collections::BTreeSet::new();
    loop {
        let error = match serde_path_to_error::deserialize(Value::Table(settings.clone())) {
            Ok(config) => return Ok(config),
            Err(error) => error,
        };
        let key: Vec<String> = error.path().to_string().split('.').map(str::to_owned).collect();
        let message = error.inner().message().to_owned();
        if let Some((_, text)) = variables.get(&key)
            && message.starts_with("invalid type: string")
            && retyped.insert(key.clone())
            && let Some(value) = as_toml(text)
            && insert(&mut settings, &key, value).is_ok()
        {
            continue;
        }
        return Err(explain(&key, &message, variables, file));
    }
}

fn as_toml(text: &str) -> Option<Value> {
    format!("value = {text}").parse::<Table>().ok()?.remove("value")
}

fn explain(key: &[String], message: &str, variables: &Variables, file: Option<(&Path, &str)>) -> ConfigError {
    let origin = match (variables.get(key), file) {
        (Some((name, _)), _) => Origin::Variable(name.clone()),
        (None, Some((path, text))) => match line_of(text, key) {
            Some(line) => Origin::File(path.to_owned(), Some(line)),
            None => beneath(key, variables).unwrap_or(Origin::File(path.to_owned(), None)),
        },
        (None, None) => beneath(key, variables).unwrap_or(Origin::Absent),
    };
    ConfigError::Setting { origin, key: key.join("."), reason: nearest::readable(message) }
}

/// An unknown section that only a variable set: the error's path ends at the section, the variable's goes on.
fn beneath(key: &[String], variables: &Variables) -> Option<Origin> {
    let (_, (name, _)) = variables.iter().find(|(variable, _)| variable.starts_with(key))?;
    Some(Origin::Variable(name.clone()))
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn line_of(text: &str, key: &[String]) -> Option<usize> {
    let document = toml::de::DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let (last, sections) = key.split_last()?;
    for section in sections {
        table = table.get(section.as_str())?.get_ref().as_table()?;
    }
    let (found, _) = table.get_key_value(last.as_str())?;
    Some(line_at(text, found.span().start))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use expect_test::expect;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Settings {
        server: Server,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Server {
        listen: String,
        workers: u32,
        quiet: bool,
    }

    fn load_text(text: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("firn.toml");
        std::fs::write(&path, text).unwrap();
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        load(Some(&path), variables)
            .map_err(|error| error.to_string().replace(folder.path().to_str().unwrap(), "DIR"))
    }

    #[test]
    fn variable_wins_over_the_file_and_takes_the_setting_s_type() {
        let settings = load_text(
            "[server]\nlisten = 'a'\nworkers = 1\n",
            &[("FIRN_SERVER__LISTEN", "1"), ("FIRN_SERVER__WORKERS", "7"), ("FIRN_SERVER__QUIET", "true")],
        );
        assert_eq!(settings.unwrap().server, Server { listen: "1".into(), workers: 7, quiet: true });
    }

    #[test]
    fn names_without_double_underscore_are_no_configuration() {
        assert_eq!(load_text("", &[("FIRN_URL", "http://x"), ("HOME", "/")]).unwrap(), Settings::default());
    }

    #[test]
    fn unknown_key_names_file_line_and_nearest_known_key() {
        let error = load_text("[server]\n\nlistn = 'a'\n", &[]).unwrap_err();
        expect!["DIR/firn.toml:3: server.listn: unknown key; did you mean 'listen'?"].assert_eq(&error);
    }

    #[test]
    fn unknown_section_of_a_variable_names_the_variable() {
        let error = load_text("", &[("FIRN_SEVER__LISTEN", "a")]).unwrap_err();
        expect!["variable FIRN_SEVER__LISTEN: sever: unknown key; did you mean 'server'?"].assert_eq(&error);
    }

    #[test]
    fn value_of_another_type_names_where_it_was_set() {
        let error = load_text("[server]\nworkers = 'many'\n", &[]).unwrap_err();
        expect![[r#"DIR/firn.toml:2: server.workers: invalid type: string "many", expected u32"#]]
            .assert_eq(&error);
        let error = load_text("", &[("FIRN_SERVER__QUIET", "maybe")]).unwrap_err();
        expect![[
            r#"variable FIRN_SERVER__QUIET: server.quiet: invalid type: string "maybe", expected a boolean"#
        ]]
        .assert_eq(&error);
    }

    #[test]
    fn broken_toml_names_the_line() {
        let error = load_text("[server]\nlisten = \n", &[]).unwrap_err();
        assert!(error.starts_with("DIR/firn.toml:2: not valid TOML"), "{error}");
    }

    #[test]
    fn absent_file_says_so() {
        let error = load::<Settings>(Some(Path::new("/nowhere/firn.toml")), []).unwrap_err();
        assert!(
            error.to_string().starts_with("can't read the configuration file /nowhere/firn.toml"),
            "{error}"
        );
    }
}
