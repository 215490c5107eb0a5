//! Erasure and legal holds from the command line, while computers go on reporting.

use std::{fs, path::Path, process::Output};

use anyhow::{Context, Result};
use firn_tests::{FirnProcess, firn, firn_stdout};
use serde_json::{Value, json};

use crate::main_job::DEADLINE;

async fn upload(server: &FirnProcess, records: &[Value]) -> Result<()> {
    let body = records.iter().map(|record| format!("{record}\n")).collect::<String>();
    let url = format!("{}/v1/tenants/{}/inventory", server.url(), server.env["FIRN_TENANT"]);
    let request = reqwest::Client::new().post(url).bearer_auth(&server.env["FIRN_TOKEN"]);
    let request = request.header("content-type", "application/x-ndjson").body(body);
    request.send().await?.error_for_status()?;
    Ok(())
}

fn refused(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "it was not refused: {said}");
    for word in words {
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }
}

/// Files below a folder in which a text stands as it is.
fn mentions(folder: &Path, text: &str, found: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            mentions(&path, text, found)?;
        } else if fs::read(&path)?.windows(text.len()).any(|window| window == text.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_computer_is_erased_with_a_receipt_and_is_taken_no_more() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    let variables = [("FIRN_ERASURE__SETTLE", "2s"), ("FIRN_PROMOTION__INTERVAL", "1s")];
    let listen = format!("127.0.0.1:{}", firn_tests::free_port()?);
    let server = FirnProcess::up_at(&data, &listen, &[], &variables).await?;
    let record = |host: &str, event: &str| json!({"host_id": host, "event_id": event, "os_type": "linux"});
    let broken = json!({"host_id": "pc-to-forget", "seq": "x"});
    upload(&server, &[record("pc-to-forget", "e1"), record("pc-to-keep", "e2"), broken]).await?;
    let devices = "select count(*) from silver.device";
    server.eventually("both are in silver", DEADLINE, |server| Ok(server.count(devices)? == 2)).await?;
    firn_stdout(server.client(["tag", "create", "before"]))?;

    let held = ["hold", "add", "--subject", "host_id=pc-to-forget", "--reason", "case 7", "--json"];
    let hold: Value = serde_json::from_str(&firn_stdout(server.client(held))?)?;
    let id = hold["id"].as_str().context("a hold has an id")?;
    let erase = ["erase", "--subject", "host_id=pc-to-forget", "--reason", "asked to"];
    refused(&firn(server.client(erase))?, &[id, "case 7"]);
    firn_stdout(server.client(["hold", "release", id]))?;
    assert!(firn_stdout(server.client(["hold", "ls"]))?.contains("nothing is held"));

    let receipt = dir.path().join("receipt.jws").display().to_string();
    let told = firn_stdout(server.client(erase.into_iter().chain(["--receipt", &receipt])))?;
    assert!(told.contains("nothing of the subject is left"), "{told}");
    let mut found = Vec::new();
    mentions(&data.join("warehouse"), "pc-to-forget", &mut found)?;
    assert!(found.is_empty(), "{found:?}");
    for (table, reference) in
        [("bronze.inventory", "main"), ("bronze.quarantine", "main"), ("silver.device", "before")]
    {
        let query = format!("select count(*) from {table} where host_id = 'pc-to-forget'");
        let rows = server.run(["sql", &query, "--ref", reference, "--format", "json"])?;
        assert!(rows.contains(":0"), "{table} at {reference}: {rows}");
    }

    // A third party needs the keys alone.
    let keys = reqwest::get(format!("{}/v1/keys", server.url())).await?.text().await?;
    let keys_file = dir.path().join("keys.json").display().to_string();
    fs::write(&keys_file, keys)?;
    let genuine = firn_stdout(["erase", "verify", &receipt, "--keys", &keys_file, "--store"])?;
    assert!(genuine.contains("the receipt is genuine"), "{genuine}");
    let text = fs::read_to_string(&receipt)?;
    let at = text.find('.').context("a JWS has dots")? + 30;
    let other = if &text[at..=at] == "A" { "B" } else { "A" };
    fs::write(&receipt, format!("{}{other}{}", &text[..at], &text[at + 1..]))?;
    refused(&firn(["erase", "verify", &receipt, "--keys", &keys_file])?, &["not a receipt to be trusted"]);

    upload(&server, &[record("pc-to-forget", "e3"), record("pc-to-keep", "e4")]).await?;
    let kept = "select count(*) from bronze.inventory where host_id = 'pc-to-keep'";
    server.eventually("who stays is taken", DEADLINE, |server| Ok(server.count(kept)? == 2)).await?;
    let all = server.count("select count(*) from bronze.inventory")?;
    assert_eq!(all, 2, "who was erased is taken no more");
    assert!(server.stop().await?.success());
    Ok(())
}
