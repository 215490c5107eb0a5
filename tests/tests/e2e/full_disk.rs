//! A disk that takes no more, and then does again: what was acknowledged stays, what can't be kept is refused.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use firn_tests::{FirnProcess, firn_command, free_port};

use crate::{ledger::Ledger, main_job::DEADLINE};

/// The folder that a small disk is mounted on, for the run of this test that sees it.
const SMALL_DISK: &str = "FIRN_TEST_SMALL_DISK";
const MOUNT: &str = "mount -t tmpfs -o size=48m firn-test \"$0\" && exec \"$@\"";

/// Runs a test of this executable again, where a small file system is mounted that nobody else sees.
fn on_a_small_disk(test: &str) -> Result<()> {
    let dir = tempfile::tempdir()?;
    // The server's own log stays on the large disk.
    let disk = dir.path().join("data");
    std::fs::create_dir(&disk)?;
    let mounted = |way: &[&str]| {
        let mut command = Command::new(way[0]);
        command.args(&way[1..]).args(["sh", "-c", MOUNT]).arg(&disk);
        command
    };
    // As any user where user namespaces are allowed, else as root.
    let ways: [&[&str]; 2] = [&["unshare", "-Urm"], &["sudo", "-n", "-E", "unshare", "-m"]];
    let works = |way: &&&[&str]| mounted(way).arg("true").output().is_ok_and(|done| done.status.success());
    let way = ways.iter().find(works).context(
        "this test mounts a small file system: allow user namespaces (sysctl kernel.apparmor_restrict_unprivileged_userns=0), \
         or run it as root; a container needs --cap-add SYS_ADMIN",
    )?;
    let mut command = mounted(way);
    command.arg(std::env::current_exe()?).args(["--exact", test, "--nocapture"]).env(SMALL_DISK, &disk);
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Writes until the disk is full.
fn fill(ballast: &Path) -> Result<()> {
    let mut file = File::create(ballast)?;
    for size in [1 << 20, 1 << 12] {
        let block = vec![1; size];
        while file.write_all(&block).is_ok() {}
    }
    Ok(())
}

/// Sends records of a fleet; what became of them is in the ledger.
fn simulate(data: &Path, ledger: &Path, seed: &str) -> Result<()> {
    let mut fleet =
        firn_command(["simulate", "--devices", "20", "--count", "200", "--seed", seed, "--ledger"])?;
    let output = fleet.arg(ledger).arg("--data-dir").arg(data).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Status and `Retry-After` of an upload of one record.
async fn upload(firn: &FirnProcess) -> Result<(u16, Option<String>)> {
    let url = format!("{}/v1/tenants/{}/inventory", firn.url(), firn.env["FIRN_TENANT"]);
    let record = serde_json::json!({"host_id": "full", "hostname": "full", "disk_encrypted": false});
    let request = reqwest::Client::new().post(url).bearer_auth(&firn.env["FIRN_TOKEN"]).json(&record);
    let answer = request.send().await?;
    let retry = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
    Ok((answer.status().as_u16(), retry.map(ToOwned::to_owned)))
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_and_then_goes_on() -> Result<()> {
    let Some(data) = std::env::var_os(SMALL_DISK).map(PathBuf::from) else {
        return tokio::task::spawn_blocking(|| on_a_small_disk("full_disk::refuses_and_then_goes_on"))
            .await?;
    };
    let ledger_file = data.with_extension("ledger");
    let listen = format!("127.0.0.1:{}", free_port()?);
    let hurry = [("FIRN_INGEST__COMMIT_INTERVAL", "300ms")];
    let firn = FirnProcess::up_at(&data, &listen, &[], &hurry).await?;
    simulate(&data, &ledger_file, "1")?;
    let before = Ledger::read(&ledger_file)?.bronze.len();
    assert!(before > 100, "too little was taken to tell: {before}");

    // At once, so that part of what was acknowledged is still on its way into files.
    let ballast = data.join("ballast");
    fill(&ballast)?;
    let mut taken = 0;
    let (status, retry) = loop {
        match upload(&firn).await? {
            (200..300, _) => taken += 1,
            refused => break refused,
        }
        ensure!(taken < 10_000, "a full disk takes everything");
    };
    assert!(status == 503 && retry.is_some(), "{status}, Retry-After {retry:?}: {}", firn.log_tail());
    assert!(firn.sql("select 1 as one").is_ok(), "it still answers: {}", firn.log_tail());
    // Long enough for each stage to have met it.
    tokio::time::sleep(Duration::from_secs(5)).await;

    std::fs::remove_file(&ballast)?;
    let room = async |firn: &FirnProcess| {
        for _ in 0..100 {
            if upload(firn).await?.0 < 300 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        anyhow::bail!("there is room again, and no upload is taken\n{}", firn.log_tail())
    };
    room(&firn).await?;
    taken += 1;
    simulate(&data, &ledger_file, "2")?;
    let acknowledged = i64::try_from(Ledger::read(&ledger_file)?.bronze.len())? + taken;
    assert!(acknowledged > i64::try_from(before)? + 100);
    let all = |firn: &FirnProcess| Ok(firn.count("select count(*) from bronze.inventory")? == acknowledged);
    firn.eventually("what was acknowledged is in bronze", DEADLINE, all).await?;
    // Alerts and promotion went on as well.
    let host = "select count(*) from silver.device where host_id = 'full'";
    firn.eventually("it is in silver", DEADLINE, |firn| Ok(firn.count(host)? == 1)).await?;
    let findings = "select count(*) from gold.transitions where host_id = 'full'";
    firn.eventually("its findings are in gold", DEADLINE, |firn| Ok(firn.count(findings)? > 0)).await?;
    assert!(all(&firn)?, "nothing arrived twice");
    assert!(firn.stop().await?.success());
    Ok(())
}
