//! The console, in a real browser.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use firn_tests::{FirnProcess, firn_stdout};

use crate::main_job::DEADLINE;

/// Flags that keep the browser from looking for its vendor's hosts.
const QUIET: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

#[tokio::test(flavor = "multi_thread")]
async fn the_console_shows_the_pipeline_in_a_browser() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let firn = FirnProcess::up(&dir.path().join("data"), &[]).await?;
    firn_stdout(firn.client([
        "simulate",
        "--devices",
        "40",
        "--rate",
        "300",
        "--count",
        "400",
        "--seed",
        "5",
    ]))?;
    let gold = "select count(*) from gold.compliance";
    firn.eventually("gold is filled", DEADLINE, |firn| Ok(firn.count(gold)? > 0)).await?;

    let console = format!("{}/console", firn.url());
    let page = browse(dir.path(), &console, &["--dump-dom"])?;
    ensure!(!page.contains("gold.compliance"), "without a token there is nothing to see:\n{page}");
    let link = format!("{console}?token={}", firn.env["FIRN_TOKEN"]);
    let page = browse(dir.path(), &link, &["--dump-dom"])?;
    for expected in
        ["bronze.inventory", "silver.device", "gold.compliance", "ingest", "alerts", "disk-encryption"]
    {
        ensure!(page.contains(expected), "the page lacks '{expected}':\n{page}");
    }
    ensure!(
        !page.contains("http://") && !page.contains("https://"),
        "the page loads something from elsewhere"
    );

    // Kept for a look: target/console.png.
    let picture = firn_tests::firn_binary()?.with_file_name("console.png");
    browse(dir.path(), &link, &["--window-size=1280,1600", &format!("--screenshot={}", picture.display())])?;
    ensure!(std::fs::metadata(&picture)?.len() > 10_000, "the screenshot is empty");
    Ok(())
}

fn browse(dir: &Path, url: &str, flags: &[&str]) -> Result<String> {
    let output = Command::new("chromium")
        .args(QUIET)
        .arg(format!("--user-data-dir={}", dir.join("browser").display()))
        .args(flags)
        .arg(url)
        .output()
        .context("chromium can't be started: apt-get install chromium")?;
    ensure!(output.status.success(), "chromium: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
