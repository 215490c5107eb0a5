//! `firn doctor`: what would keep the server from starting or working, and what to do about it.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Result, bail};
use firn_runtime::tls::{self, Tls, TlsError};
use tokio::net::{TcpListener, TcpStream, lookup_host};

use crate::{
    connection::FIRST_TENANT,
    data_dir::{self, DataDir},
    output,
    settings::{Backend, SecretUrl, Settings},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Below this much free space a log and a lake have no room to breathe.
const LOW_DISK_BYTES: u64 = 1 << 30;

/// Arguments of `firn doctor`.
#[derive(clap::Args)]
pub(crate) struct DoctorArgs {
    /// Data directory
    #[arg(long, value_name = "DIR", default_value = data_dir::DEFAULT)]
    data_dir: PathBuf,
    /// Configuration file (default: firn.toml in the data directory)
    #[arg(long, value_name = "FILE", env = "FIRN_CONFIG")]
    config: Option<PathBuf>,
}

/// One thing that was looked at.
struct Check {
    subject: String,
    /// What is fine, or what is wrong and what to do.
    verdict: Result<String, String>,
}

impl Check {
    fn new(subject: &str, verdict: Result<String, String>) -> Self {
        Self { subject: subject.to_owned(), verdict }
    }
}

/// Looks at everything, prints a line for each, and fails if one is wrong.
pub(crate) async fn run(args: &DoctorArgs) -> Result<()> {
    let dir = DataDir::new(&args.data_dir);
    let settings = Settings::load(args.config.as_deref(), &dir)?;
    output::line("ok    configuration: read, all keys known")?;
    let tls = Tls::of_server(&settings.tls);
    if let Ok(tls) = &tls {
        tls::install(tls);
    }
    let running = running_server(&dir).await;
    let mut checks = vec![data_directory(&dir), disk(&dir), listen(&settings, running.as_deref()).await];
    checks.push(Check::new("tls", certificate(&tls)));
    checks.push(storage(&settings, &dir).await);
    checks.push(database(&settings).await);
    checks.push(broker(&settings).await);
    match settings.elasticsearch_url() {
        Ok(None) => {}
        Ok(Some(url)) => checks.push(Check::new("elasticsearch", reach_url(url.as_str(), 9200).await)),
        Err(error) => checks.push(Check::new("elasticsearch", Err(format!("{error:#}")))),
    }
    if let Some(ballista) = &settings.maintenance.ballista {
        checks.push(Check::new("ballista", reach_url(&ballista.scheduler_url, 50050).await));
    }
    let mut wrong = 0;
    for check in &checks {
        match &check.verdict {
            Ok(text) => output::line(&format!("ok    {}: {text}", check.subject))?,
            Err(text) => {
                wrong += 1;
                output::line(&format!("WRONG {}: {text}", check.subject))?;
            }
        }
    }
    if wrong > 0 {
        bail!("{wrong} of {} checks failed", checks.len() + 1);
    }
    Ok(())
}

/// The URL of the server that runs on the directory, if one answers.
async fn running_server(dir: &DataDir) -> Option<String> {
    let server = dir.read_server_file().ok()??;
    let client = tls::inside().timeout(CONNECT_TIMEOUT).build().ok()?;
    let answer = client.get(format!("{}/health/ready", server.url)).send().await.ok()?;
    Some(format!("{} (HTTP {} from /health/ready)", server.url, answer.status().as_u16()))
}

fn data_directory(dir: &DataDir) -> Check {
    let shown = dir.root().display();
    let verdict = if !dir.root().exists() {
        Ok(format!("{shown} does not exist yet; 'firn up' creates it"))
    } else if rustix::fs::access(dir.root(), rustix::fs::Access::WRITE_OK).is_err() {
        Err(format!("{shown} is not writable: change its owner, or choose another with --data-dir"))
    } else {
        Ok(format!("{shown} is writable"))
    };
    Check::new("data directory", verdict)
}

fn disk(dir: &DataDir) -> Check {
    let existing = dir.root().ancestors().find(|path| path.exists());
    let free = existing.and_then(|path| rustix::fs::statvfs(path).ok()).map(|fs| fs.f_bavail * fs.f_frsize);
    let verdict = match free {
        Some(free) if free < LOW_DISK_BYTES => Err(format!("only {} MB are free: make room", free >> 20)),
        Some(free) => Ok(format!("{} MB are free", free >> 20)),
        None => Err("free space can't be read".to_owned()),
    };
    Check::new("disk", verdict)
}

async fn listen(settings: &Settings, running: Option<&str>) -> Check {
    let address = &settings.server.listen;
    let verdict = match (running, TcpListener::bind(address).await) {
        (Some(url), _) => Ok(format!("the server runs at {url}")),
        (None, Ok(_)) => Ok(format!("{address} is free")),
        (None, Err(error)) => {
            Err(format!("can't listen on {address}: {error}; stop who uses it, or set server.listen"))
        }
    };
    Check::new("port", verdict)
}

fn certificate(tls: &Result<Tls, TlsError>) -> Result<String, String> {
    let tls = tls.as_ref().map_err(ToString::to_string)?;
    Ok(if tls.serves() { "certificate and key fit and are valid" } else { "no certificate: plain HTTP" }
        .to_owned())
}

async fn storage(settings: &Settings, dir: &DataDir) -> Check {
    // Of buckets for each tenant, that of the one that is there from the start.
    let warehouse = settings.warehouse(dir).replace("{tenant}", FIRST_TENANT);
    let verdict = match (warehouse.strip_prefix("file://"), settings.storage_config()) {
        (_, Err(error)) => Err(format!("{error:#}")),
        (Some(path), _) if !std::path::Path::new(path).exists() => {
            Ok(format!("{warehouse} does not exist yet; 'firn up' creates it"))
        }
        (_, Ok(config)) => {
            match firn_table::FileIo::new(config).list(&format!("{warehouse}/.doctor")).await {
                Ok(_) => Ok(format!("{warehouse} can be listed")),
                Err(error) => Err(format!("{warehouse}: {error}; check [storage]")),
            }
        }
    };
    Check::new("storage", verdict)
}

async fn database(settings: &Settings) -> Check {
    let url = settings.catalog.database_url.as_ref().map(SecretUrl::resolve).transpose();
    let verdict = match url {
        Ok(Some(url)) if url.starts_with("postgres") => reach_url(&url, 5432).await,
        Ok(Some(url)) => Ok(format!("{url}, opened by 'firn up'")),
        Ok(None) => Ok("SQLite in the data directory".to_owned()),
        Err(error) => Err(format!("catalog.database_url: {error}")),
    };
    Check::new("database", verdict)
}

async fn broker(settings: &Settings) -> Check {
    let verdict = match (settings.stream.backend, &settings.stream.bootstrap_servers) {
        (Backend::Kafka, Some(servers)) => reach_any(servers).await,
        _ => Ok("embedded log in the data directory".to_owned()),
    };
    Check::new("broker", verdict)
}

async fn reach_any(servers: &str) -> Result<String, String> {
    let mut last = "no server given".to_owned();
    for server in servers.split(',').map(str::trim) {
        match reach(server).await {
            Ok(address) => return Ok(format!("{server} ({address}) answers")),
            Err(error) => last = format!("{server}: {error}; check stream.bootstrap_servers"),
        }
    }
    Err(last)
}

/// Never shows more of the URL than host and port: it may hold a password.
async fn reach_url(text: &str, default_port: u16) -> Result<String, String> {
    let url = url::Url::parse(text).map_err(|error| format!("no URL: {error}"))?;
    let host = url.host_str().ok_or("the URL has no host")?;
    let port = url.port_or_known_default().unwrap_or(default_port);
    match reach(&format!("{host}:{port}")).await {
        Ok(address) => Ok(format!("{host}:{port} ({address}) answers")),
        Err(error) => Err(format!("{host}:{port}: {error}; start it, or correct the URL")),
    }
}

async fn reach(host_and_port: &str) -> Result<SocketAddr, String> {
    let connect = async {
        let mut last = "the name has no address".to_owned();
        for address in lookup_host(host_and_port).await.map_err(|error| error.to_string())? {
            match TcpStream::connect(address).await {
                Ok(_) => return Ok(address),
                Err(error) => last = error.to_string(),
            }
        }
        Err(last)
    };
    let answer = tokio::time::timeout(CONNECT_TIMEOUT, connect).await;
    answer.unwrap_or_else(|_| Err(format!("no answer within {} s", CONNECT_TIMEOUT.as_secs())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn password_of_a_url_is_not_shown() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("postgres://firn:hunter2@127.0.0.1:{port}/firn");
        let fine = reach_url(&url, 5432).await.unwrap();
        drop(listener);
        let wrong = reach_url(&url, 5432).await.unwrap_err();
        assert!(fine.contains("answers") && !fine.contains("hunter2"), "{fine}");
        assert!(wrong.contains("start it") && !wrong.contains("hunter2"), "{wrong}");
    }

    #[tokio::test]
    async fn port_in_use_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = Settings::default();
        settings.server.listen = listener.local_addr().unwrap().to_string();
        let check = listen(&settings, None).await;
        assert!(check.verdict.unwrap_err().contains("server.listen"));
    }
}
