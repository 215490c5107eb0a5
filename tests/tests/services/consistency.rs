//! Two catalogs over one database, killed and cut off while many clients commit, merge and read: afterwards the history is
//! checked, as of a register that one copy of a catalog would be.

#[path = "consistency/history.rs"]
mod history;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use firn_tests::{Services, free_port, until};
use rand::{Rng as _, SeedableRng, rngs::StdRng};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use history::{Committed, History, Outcome, Read, Write, check};

const CLIENTS: u64 = 8;
const KEYS: u64 = 12;
const ROUNDS: u64 = 4;
/// Between two faults: the length of the test, not a wait for something.
const CALM: Duration = Duration::from_millis(1_500);
const ANSWER: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_commits_are_there_once_and_reads_saw_states_that_existed_in_order() -> Result<()> {
    let ports = [free_port()?, free_port()?];
    let urls = ports.map(|port| format!("http://127.0.0.1:{port}"));
    let mut servers = Services::prepare(&[("catalog.url", &urls[0])]).await?;
    let launch =
        |servers: &Services, number: usize| servers.launch("catalog", ports[number], ["0", "1"][number], &[]);
    let mut catalogs = vec![launch(&servers, 0)?, launch(&servers, 1)?];
    for catalog in &mut catalogs {
        catalog.ready().await?;
    }
    servers.open_tenant(&urls[0], "acme")?;
    let token = servers.env.get("FIRN_TOKEN").context("no token")?.clone();

    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let client = Client::new(number, &urls, &token)?;
            Ok(tokio::spawn(client.work(Arc::clone(&stop))))
        })
        .collect::<Result<_>>()?;
    for round in 0..ROUNDS {
        tokio::time::sleep(CALM).await;
        let victim = usize::try_from(round % 2)?;
        // Dropping it kills it.
        drop(catalogs.remove(victim));
        catalogs.insert(victim, launch(&servers, victim)?);
        tokio::time::sleep(CALM).await;
        servers.postgres.kill()?;
        servers.postgres.restart().await?;
        for catalog in &mut catalogs {
            catalog.ready().await?;
        }
    }
    tokio::time::sleep(CALM).await;
    stop.store(true, Ordering::Relaxed);

    let mut history = History::default();
    for client in clients {
        let found = client.await??;
        history.reads.extend(found.reads);
        history.writes.extend(found.writes);
    }
    let log = Client::new(CLIENTS, &urls, &token)?.log().await?;
    let count = |wanted| history.writes.iter().filter(|write| write.outcome == wanted).count();
    let (acknowledged, unknown) = (count(Outcome::Acknowledged), count(Outcome::Unknown));
    ensure!(acknowledged > 100 && history.reads.len() > 100, "{acknowledged} commits: too few to tell");
    ensure!(unknown > 0, "no fault hit a commit");
    check(&log, &history)
}

/// Somebody who commits, merges and reads through whichever catalog answers.
struct Client {
    http: reqwest::Client,
    urls: [String; 2],
    token: String,
    random: StdRng,
    number: u64,
    history: History,
}

/// An answer, or none that tells anything.
enum Answer {
    Done(Value),
    Refused,
    Unknown,
}

impl Client {
    fn new(number: u64, urls: &[String; 2], token: &str) -> Result<Self> {
        Ok(Self {
            http: reqwest::Client::builder().timeout(ANSWER).build()?,
            urls: urls.clone(),
            token: token.to_owned(),
            random: StdRng::seed_from_u64(number),
            number,
            history: History::default(),
        })
    }

    async fn work(mut self, stop: Arc<AtomicBool>) -> Result<History> {
        let mut turn = 0;
        while !stop.load(Ordering::Relaxed) {
            turn += 1;
            let Some(read) = self.read().await? else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let value = format!("{}-{turn}", self.number);
            match self.random.random_range(0..4) {
                0 => {}
                1 => self.merge(&read, value).await?,
                _ => self.commit(&read, value).await?,
            }
            self.history.reads.push(read);
        }
        Ok(self.history)
    }

    /// The state of main, if it was answered.
    async fn read(&mut self) -> Result<Option<Read>> {
        let began = Instant::now();
        let Answer::Done(answer) =
            self.ask(Method::GET, "main/entries?content=true&max-records=1000", None).await?
        else {
            return Ok(None);
        };
        let ended = Instant::now();
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        let hash = text(&answer["effectiveReference"]["hash"]).context("no hash")?;
        let entries = answer["entries"].as_array().context("no entries")?;
        let state = entries.iter().map(|entry| {
            let content = &entry["content"];
            Some((text(&entry["name"]["elements"][0])?, (text(&content["value"])?, text(&content["id"])?)))
        });
        let state = state.collect::<Option<_>>().with_context(|| format!("an odd state: {answer}"))?;
        Ok(Some(Read { began, ended, hash, state }))
    }

    async fn commit(&mut self, seen: &Read, value: String) -> Result<()> {
        let operation = self.operation(seen, &value);
        let began = Instant::now();
        let answer = self.commit_to("main", &seen.hash, &value, operation).await?;
        self.note(began, value, &answer);
        Ok(())
    }

    async fn merge(&mut self, seen: &Read, value: String) -> Result<()> {
        let (branch, operation) = (format!("b{value}"), self.operation(seen, &value));
        let at = json!({"type": "BRANCH", "name": "main", "hash": seen.hash});
        let create = format!("?name={branch}&type=BRANCH");
        let Answer::Done(_) = self.ask(Method::POST, &create, Some(at)).await? else { return Ok(()) };
        let Answer::Done(made) = self.commit_to(&branch, &seen.hash, &value, operation).await? else {
            return Ok(());
        };
        let from = &made["targetBranch"]["hash"];
        let began = Instant::now();
        let path = format!("main@{}/history/merge", seen.hash);
        let body = json!({"fromRefName": branch, "fromHash": from});
        let answer = self.ask(Method::POST, &path, Some(body)).await?;
        self.note(began, value, &answer);
        Ok(())
    }

    async fn commit_to(&mut self, branch: &str, hash: &str, value: &str, operation: Value) -> Result<Answer> {
        let body = json!({"commitMeta": {"message": value}, "operations": [operation]});
        self.ask(Method::POST, &format!("{branch}@{hash}/history/commit"), Some(body)).await
    }

    /// Sets one key to a value that nobody else sets.
    fn operation(&mut self, seen: &Read, value: &str) -> Value {
        let key = format!("k{}", self.random.random_range(0..KEYS));
        let mut content = json!({"type": "TEST", "value": value});
        if let Some((_, id)) = seen.state.get(&key) {
            content["id"] = json!(id);
        }
        json!({"type": "PUT", "key": {"elements": [key]}, "content": content})
    }

    fn note(&mut self, began: Instant, value: String, answer: &Answer) {
        let outcome = match answer {
            Answer::Done(_) => Outcome::Acknowledged,
            Answer::Refused => Outcome::Refused,
            Answer::Unknown => Outcome::Unknown,
        };
        self.history.writes.push(Write { began, ended: Instant::now(), value, outcome });
    }

    /// One request to one of the catalogs, once.
    async fn ask(&mut self, method: Method, path: &str, body: Option<Value>) -> Result<Answer> {
        let url = &self.urls[self.random.random_range(0..self.urls.len())];
        let separator = if path.starts_with('?') { "" } else { "/" };
        let url = format!("{url}/nessie/acme/api/v2/trees{separator}{path}");
        let mut request = self.http.request(method, url).bearer_auth(&self.token);
        if let Some(body) = &body {
            request = request.json(body);
        }
        let Ok(answer) = request.send().await else { return Ok(Answer::Unknown) };
        let status = answer.status();
        let Ok(text) = answer.text().await else { return Ok(Answer::Unknown) };
        match status {
            StatusCode::OK => Ok(Answer::Done(serde_json::from_str(&text)?)),
            StatusCode::CONFLICT => Ok(Answer::Refused),
            status if status.is_server_error() => Ok(Answer::Unknown),
            status => bail!("{path}: {status} {text}"),
        }
    }

    /// All of main's history, oldest first.
    async fn log(mut self) -> Result<Vec<Committed>> {
        let mut log = Vec::new();
        let mut page = String::new();
        loop {
            let path = format!("main/history?fetch=ALL&max-records=500{page}");
            let answer = until("the log is answered", Duration::from_secs(60), async || {
                match self.ask(Method::GET, &path, None).await? {
                    Answer::Done(answer) => Ok(answer),
                    _ => bail!("no answer"),
                }
            })
            .await?;
            for entry in answer["logEntries"].as_array().context("no log")? {
                let puts = entry["operations"].as_array().into_iter().flatten().map(|operation| {
                    let key = operation["key"]["elements"][0].as_str()?.to_owned();
                    Some((key, operation["content"]["value"].as_str()?.to_owned()))
                });
                let puts = puts.collect::<Option<_>>().with_context(|| format!("an odd commit: {entry}"))?;
                let hash = entry["commitMeta"]["hash"].as_str().context("no hash")?.to_owned();
                log.push(Committed { hash, puts });
            }
            let Some(token) = answer["token"].as_str() else { break };
            page = format!("&page-token={token}");
        }
        log.reverse();
        Ok(log)
    }
}
