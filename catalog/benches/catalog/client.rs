//! Clients with one connection each, that send their next request when the last one is answered.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Makes the request of a client's number and its turn.
pub(crate) type Request = Arc<dyn Fn(usize, usize) -> hyper::Request<Full<Bytes>> + Send + Sync>;

/// Answers before this are not counted: connections, caches and prepared statements are made then.
const WARM_UP: Duration = Duration::from_millis(300);

struct Load {
    clients: usize,
    duration: Duration,
}

/// What was seen.
pub(crate) struct Sample {
    duration: Duration,
    /// Of the successful answers, sorted.
    latencies: Vec<Duration>,
    answers: BTreeMap<u16, usize>,
}

impl Sample {
    /// Both as one.
    fn join(&mut self, other: Self) {
        self.duration += other.duration;
        self.latencies.extend(other.latencies);
        self.latencies.sort_unstable();
        for (status, count) in other.answers {
            *self.answers.entry(status).or_default() += count;
        }
    }

    /// Successful answers (2xx and 304) in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.duration.as_secs_f64()
    }

    pub(crate) fn quantile_ms(&self, q: f64) -> f64 {
        let index = (self.latencies.len() as f64 * q) as usize;
        self.latencies.get(index).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1000.0)
    }

    /// `200:1234 409:5`
    pub(crate) fn statuses(&self) -> String {
        let all: Vec<String> =
            self.answers.iter().map(|(status, count)| format!("{status}:{count}")).collect();
        all.join(" ")
    }
}

/// Rounds in which sides take turns.
const ROUNDS: u32 = 5;

/// Something to be measured beside others.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) clients: usize,
    pub(crate) server: SocketAddr,
    pub(crate) request: Request,
}

/// Measures each side for so long, in turns, so that what else the machine and its disk do meets all of them.
pub(crate) async fn measure(duration: Duration, sides: &[Side]) -> Result<Vec<Sample>> {
    let mut samples: Vec<Sample> = Vec::new();
    for round in 0..ROUNDS {
        for (at, side) in sides.iter().enumerate() {
            let load = Load { clients: side.clients, duration: duration / ROUNDS };
            let sample = measure_once(load, side.server, Arc::clone(&side.request)).await?;
            if round == 0 { samples.push(sample) } else { samples[at].join(sample) }
        }
    }
    Ok(samples)
}

/// Runs the clients for as long as the load says.
async fn measure_once(load: Load, server: SocketAddr, request: Request) -> Result<Sample> {
    let begin = Instant::now() + WARM_UP;
    let end = begin + load.duration;
    let clients: Vec<_> = (0..load.clients)
        .map(|number| tokio::spawn(run(number, server, Arc::clone(&request), begin, end)))
        .collect();
    let mut sample = Sample { duration: load.duration, latencies: Vec::new(), answers: BTreeMap::new() };
    for client in clients {
        for (status, latency) in client.await?? {
            *sample.answers.entry(status).or_default() += 1;
            if matches!(status, 200..300 | 304) {
                sample.latencies.push(latency);
            }
        }
    }
    sample.latencies.sort_unstable();
    Ok(sample)
}

async fn run(
    number: usize,
    server: SocketAddr,
    request: Request,
    begin: Instant,
    end: Instant,
) -> Result<Vec<(u16, Duration)>> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut seen = Vec::new();
    for turn in 0.. {
        let sent = Instant::now();
        if sent >= end {
            break;
        }
        sender.ready().await?;
        let mut answer = sender.send_request(request(number, turn)).await.context("no answer")?;
        while let Some(frame) = answer.body_mut().frame().await {
            frame?;
        }
        if sent >= begin {
            seen.push((answer.status().as_u16(), sent.elapsed()));
        }
    }
    Ok(seen)
}
