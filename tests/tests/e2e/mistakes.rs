//! What a user can do wrong at a start: a clear message with the way out, the right exit code, and nothing lost.

use std::{net::TcpListener, os::unix::fs::PermissionsExt, path::Path};

use anyhow::{Context, Result};
use firn_tests::{FirnProcess, firn, firn_stdout, free_port};

/// Runs `firn up` that must fail; answers exit code and what it said.
fn refused(data: &Path, extra: &[&str]) -> Result<(i32, String)> {
    let listen = format!("127.0.0.1:{}", free_port()?);
    let data = data.to_string_lossy();
    let mut args = vec!["up", "--data-dir", &data, "--listen", &listen];
    args.extend(extra);
    let output = firn(args)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.code().context("no exit code")?, said))
}

#[test]
fn a_port_in_use_is_named() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let data = dir.path().join("data").to_string_lossy().into_owned();
    let output = firn(["up", "--data-dir", &data, "--listen", &address])?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&address) && said.contains("--listen"), "{said}");
    Ok(())
}

#[test]
fn an_unknown_key_and_a_broken_file_are_usage_errors() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("firn.toml");
    let flag = config.to_string_lossy().into_owned();
    std::fs::write(&config, "[catalog]\ndatabase_ulr = \"sqlite:x\"\n")?;
    let (code, said) = refused(&dir.path().join("data"), &["--config", &flag])?;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("database_ulr") && said.contains("database_url"), "{said}");
    std::fs::write(&config, "[catalog\n")?;
    let (code, said) = refused(&dir.path().join("data"), &["--config", &flag])?;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("firn.toml"), "{said}");
    Ok(())
}

#[test]
fn a_data_directory_that_is_a_file_or_of_a_newer_version_is_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("file");
    std::fs::write(&file, "mine")?;
    let (code, said) = refused(&file, &[])?;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("file"), "{said}");
    assert_eq!(std::fs::read_to_string(&file)?, "mine", "it was left alone");
    Ok(())
}

/// A folder that nobody can write to, not even root: the file system of the kernel's own settings.
#[test]
fn a_data_directory_that_cant_be_written_is_refused() -> Result<()> {
    let (code, said) = refused(Path::new("/proc/sys/firn-data"), &[])?;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("/proc/sys/firn-data") && said.contains("--data-dir"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_is_refused_and_the_first_goes_on() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    let first = FirnProcess::up(&data, &[]).await?;
    let (code, said) = refused(&data, &[])?;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&first.pid().to_string()), "it names the process that holds the directory: {said}");
    assert!(firn_stdout(first.client(["status"])).is_ok(), "the first still answers");
    let keys = std::fs::read_dir(data.join("keys"))?.chain(std::fs::read_dir(&data)?);
    for entry in keys.filter_map(Result::ok).filter(|entry| entry.path().is_file()) {
        let mode = entry.metadata()?.permissions().mode() & 0o777;
        let secret = entry.path().to_string_lossy().contains("key") || entry.file_name() == "server.json";
        assert!(!secret || mode == 0o600, "{} has mode {mode:o}", entry.path().display());
    }
    Ok(())
}

#[test]
fn a_client_without_a_server_says_so() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let output = firn(["status", "--data-dir", &dir.path().to_string_lossy()])?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("firn up"), "{said}");
    Ok(())
}
