//! Real inventory agents against the gateway, with credentials of clients that may do nothing else.

use std::{path::Path, process::Output};

use anyhow::{Context, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use firn_tests::{FirnProcess, agent, ocsf, run_agent};
use serde_json::{Value, json};

use crate::main_job::DEADLINE;

/// Id and secret of a client.
struct Client {
    id: String,
    secret: String,
}

/// Makes a client of the tenant `default` that may only upload, for one host if one is given.
async fn client(firn: &FirnProcess, name: &str, host: Option<&str>) -> Result<Client> {
    let url = format!("{}/v1/tenants/default/clients", firn.url());
    let body = json!({"name": name, "role": "agent", "scopes": ["inventory:write"], "host": host});
    let request = reqwest::Client::new().post(url).bearer_auth(&firn.env["FIRN_TOKEN"]).json(&body);
    let answer: Value = request.send().await?.error_for_status()?.json().await?;
    let text = |key: &str| answer[key].as_str().map(str::to_owned).with_context(|| format!("no {key}"));
    Ok(Client { id: text("client_id")?, secret: text("client_secret")? })
}

/// The machine's own name, as the kernel knows it.
fn hostname() -> Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned())
}

async fn fusioninventory(firn: &FirnProcess, dir: &Path, client: &Client) -> Result<Output> {
    let config = dir.join("agent.cfg");
    let text = format!(
        "server = {}/v1/tenants/default/agents/ocs\nuser = {}\npassword = {}\ntag = berlin\n",
        firn.url(),
        client.id,
        client.secret
    );
    std::fs::write(&config, text)?;
    let mut command = agent("fusioninventory-agent")?;
    command.arg(format!("--conf-file={}", config.display()));
    command.args(["--tasks=inventory", "--force", "--logger=stderr", "--debug"]);
    run_agent(command).await
}

async fn ocsinventory(firn: &FirnProcess, dir: &Path, client: &Client) -> Result<Output> {
    let mut command = agent("ocsinventory-agent")?;
    // This agent wants user and password in base64, and sends its credentials only to a realm of this name.
    command.args(["--nolocal", "--realm", "firn", "--ssl=0", "--debug", "--nosoftware"]);
    command.arg("--server").arg(format!("{}/v1/tenants/default/agents/ocs", firn.url()));
    command
        .arg("--user")
        .arg(STANDARD.encode(&client.id))
        .arg("--password")
        .arg(STANDARD.encode(&client.secret));
    command.arg("--basevardir").arg(dir.join("ocs"));
    run_agent(command).await
}

/// The only row of a source, once it is there.
async fn row(firn: &FirnProcess, source: &str, agent: &str) -> Result<Value> {
    let query = format!(
        "select host_id, hostname, os_type, os_name, cpu_count, memory_total_bytes, disk_total_bytes, agent_name, \
         organization_id, cardinality(software) as packages, extra from bronze.inventory where source = '{source}'"
    );
    let mut rows = Vec::new();
    let what = format!("{source} is in bronze");
    let arrived = firn.eventually(&what, DEADLINE, |firn| {
        rows = firn.sql(&query).unwrap_or_default();
        Ok(!rows.is_empty())
    });
    arrived.await.with_context(|| format!("the agent said {agent}"))?;
    ensure!(rows.len() == 1, "{rows:?}");
    let row = rows.remove(0);
    ensure!(row["hostname"] == hostname()?.as_str(), "{row}");
    ensure!(row["os_type"] == "linux" && !row["os_name"].as_str().unwrap_or_default().is_empty(), "{row}");
    let cpus = std::thread::available_parallelism()?.get();
    ensure!(row["cpu_count"].as_u64().is_some_and(|count| count >= cpus as u64), "{row}");
    ensure!(row["memory_total_bytes"].as_i64().is_some_and(|bytes| bytes > 100_000_000), "{row}");
    Ok(row)
}

fn said(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn fusioninventory_agent_s_inventory_reaches_bronze_for_its_own_host_alone() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let firn = FirnProcess::up(&dir.path().join("data"), &[]).await?;
    let any = client(&firn, "any", None).await?;
    let output = fusioninventory(&firn, dir.path(), &any).await?;
    let row = row(&firn, "fusioninventory", &said(&output)).await?;
    ensure!(row["agent_name"] == "FusionInventory-Agent" && row["organization_id"] == "berlin", "{row}");
    ensure!(row["packages"].as_i64().is_some_and(|packages| packages > 20), "{row}");
    ensure!(row["disk_total_bytes"].as_i64().is_some_and(|bytes| bytes > 0), "{row}");
    let extra = row["extra"].as_str().unwrap_or_default();
    ensure!(extra.contains("CONTROLLERS") || extra.contains("NETWORKS"), "{extra}");
    ensure!(!extra.contains("PROCESSES") && !extra.contains("ENVS"), "command lines and variables stay out");

    let host = row["host_id"].as_str().context("no host_id")?;
    let other = client(&firn, "other", Some("another-host")).await?;
    let output = fusioninventory(&firn, dir.path(), &other).await?;
    // So the agent calls whatever is refused once it has said who it is.
    ensure!(said(&output).contains("wrong credentials"), "{}", said(&output));
    let wrong = Client { id: any.id.clone(), secret: "wrong".to_owned() };
    let output = fusioninventory(&firn, dir.path(), &wrong).await?;
    ensure!(said(&output).contains("wrong credentials"), "{}", said(&output));
    let own = client(&firn, "own", Some(host)).await?;
    let output = fusioninventory(&firn, dir.path(), &own).await?;
    twice(&firn, &said(&output)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ocs_agent_s_inventory_reaches_bronze() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let firn = FirnProcess::up(&dir.path().join("data"), &[]).await?;
    let any = client(&firn, "any", None).await?;
    let output = ocsinventory(&firn, dir.path(), &any).await?;
    let row = row(&firn, "ocs", &said(&output)).await?;
    ensure!(row["agent_name"] == "OCS-NG_unified_unix_agent", "{row}");
    ensure!(row["disk_total_bytes"].as_i64().is_some_and(|bytes| bytes > 0), "{row}");

    // The agent keeps its device id, so it is the same host each time.
    let other = client(&firn, "other", Some("another-host")).await?;
    let refused = said(&ocsinventory(&firn, dir.path(), &other).await?);
    ensure!(refused.contains("403"), "{refused}");
    let own = client(&firn, "own", row["host_id"].as_str()).await?;
    let output = ocsinventory(&firn, dir.path(), &own).await?;
    twice(&firn, &said(&output)).await
}

/// Waits for the second row; a third one would have come before it.
async fn twice(firn: &FirnProcess, said: &str) -> Result<()> {
    let count = "select count(*) from bronze.inventory";
    let twice =
        firn.eventually("the bound client's is the second", DEADLINE, |firn| Ok(firn.count(count)? == 2));
    twice.await.with_context(|| said.to_owned())
}

async fn glpi(firn: &FirnProcess, dir: &Path, client: &Client, postpone: u32) -> Result<Output> {
    let (config, state) = (dir.join("glpi.cfg"), dir.join("glpi"));
    std::fs::create_dir_all(&state)?;
    let text = format!(
        "server = {}/v1/tenants/default/agents/glpi\nuser = {}\npassword = {}\ntag = berlin\n\
         full-inventory-postpone = {postpone}\n",
        firn.url(),
        client.id,
        client.secret
    );
    std::fs::write(&config, text)?;
    let mut command = agent("glpi-agent")?;
    command.arg(format!("--conf-file={}", config.display())).arg("--vardir").arg(state);
    command.args(["--tasks=inventory", "--force", "--logger=stderr", "--debug"]);
    run_agent(command).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "glpi-agent is no package of Debian 12: install it from its releases"]
async fn glpi_agent_s_inventory_reaches_bronze_in_its_own_protocol() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let firn = FirnProcess::up(&dir.path().join("data"), &[]).await?;
    let any = client(&firn, "any", None).await?;
    let output = said(&glpi(&firn, dir.path(), &any, 14).await?);
    let row = row(&firn, "glpi", &output).await?;
    ensure!(row["agent_name"] == "GLPI-Agent" && row["organization_id"] == "berlin", "{row}");
    ensure!(row["packages"].as_i64().is_some_and(|packages| packages > 20), "{row}");
    ensure!(row["disk_total_bytes"].as_i64().is_some_and(|bytes| bytes > 0), "{row}");
    let extra = row["extra"].as_str().unwrap_or_default();
    ensure!(extra.contains("versionclient"), "the sections are those of its own protocol: {extra}");
    ensure!(
        !extra.contains("\"processes\"") && !extra.contains("\"envs\""),
        "command lines and variables stay out"
    );

    // The second one leaves out what didn't change.
    let output = said(&glpi(&firn, dir.path(), &any, 14).await?);
    ensure!(output.contains("set full-inventory-postpone = 0"), "it shows why: {output}");
    let other = client(&firn, "other", Some("another-host")).await?;
    let output = said(&glpi(&firn, dir.path(), &other, 0).await?);
    ensure!(output.contains("bound to another host") || output.contains("wrong credentials"), "{output}");
    let own = client(&firn, "own", row["host_id"].as_str()).await?;
    let output = said(&glpi(&firn, dir.path(), &own, 0).await?);
    twice(&firn, &output).await
}

#[tokio::test(flavor = "multi_thread")]
async fn facter_s_facts_reach_bronze() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let firn = FirnProcess::up(&dir.path().join("data"), &[]).await?;
    let mut command = agent("facter")?;
    command.arg("--json");
    let facts = run_agent(command).await?;
    // Its exit status also says that some fact could not be found, which is so in many containers.
    let known: Value = serde_json::from_slice(&facts.stdout).with_context(|| said(&facts))?;
    let host = ["fqdn", "hostname"].into_iter().find_map(|name| known["networking"][name].as_str());
    for (name, bound_to, status) in [("other", Some("another-host"), 403), ("own", host, 202)] {
        let client = client(&firn, name, bound_to).await?;
        let url = format!("{}/v1/tenants/default/inventory?format=facter", firn.url());
        let request = reqwest::Client::new().post(url).basic_auth(&client.id, Some(&client.secret));
        let request = request.header("content-type", "application/json").body(facts.stdout.clone());
        let answer = request.send().await?;
        ensure!(answer.status() == status, "{}", answer.text().await?);
    }
    let row = row(&firn, "facter", "").await?;
    ensure!(row["agent_name"] == "facter", "{row}");
    ensure!(row["extra"].as_str().unwrap_or_default().contains("facterversion"), "{row}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ocsf_events_of_another_s_library_reach_bronze() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let firn = FirnProcess::up(&dir.path().join("data"), &[]).await?;
    let url = format!("{}/v1/tenants/default/inventory?format=ocsf", firn.url());
    let mut clients = Vec::new();
    for (name, host) in [("any", None), ("other", Some("another-host")), ("own", Some("dev-1"))] {
        let Client { id, secret } = client(&firn, name, host).await?;
        clients.push(format!("{id}:{secret}"));
    }
    clients.push("default/any:wrong".to_owned());
    let args: Vec<&str> =
        [url.as_str(), "dev-1"].into_iter().chain(clients.iter().map(String::as_str)).collect();
    let said = ocsf("ocsf_uploads.py", &args)?;
    ensure!(said["statuses"] == json!([202, 403, 202, 401]), "{said}");
    twice(&firn, &said.to_string()).await?;
    let query = "select host_id, hostname, os_type, os_name, cpu_count, memory_total_bytes, disk_total_bytes, agent_name, \
        organization_id, extra, platform, architecture from bronze.inventory where source = 'ocsf' limit 1";
    let row = firn.sql(query)?.pop().context("no row")?;
    let device = &said["event"]["device"];
    ensure!(row["host_id"] == "dev-1" && row["hostname"] == device["hostname"], "{row}");
    ensure!(row["platform"] == "linux" && row["os_name"] == device["os"]["name"], "{row}");
    ensure!(row["architecture"] == device["hw_info"]["cpu_architecture"], "{row}");
    ensure!(row["agent_name"] == "Asset Scanner" && row["organization_id"] == "berlin", "{row}");
    let megabytes = device["hw_info"]["ram_size"].as_i64().context("no memory")?;
    ensure!(row["memory_total_bytes"] == json!(megabytes << 20), "{row}");
    ensure!(row["extra"].as_str().unwrap_or_default().contains("\"category_uid\":5"), "{row}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_osquery_host_as_fleet_answers_it_reaches_bronze_for_its_own_host_alone() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let firn = FirnProcess::up(&dir.path().join("data"), &[]).await?;
    let answer = json!({"host": {
        "id": 7, "uuid": "4C4C4544-0050-4810-8053-B4C04F564433", "hostname": hostname()?, "platform": "debian",
        "platform_like": "debian", "os_version": "Debian GNU/Linux 12.7.0", "osquery_version": "5.19.0", "memory": 8_234_567_680_i64,
        "cpu_type": "x86_64", "cpu_logical_cores": 4, "hardware_vendor": "Dell Inc.", "hardware_serial": "FVD3",
        "gigs_disk_space_available": 12.5, "gigs_total_disk_space": 100, "team_name": "Workstations", "status": "online",
        "detail_updated_at": "2026-11-22T10:00:00Z", "policies": [{"id": 1, "name": "Disk encrypted", "response": "fail"}],
        "software": [{"id": 1, "name": "vim", "version": "9.0", "source": "deb_packages"}],
    }});
    let host = answer["host"]["uuid"].as_str().context("no uuid")?;
    let url = format!("{}/v1/tenants/default/inventory?format=osquery", firn.url());
    for (name, bound_to, status) in [("other", "another-host", 403), ("own", host, 202)] {
        let client = client(&firn, name, Some(bound_to)).await?;
        let request = reqwest::Client::new().post(&url).basic_auth(&client.id, Some(&client.secret));
        let answer = request.json(&answer).send().await?;
        ensure!(answer.status() == status, "{}", answer.text().await?);
    }
    let query = "select * from bronze.inventory where source = 'osquery'";
    let mut rows = Vec::new();
    let arrived = firn.eventually("it is in bronze", DEADLINE, |firn| {
        rows = firn.sql(query).unwrap_or_default();
        Ok(!rows.is_empty())
    });
    arrived.await?;
    let row = rows.pop().context("no row")?;
    for (column, field) in [
        ("host_id", "uuid"),
        ("hostname", "hostname"),
        ("serial_number", "hardware_serial"),
        ("cpu_count", "cpu_logical_cores"),
    ] {
        ensure!(row[column] == answer["host"][field] && !row[column].is_null(), "{column}: {row}");
    }
    ensure!(row["agent_name"] == "osquery" && !row["platform"].is_null(), "{row}");
    ensure!(
        row["extra"].as_str().unwrap_or_default().contains("policies"),
        "what has no field is kept: {row}"
    );
    Ok(())
}
