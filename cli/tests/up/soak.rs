//! `firn bench soak`: over a server of its own, and over one where somebody else writes, too.

use std::{
    fs,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::server::{Server, bare_command, firn, stdout_of};

/// A small run, which is over soon.
fn soak() -> Command {
    let mut command = bare_command(&["bench", "soak", "--for", "4s", "--rate", "100", "--devices", "10"]);
    command.args(["--tenants", "3", "--malformed", "0.2"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn report(output: &Output) -> Value {
    let report = serde_json::from_slice(&output.stdout);
    report.unwrap_or_else(|_| panic!("no report, but: {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn soak_starts_a_server_and_finds_each_record_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("firn.toml");
    fs::write(&config, "[ingest]\ncommit_interval = \"300ms\"\n").unwrap();
    let output = soak().arg("--config").arg(&config).env("TMPDIR", folder.path()).output().unwrap();
    let report = report(&output);
    assert!(output.status.success(), "{report}");
    let sent = &report["sent"];
    assert!(
        sent["acknowledged"].as_u64().unwrap() > 200 && sent["rejected"].as_u64().unwrap() > 10,
        "{report}"
    );
    assert_eq!(
        report["differences"],
        json!({"lost": 0, "doubled": 0, "misplaced": 0, "unexpected": 0, "foreign": 0})
    );
    assert!(report["freshness"]["rows"].as_u64().unwrap() > 100, "{report}");
    assert!(report["freshness"]["p99_ms"].as_u64().unwrap() > 0, "{report}");
    assert!(report["memory"]["peak_bytes"].as_u64() >= report["memory"]["end_bytes"].as_u64(), "{report}");
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["firn.toml"], "the server's folder is removed");
}

#[tokio::test]
async fn soak_fails_if_a_row_is_there_that_it_did_not_send() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data).await;
    let env: Value = serde_json::from_str(&stdout_of(firn(&data, &["env", "--json"]))).unwrap();
    let running = soak().arg("--data-dir").arg(&data).spawn().unwrap();
    let started = Instant::now();
    let tenant = loop {
        let tenants = stdout_of(firn(&data, &["tenant", "ls"]));
        if let Some(name) = tenants.split_whitespace().find(|word| word.starts_with("soak-")) {
            break name.to_owned();
        }
        assert!(started.elapsed() < Duration::from_secs(30), "no tenant of the run: {tenants}");
    };
    let path = format!("/v1/tenants/{tenant}/inventory");
    let token = env["FIRN_OPERATOR_TOKEN"].as_str().unwrap();
    assert_eq!(server.post(&path, token, &json!({"host_id": "somebody else's"})).await.status(), 202);
    let output = tokio::task::spawn_blocking(move || running.wait_with_output()).await.unwrap().unwrap();
    let report = report(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert_eq!((&report["differences"]["foreign"], &report["differences"]["lost"]), (&json!(1), &json!(0)));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("1 rows of none"), "{message}");
    assert!(stdout_of(firn(&data, &["tenant", "ls"])).contains(&tenant), "it stays to be looked at");
    server.stop();
}
