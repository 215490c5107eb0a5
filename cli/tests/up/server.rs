//! Starting the binary that was just built.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use reqwest::{Certificate, Client, Response, redirect::Policy};

/// A running server; killed if the test ends before it was stopped.
pub(crate) struct Server {
    process: Child,
    http: Client,
    pub(crate) url: String,
    /// All it printed until it was ready.
    pub(crate) banner: String,
}

impl Server {
    /// Starts on a free port and waits until it said that it is ready.
    pub(crate) async fn start(data: &Path) -> Self {
        Self::start_trusted(data, &[]).await
    }

    /// The same of one that shows a certificate of one of these authorities.
    pub(crate) async fn start_trusted(data: &Path, authorities: &[PathBuf]) -> Self {
        let mut process = command(data, &["up", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        // The banner's last line; a server that dies before closes its output.
        let read = move || {
            let mut banner = String::new();
            for line in output.lines().map_while(Result::ok) {
                banner = banner + &line + "\n";
                if line.trim_start().starts_with("spark-sql") {
                    break;
                }
            }
            banner
        };
        let banner = tokio::task::spawn_blocking(read).await.unwrap();
        let gateway = banner.lines().find_map(|line| line.trim().strip_prefix("Gateway")).unwrap_or_default();
        let url = gateway.trim().split("/v1/").next().unwrap_or_default().to_owned();
        let scheme = if authorities.is_empty() { "http" } else { "https" };
        assert!(url.starts_with(&format!("{scheme}://127.0.0.1:")), "no server, but: {banner}");
        let http = authorities.iter().fold(Client::builder().redirect(Policy::none()), |http, authority| {
            http.add_root_certificate(Certificate::from_pem(&std::fs::read(authority).unwrap()).unwrap())
        });
        // Each request meets the certificate that is shown now.
        let http = http.pool_max_idle_per_host(0).build().unwrap();
        Self { process, http, url, banner }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) async fn get(&self, path: &str, token: Option<&str>) -> Response {
        let request = self.http.get(format!("{}{path}", self.url));
        token.into_iter().fold(request, |request, token| request.bearer_auth(token)).send().await.unwrap()
    }

    pub(crate) async fn get_with_cookie(&self, path: &str, cookie: &str) -> Response {
        self.http.get(format!("{}{path}", self.url)).header("cookie", cookie).send().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, token: &str, body: &serde_json::Value) -> Response {
        let request = self.http.post(format!("{}{path}", self.url)).bearer_auth(token);
        request.json(body).send().await.unwrap()
    }

    /// Says that its files changed.
    pub(crate) fn hang_up(&self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    }

    /// Asks it to end, and expects that it does so in order.
    pub(crate) fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.process.wait().unwrap();
        assert!(status.success(), "ended with {status}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Runs a command on a data directory to its end.
pub(crate) fn firn(data: &Path, arguments: &[&str]) -> Output {
    command(data, arguments).output().unwrap()
}

/// Standard output of a command that must succeed.
pub(crate) fn stdout_of(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a command that must end with `status`.
pub(crate) fn stderr_of(output: Output, status: i32) -> String {
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{text}");
    text
}

fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = bare_command(arguments);
    command.arg("--data-dir").arg(data);
    command
}

/// A command that sees nothing of this process's variables, and is told of no server.
pub(crate) fn bare_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firn"));
    for name in ["FIRN_URL", "FIRN_TOKEN", "FIRN_TENANT", "FIRN_CONFIG", "FIRN_CA"] {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}
