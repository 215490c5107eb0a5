//! A policy's way: checked, tested, replayed over history, put in force without a restart, withdrawn, restored.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result};
use firn_tests::{FirnProcess, firn_stdout};
use serde_json::Value;

use crate::{
    ledger::Ledger,
    main_job::{DEADLINE, findings},
};

/// In breach is whoever is not on Windows: sure to differ from every shipped rule.
const CANDIDATE: &str =
    "id = 'only-windows'\ntitle = 'Only Windows'\nseverity = 'low'\nrule = \"os_type = 'windows'\"\n";
const CASES: &str = "[[case]]\nname = 'linux is in breach'\nrecords = [{ os_type = 'linux' }]\nverdict = 'fail'\nfinding = 'open'\n";

fn breaches_of(firn: &FirnProcess, rule: &str) -> Result<BTreeSet<String>> {
    Ok(findings(firn)?.into_iter().filter(|(_, of)| of == rule).map(|(host, _)| host).collect())
}

fn write(dir: &Path, name: &str, text: &str) -> Result<String> {
    let path = dir.join(name);
    std::fs::write(&path, text)?;
    Ok(path.to_string_lossy().into_owned())
}

/// A copy of a shipped rule, replayed over silver, finds what the stream told of the original: host by host, to the microsecond.
async fn stream_and_replay_agree(firn: &FirnProcess, dir: &Path) -> Result<()> {
    let text = "id = 'firewall-copy'\ntitle = 'F'\nseverity = 'high'\nrule = 'firewall_enabled'\n";
    let copy = write(dir, "firewall-copy.toml", text)?;
    let replay: Value = serde_json::from_str(&firn.run(["policy", "backtest", &copy, "--json"])?)?;
    let mut replayed = BTreeSet::new();
    for finding in replay["findings"].as_array().context("findings")? {
        let host = finding["host_id"].as_str().context("a host")?.to_owned();
        replayed.insert((
            host.clone(),
            "open".to_owned(),
            finding["opened_us"].as_i64().context("opened_us")?,
        ));
        replayed.extend(finding["resolved_us"].as_i64().map(|at_us| (host, "resolved".to_owned(), at_us)));
    }
    assert!(
        replayed.iter().any(|(_, status, _)| status == "resolved"),
        "the fleet is too quiet: {replayed:?}"
    );
    let told = "select host_id, to_status, cast(at as bigint) as at_us from gold.transitions where rule_id = 'firewall'";
    firn.eventually("stream and replay agree", DEADLINE, |firn| {
        let row = |row: &Value| {
            let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
            (text("host_id"), text("to_status"), row["at_us"].as_i64().unwrap_or_default())
        };
        Ok(firn.sql(told)?.iter().map(row).collect::<BTreeSet<_>>() == replayed)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_is_replayed_put_in_force_without_a_restart_and_withdrawn() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let firn = FirnProcess::up(&dir.path().join("data"), &[]).await?;
    let ledger_file = dir.path().join("ledger.jsonl");
    let ledger_path = ledger_file.to_string_lossy();
    let simulate = ["simulate", "--devices", "60", "--rate", "500", "--count", "1500", "--seed", "5"];
    firn_stdout(firn.client(simulate.into_iter().chain(["--ledger", &ledger_path])))?;
    let ledger = Ledger::read(&ledger_file)?;
    let sent = i64::try_from(ledger.bronze.len())?;
    let silver = "select count(*) from silver.inventory";
    firn.eventually("all rows are in silver", DEADLINE, |firn| Ok(firn.count(silver)? == sent)).await?;
    let rows = firn.sql("select host_id from silver.device where os_type <> 'windows'")?;
    let text = |row: &Value| Some(row["host_id"].as_str()?.to_owned());
    let others: BTreeSet<String> = rows.iter().filter_map(text).collect();
    assert!(!others.is_empty(), "a fleet of Windows alone shows nothing");

    stream_and_replay_agree(&firn, dir.path()).await?;

    let file = write(dir.path(), "only-windows.toml", CANDIDATE)?;
    write(dir.path(), "only-windows.test.toml", CASES)?;
    assert!(firn_stdout(["policy", "test", &file])?.contains("1 cases hold"));
    let replay: Value = serde_json::from_str(&firn.run(["policy", "backtest", &file, "--json"])?)?;
    let hosts = |value: &Value| value["host_id"].as_str().map(ToOwned::to_owned);
    let would: BTreeSet<String> =
        replay["findings"].as_array().context("findings")?.iter().filter_map(hosts).collect();
    assert_eq!((would, replay["records"].as_i64()), (others.clone(), Some(sent)));
    let gate = firn.run(["policy", "backtest", &file, "--max-new-findings", "0"]);
    assert!(
        gate.is_err_and(|error| error.to_string().contains("more than the 0 allowed")),
        "the gate closes"
    );
    let page = dir.path().join("report.html").to_string_lossy().into_owned();
    firn.run(["policy", "backtest", &file, "--html", &page])?;
    assert!(std::fs::read_to_string(&page)?.contains("<svg"));

    // On a branch it changes nothing in force; merged, it judges what is known already, without a record or a restart.
    assert!(firn.run(["policy", "diff", &file])?.contains("+ only-windows"));
    firn.run(["policy", "apply", &file, "--branch", "stricter"])?;
    assert!(firn.run(["policy", "diff", &file, "--ref", "stricter"])?.contains("nothing differs"));
    assert!(breaches_of(&firn, "only-windows")?.is_empty());
    firn.run(["merge", "stricter"])?;
    firn.eventually("known hosts are judged by it", DEADLINE, |firn| {
        Ok(breaches_of(firn, "only-windows")? == others)
    })
    .await?;
    let host = others.first().context("a host")?;
    let explained = firn.run(["policy", "explain", "only-windows", "--host", host])?;
    assert!(explained.contains("is in breach") && explained.contains("still open"), "{explained}");

    // The shipped ones alone are to be: the candidate's findings end, and say why.
    let shipped: Vec<Value> = serde_json::from_str(&firn_stdout(["policy", "ls", "--shipped", "--json"])?)?;
    assert_eq!(shipped.len(), 13);
    let changed = write(
        dir.path(),
        "firewall.toml",
        "id = 'firewall'\ntitle = 'F'\nseverity = 'low'\nrule = 'firewall_enabled'\n",
    )?;
    firn.run(["policy", "apply", &changed, "--prune", "--yes"])?;
    firn.eventually("withdrawn rules' findings are over", DEADLINE, |firn| {
        Ok(findings(firn)?.iter().all(|(_, rule)| rule == "firewall"))
    })
    .await?;
    let reasons = "select count(*) from gold.transitions where rule_id = 'only-windows' and reason = 'the rule was withdrawn'";
    let all = i64::try_from(others.len())?;
    firn.eventually("the end is told", DEADLINE, |firn| Ok(firn.count(reasons)? == all)).await?;
    assert!(firn.stop().await?.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn people_assign_findings_and_retire_hosts() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let firn = FirnProcess::up(&dir.path().join("data"), &[]).await?;
    firn_stdout(firn.client([
        "simulate",
        "--devices",
        "20",
        "--rate",
        "200",
        "--count",
        "60",
        "--seed",
        "3",
    ]))?;
    let open = |firn: &FirnProcess| -> Result<Vec<Value>> {
        Ok(serde_json::from_str(&firn_stdout(firn.client(["findings", "ls", "--json", "-n", "1000"]))?)?)
    };
    firn.eventually("findings open", DEADLINE, |firn| Ok(open(firn)?.len() > 1)).await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let first = open(&firn)?.first().cloned().context("a finding")?;
    let (id, host) = (text(&first["id"]), text(&first["host_id"]));
    firn_stdout(firn.client(["alerts", "assign", &id, "--to", "bob", "--note", "yours"]))?;
    firn.eventually("it is bob's", DEADLINE, |firn| {
        Ok(open(firn)?.iter().any(|finding| finding["id"] == *id && finding["assignee"] == "bob"))
    })
    .await?;
    firn_stdout(firn.client(["host", "retire", &host, "--note", "sold"]))?;
    firn.eventually("the host's findings are over", DEADLINE, |firn| {
        Ok(open(firn)?.iter().all(|finding| finding["host_id"] != *host))
    })
    .await?;
    let told = format!(
        "select to_status, actor, assignee, reason from gold.transitions where finding_id = '{id}' and cause = 'command' \
         order by version"
    );
    firn.eventually("both are in gold.transitions", DEADLINE, |firn| Ok(firn.sql(&told)?.len() == 2)).await?;
    let rows = firn.sql(&told)?;
    assert_eq!((text(&rows[0]["to_status"]), text(&rows[0]["reason"])), ("open".into(), "yours".into()));
    assert_eq!((text(&rows[1]["to_status"]), text(&rows[1]["reason"])), ("resolved".into(), "sold".into()));
    assert!(rows.iter().all(|row| row["assignee"] == "bob" && row["actor"].is_string()), "{rows:?}");
    assert!(firn.stop().await?.success());
    Ok(())
}
