//! Firn's services as processes of their own, over PostgreSQL, Kafka and S3.

use std::{collections::BTreeMap, path::PathBuf, process::Command, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Authority, Certificate, Kafka, Postgres, Process, SeaweedFs, firn_binary, firn_process::program_command,
    free_port,
};

const READY_DEADLINE: Duration = Duration::from_secs(180);
const BUCKET: &str = "lake";

/// The servers that the services share, their configuration, and a client's view of them.
pub struct Services {
    /// The catalog's database.
    pub postgres: Postgres,
    /// The log.
    pub kafka: Kafka,
    /// The tables' files.
    pub s3: SeaweedFs,
    /// What `firn env` printed, with what reading the bucket takes.
    pub env: BTreeMap<String, String>,
    /// Variables of every service that is launched.
    pub variables: Vec<(&'static str, String)>,
    /// What is run from here on, services and commands; the built one at first.
    pub program: PathBuf,
    /// If the services speak TLS.
    tls: Option<(Authority, Certificate)>,
    http: reqwest::Client,
    dir: TempDir,
}

/// One service. Dropping it kills it.
#[derive(Debug)]
pub struct ServiceProcess {
    name: &'static str,
    url: String,
    port: u16,
    http: reqwest::Client,
    instance: String,
    process: Process,
}

impl Services {
    /// Starts the servers; no service runs yet. `urls` are those of the services, as keys and values of the configuration.
    ///
    /// # Errors
    /// If a server isn't installed or doesn't start.
    pub async fn prepare(urls: &[(&str, &str)]) -> Result<Self> {
        let (postgres, kafka, s3) = tokio::try_join!(Postgres::start(), Kafka::start(), SeaweedFs::start())?;
        s3.create_bucket(BUCKET).await?;
        let dir = tempfile::tempdir()?;
        let (env, variables, http) = (BTreeMap::new(), Vec::new(), reqwest::Client::new());
        let program = firn_binary()?;
        let services = Self { postgres, kafka, s3, env, variables, program, tls: None, http, dir };
        services.configure(urls)?;
        Ok(services)
    }

    fn configure(&self, urls: &[(&str, &str)]) -> Result<()> {
        let key = Command::new("openssl").args(["genpkey", "-algorithm", "ed25519"]).output()?;
        ensure!(key.status.success(), "openssl makes no key: {}", String::from_utf8_lossy(&key.stderr));
        let key_file = self.dir.path().join("signing.pem");
        std::fs::write(&key_file, key.stdout)?;
        let urls: String = urls.iter().map(|(key, url)| format!("{key} = \"{url}\"\n")).collect();
        let settings = format!(
            "{urls}server.linger = \"1s\"\n\
             auth.signing_key = \"file:{}\"\n\
             catalog.database_url = \"{}\"\n\
             storage.warehouse = \"s3://{BUCKET}/firn\"\n\
             storage.endpoint = \"{}\"\n\
             storage.region = \"us-east-1\"\n\
             storage.path_style = true\n\
             storage.access_key_id = \"env:LAKE_KEY\"\n\
             storage.secret_access_key = \"env:LAKE_SECRET\"\n\
             stream.backend = \"kafka\"\n\
             stream.bootstrap_servers = \"{}\"\n\
             stream.replication = 1\n\
             ingest.commit_interval = \"1s\"\n\
             promotion.interval = \"1s\"\n",
            key_file.display(),
            self.postgres.url(),
            self.s3.endpoint(),
            self.kafka.bootstrap_servers(),
        );
        Ok(std::fs::write(self.config(), settings)?)
    }

    /// Before any service is launched: all of them, and the database, show certificates of an authority of their own and ask
    /// their clients for one; Kafka shows one and asks for a name and a password.
    ///
    /// # Errors
    /// If certificates can't be made, or PostgreSQL doesn't start with them.
    pub async fn speak_tls(&mut self) -> Result<()> {
        let authority = Authority::new()?;
        let shown = authority.issue("firn", &["IP:127.0.0.1"])?;
        self.postgres.require_tls(&authority.issue("postgres", &["IP:127.0.0.1"])?).await?;
        let ca = authority.file().display().to_string();
        let settings = std::fs::read_to_string(self.config())?;
        let plain = self.postgres.url();
        let settings = settings.replace(&plain, &format!("{plain}?sslmode=verify-full&sslrootcert={ca}"));
        let brokers = self.kafka.bootstrap_servers();
        self.kafka = Kafka::secured(&authority).await?;
        let settings = settings.replace(&brokers, &self.kafka.sasl_servers());
        let (user, password) = Kafka::CREDENTIALS;
        let password_file = self.dir.path().join("kafka-password");
        std::fs::write(&password_file, password)?;
        let stream = format!(
            "stream.tls = true\nstream.sasl.mechanism = \"SCRAM-SHA-512\"\nstream.sasl.username = \"{user}\"\n\
             stream.sasl.password = \"file:{}\"\n",
            password_file.display(),
        );
        let tls = format!(
            "tls.certificate = \"file:{}\"\ntls.key = \"file:{}\"\ntls.client_ca = \"file:{ca}\"\n\
             tls.ca = \"file:{ca}\"\n",
            shown.certificate.display(),
            shown.key.display(),
        );
        std::fs::write(self.config(), settings + &tls + &stream)?;
        let identity = [std::fs::read(&shown.certificate)?, std::fs::read(&shown.key)?].concat();
        self.http = reqwest::Client::builder()
            .add_root_certificate(reqwest::Certificate::from_pem(&std::fs::read(authority.file())?)?)
            .identity(reqwest::Identity::from_pem(&identity)?)
            .build()?;
        self.tls = Some((authority, shown));
        Ok(())
    }

    /// The authority of the services' certificates and what they show, if they speak TLS.
    #[must_use]
    pub fn tls(&self) -> Option<&(Authority, Certificate)> {
        self.tls.as_ref()
    }

    /// A client that every service answers.
    #[must_use]
    pub fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Before any service is launched: they reach S3 by way of `url`.
    ///
    /// # Errors
    /// If the configuration can't be written.
    pub fn reach_s3_at(&self, url: &str) -> Result<()> {
        let settings = std::fs::read_to_string(self.config())?;
        Ok(std::fs::write(self.config(), settings.replace(&self.s3.endpoint(), url))?)
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("firn.toml")
    }

    /// A folder for the test's own files.
    #[must_use]
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// A command of the program with this configuration's secrets.
    ///
    /// # Errors
    /// If the program isn't there.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        ensure!(self.program.exists(), "there is no {}", self.program.display());
        let mut command = program_command(&self.program, args);
        command.envs([("LAKE_KEY", SeaweedFs::ACCESS_KEY), ("LAKE_SECRET", SeaweedFs::SECRET_KEY)]);
        Ok(command)
    }

    /// Launches `firn NAME serve` without waiting for anything. `variables` are settings of this process alone.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn launch(
        &self,
        name: &'static str,
        port: u16,
        instance: &str,
        variables: &[(&str, &str)],
    ) -> Result<ServiceProcess> {
        let mut command = self.command(&[name, "serve", "--config"])?;
        command.arg(self.config()).args(["--listen", &format!("127.0.0.1:{port}")]);
        command.env("FIRN_SERVER__INSTANCE", instance);
        command.envs(self.variables.iter().map(|(name, value)| (*name, value)));
        command.envs(variables.iter().copied());
        let log = self.dir.path().join(format!("{name}-{instance}.log"));
        let process = Process::start(&format!("firn {name} serve ({instance})"), &mut command, &log)?;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://127.0.0.1:{port}");
        Ok(ServiceProcess {
            name,
            url,
            port,
            http: self.http.clone(),
            instance: instance.to_owned(),
            process,
        })
    }

    /// Launches a service on a free port and waits until it is ready.
    ///
    /// # Errors
    /// If it doesn't get ready.
    pub async fn start(&self, name: &'static str, instance: &str) -> Result<ServiceProcess> {
        let mut service = self.launch(name, free_port()?, instance, &[])?;
        service.ready().await?;
        Ok(service)
    }

    /// Stops a service in order, which must end well, and starts it again at the same place.
    ///
    /// # Errors
    /// If it ends badly or doesn't get ready again.
    pub async fn restart(&self, service: &mut ServiceProcess) -> Result<()> {
        service.stop().await?;
        *service = self.launch(service.name, service.port, &service.instance, &[])?;
        service.ready().await
    }

    /// Creates a tenant and keeps what clients of `url` need.
    ///
    /// # Errors
    /// If the services refuse.
    pub fn open_tenant(&mut self, url: &str, tenant: &str) -> Result<()> {
        let mut env = self.mint(url, "firn")?;
        let operator = env.remove("FIRN_OPERATOR_TOKEN").context("an operator's token")?;
        let mut create = self.command(&["tenant", "create", tenant])?;
        stdout(create.envs(env).env("FIRN_TOKEN", operator))?;
        self.renew_tokens(url, tenant)
    }

    /// Keeps what clients of a tenant need, with fresh tokens.
    ///
    /// # Errors
    /// If the services don't know them.
    pub fn renew_tokens(&mut self, url: &str, tenant: &str) -> Result<()> {
        self.env = self.mint(url, tenant)?;
        for (name, value) in
            [("AWS_ACCESS_KEY_ID", SeaweedFs::ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SeaweedFs::SECRET_KEY)]
        {
            self.env.insert(name.to_owned(), value.to_owned());
        }
        Ok(())
    }

    fn mint(&self, url: &str, tenant: &str) -> Result<BTreeMap<String, String>> {
        let config = self.config().display().to_string();
        let args = ["env", "--json", "--config", &config, "--url", url, "--tenant", tenant];
        Ok(serde_json::from_str(&stdout(&mut self.command(&args)?)?)?)
    }

    /// Runs a client command to its end.
    ///
    /// # Errors
    /// If it fails, with all that it said.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        stdout(self.command(args)?.envs(&self.env))
    }

    /// The rows of a query.
    ///
    /// # Errors
    /// If it fails.
    pub fn sql(&self, query: &str) -> Result<Vec<Value>> {
        Ok(serde_json::from_str(&self.run(&["sql", query, "--format", "json"])?)?)
    }

    /// Asks until the one number that a query answers isn't 0.
    ///
    /// # Errors
    /// After the deadline, with the last answer.
    pub async fn until_some(&self, query: &str, deadline: Duration) -> Result<()> {
        self.until_number(query, deadline, |number| number != 0).await
    }

    /// Asks until the one number that a query answers is `wanted`.
    ///
    /// # Errors
    /// After the deadline, with the last answer.
    pub async fn until_count(&self, query: &str, wanted: i64, deadline: Duration) -> Result<()> {
        let counted = self.until_number(query, deadline, |number| number == wanted).await;
        counted.with_context(|| format!("wanted {wanted}"))
    }

    async fn until_number(
        &self,
        query: &str,
        deadline: Duration,
        is_right: impl Fn(i64) -> bool,
    ) -> Result<()> {
        crate::until(query, deadline, async || {
            let rows = self.sql(query).map_err(|error| format!("{error:#}"))?;
            let number = rows.first().and_then(|row| row.as_object()?.values().next()?.as_i64());
            if number.is_some_and(&is_right) { Ok(()) } else { Err(format!("{number:?}")) }
        })
        .await
    }
}

fn stdout(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{command:?} ended with {}\n{stdout}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(stdout)
}

impl ServiceProcess {
    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// If it ends, or isn't ready in time.
    pub async fn ready(&mut self) -> Result<()> {
        let (url, http) = (format!("{}/health/ready", self.url), self.http.clone());
        self.process
            .ready(READY_DEADLINE, async || {
                let answer = http.get(&url).send().await?;
                let (status, text) = (answer.status(), answer.text().await?);
                if status.is_success() { Ok(()) } else { bail!("{status} {text}") }
            })
            .await
    }

    /// Waits until it lives, isn't ready, and the reason that it gives holds `what`.
    ///
    /// # Errors
    /// If it ends, or says something else.
    pub async fn waits_for(&mut self, what: &str) -> Result<()> {
        let (url, http) = (self.url.clone(), self.http.clone());
        self.process
            .ready(READY_DEADLINE, async || {
                let live = http.get(format!("{url}/health/live")).send().await?.status();
                ensure!(live.is_success(), "/health/live answers {live}");
                let answer = http.get(format!("{url}/health/ready")).send().await?;
                let (status, body): (_, Value) = (answer.status(), answer.json().await?);
                let reason = body["for"].as_str().unwrap_or_default();
                ensure!(status == 503 && reason.contains(what), "{status} {body}");
                Ok(())
            })
            .await
    }

    /// TERM; it must end by itself and well.
    ///
    /// # Errors
    /// If it doesn't.
    pub async fn stop(&mut self) -> Result<()> {
        let status = self.process.stop().await?;
        ensure!(status.success(), "firn {} serve ended with {status}\n{}", self.name, self.process.output());
        Ok(())
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill().map(drop)
    }

    /// Its log.
    #[must_use]
    pub fn output(&self) -> String {
        self.process.output()
    }
}
