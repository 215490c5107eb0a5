//! One inventory's whole way: upload, log, bronze, silver, gold, finding.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use firn_tests::{FirnProcess, firn_stdout};

use crate::ledger::Ledger;

/// Generous: debug builds on a loaded machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread")]
async fn everything_downstream_equals_the_ledger() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let firn = FirnProcess::up(&dir.path().join("data"), &[]).await?;
    let ledger_file = dir.path().join("ledger.jsonl");
    let ledger_path = ledger_file.to_string_lossy();
    let simulate = ["simulate", "--devices", "80", "--rate", "400", "--count", "2000", "--seed", "7"];
    let options = ["--malformed", "0.03", "--ledger", &ledger_path];
    firn_stdout(firn.client(simulate.into_iter().chain(options)))?;
    let ledger = Ledger::read(&ledger_file)?;
    assert!(ledger.unknown.is_empty() && ledger.quarantine > 0, "the run itself went wrong: {ledger:?}");

    let sent = i64::try_from(ledger.bronze.len())?;
    let bronze = "select count(*) from bronze.inventory";
    firn.eventually("all rows are in bronze", DEADLINE, |firn| Ok(firn.count(bronze)? == sent)).await?;
    assert_eq!(firn.count("select count(distinct event_id) from bronze.inventory")?, sent);
    assert_eq!(firn.count("select count(*) from bronze.quarantine")?, ledger.quarantine);

    let silver = "select count(*) from silver.inventory";
    firn.eventually("all rows are in silver", DEADLINE, |firn| Ok(firn.count(silver)? == sent)).await?;
    assert_eq!(gold_verdicts(&firn)?, expected_verdicts(&ledger), "gold.compliance");
    let breaches = ledger.breaches();
    firn.eventually("findings equal the ledger", DEADLINE, |firn| Ok(findings(firn)? == breaches)).await?;

    let open = with_status(&firn, "open")?;
    assert!(!open.is_empty(), "rules without grace have opened findings");
    let told = |firn: &FirnProcess| Ok(pairs(&firn.sql(OPEN_BY_TRANSITIONS)?) == open);
    firn.eventually("gold.transitions tells the same findings", DEADLINE, told).await?;
    let doubled = "select count(*) - count(distinct finding_id || '/' || cast(version as varchar)) from gold.transitions";
    assert_eq!(firn.count(doubled)?, 0, "each transition stands once");
    let story = "select count(*) from gold.transitions t join bronze.inventory r on t.record_partition = r.log_partition \
                 and t.record_offset = r.log_offset and t.host_id = r.host_id where t.catalog_commit <> '' and t.revision <> ''";
    assert_eq!(
        firn.count(story)?,
        firn.count("select count(*) from gold.transitions")?,
        "each names its record and rules"
    );
    assert!(firn.stop().await?.success(), "TERM drains and ends well");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn this_computer_shows_up_and_a_second_start_goes_on() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    let firn = FirnProcess::up(&data, &[]).await?;
    let (url, token) = (firn.url().to_owned(), firn.env["FIRN_TOKEN"].clone());
    let collect = ["collect", "--to", &url, "--token", &token, "--tenant", "default"];
    firn_stdout(collect)?;
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned();
    let query = "select hostname, os_name from silver.device";
    let there = |firn: &FirnProcess| {
        let rows = firn.sql(query)?;
        Ok(rows.iter().any(|row| row["hostname"] == hostname.as_str() && row["os_name"].is_string()))
    };
    firn.eventually("this computer is in silver.device", DEADLINE, there).await?;
    assert!(firn.stop().await?.success());

    let firn = FirnProcess::up(&data, &[]).await?;
    assert!(there(&firn)?, "the first run's rows are still there");
    firn_stdout(["collect", "--to", firn.url(), "--token", &firn.env["FIRN_TOKEN"], "--tenant", "default"])?;
    let bronze = "select count(*) from bronze.inventory";
    firn.eventually("the second upload arrives once", DEADLINE, |firn| Ok(firn.count(bronze)? == 2)).await
}

/// Findings that are open by their newest transition.
const OPEN_BY_TRANSITIONS: &str = "
SELECT host_id, rule_id FROM (
  SELECT host_id, rule_id, to_status, row_number() OVER (PARTITION BY finding_id ORDER BY version DESC) AS newest
  FROM gold.transitions)
WHERE newest = 1 AND to_status = 'open'";

/// Hosts in breach by rule: open, or pending within the rule's grace.
pub(crate) fn findings(firn: &FirnProcess) -> Result<BTreeSet<(String, String)>> {
    with_status(firn, "open,pending")
}

pub(crate) fn with_status(firn: &FirnProcess, status: &str) -> Result<BTreeSet<(String, String)>> {
    let ls = ["findings", "ls", "--json", "--status", status, "-n", "1000"];
    let findings: Vec<serde_json::Value> = serde_json::from_str(&firn_stdout(firn.client(ls))?)?;
    Ok(pairs(&findings))
}

/// Host and rule of each.
fn pairs(rows: &[serde_json::Value]) -> BTreeSet<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    rows.iter().map(|row| (text(&row["host_id"]), text(&row["rule_id"]))).collect()
}

pub(crate) fn gold_verdicts(firn: &FirnProcess) -> Result<BTreeSet<(String, String, String)>> {
    let rows = firn.sql("select host_id, rule_id, state from gold.compliance where state <> 'no_result'")?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    Ok(rows.iter().map(|row| (text(&row["host_id"]), text(&row["rule_id"]), text(&row["state"]))).collect())
}

pub(crate) fn expected_verdicts(ledger: &Ledger) -> BTreeSet<(String, String, String)> {
    let sure = ledger.verdicts.iter().filter(|(_, verdict)| *verdict != "none");
    sure.map(|((host, rule), verdict)| (host.clone(), rule.clone(), verdict.clone())).collect()
}
