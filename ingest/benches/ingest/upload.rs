//! Who uploads: a process of its own, so that its time and memory count as nobody's.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, time::Instant};

use crate::records;

/// Records of one upload.
pub(crate) const BATCH: u64 = 100;
/// Bodies that are made before, and sent in turn.
const BODIES: u64 = 500;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct UploadArgs {
    /// The gateway's address
    pub(crate) gateway: SocketAddr,
    /// Of an operator
    pub(crate) token: String,
    /// Tenants that batches are of, in turn
    #[arg(long)]
    pub(crate) tenants: u64,
    /// Batches a second, sent when they are due whatever became of those before; as fast as answers come if 0
    #[arg(long)]
    pub(crate) rate: f64,
    #[arg(long)]
    pub(crate) seconds: u64,
    #[arg(long)]
    pub(crate) connections: usize,
}

/// What was seen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Uploaded {
    /// Records that were accepted.
    pub(crate) records: u64,
    /// Batches that got another answer.
    pub(crate) refused: u64,
    pub(crate) wall_s: f64,
    /// From when a batch was due, so that those that waited for a slow one count in full.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) longest_ms: f64,
}

struct Load {
    args: UploadArgs,
    bodies: Vec<Bytes>,
    next: AtomicU64,
    begun: Instant,
}

#[derive(Default)]
struct Seen {
    latencies: Vec<Duration>,
    refused: u64,
}

/// Uploads, and prints what was seen as JSON.
pub(crate) async fn run(args: &UploadArgs) -> Result<()> {
    let bodies = (0..BODIES).map(|batch| {
        let lines: Vec<_> = (batch * BATCH..(batch + 1) * BATCH).map(records::json).collect();
        Bytes::from(lines.join(&b'\n'))
    });
    let bodies = bodies.collect();
    let load = Arc::new(Load { args: args.clone(), bodies, next: AtomicU64::new(0), begun: Instant::now() });
    let clients: Vec<_> =
        (0..args.connections).map(|_| tokio::spawn(Arc::clone(&load).send_until_the_end())).collect();
    let mut seen = Seen::default();
    for client in clients {
        let one = client.await??;
        seen.latencies.extend(one.latencies);
        seen.refused += one.refused;
    }
    seen.latencies.sort_unstable();
    let quantile_ms = |q: f64| {
        let index = (seen.latencies.len() as f64 * q) as usize;
        seen.latencies.get(index).or(seen.latencies.last()).map_or(f64::NAN, |at| at.as_secs_f64() * 1_000.0)
    };
    let uploaded = Uploaded {
        records: seen.latencies.len() as u64 * BATCH,
        refused: seen.refused,
        wall_s: load.begun.elapsed().as_secs_f64(),
        p50_ms: quantile_ms(0.5),
        p99_ms: quantile_ms(0.99),
        longest_ms: quantile_ms(1.0),
    };
    println!("{}", serde_json::to_string(&uploaded)?);
    Ok(())
}

impl Load {
    async fn send_until_the_end(self: Arc<Self>) -> Result<Seen> {
        let stream = TcpStream::connect(self.args.gateway).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut seen = Seen::default();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let due = if self.args.rate > 0.0 {
                self.begun + Duration::from_secs_f64(number as f64 / self.args.rate)
            } else {
                Instant::now()
            };
            if due >= self.begun + Duration::from_secs(self.args.seconds) {
                return Ok(seen);
            }
            tokio::time::sleep_until(due).await;
            sender.ready().await?;
            let mut answer = sender.send_request(self.request(number)?).await.context("no answer")?;
            while let Some(frame) = answer.body_mut().frame().await {
                frame?;
            }
            match answer.status().as_u16() {
                202 => seen.latencies.push(due.elapsed()),
                _ => seen.refused += 1,
            }
        }
    }

    fn request(&self, number: u64) -> Result<Request<Full<Bytes>>> {
        let tenant = records::tenant(number % self.args.tenants);
        let body = self.bodies[usize::try_from(number % BODIES)?].clone();
        let request = Request::post(format!("/v1/tenants/{tenant}/inventory"))
            .header("host", "localhost")
            .header("authorization", format!("Bearer {}", self.args.token))
            .header("content-type", "application/x-ndjson");
        Ok(request.body(Full::new(body))?)
    }
}

/// Starts this program again to upload, and waits until it has.
pub(crate) async fn elsewhere(args: &UploadArgs) -> Result<Uploaded> {
    let mut command = tokio::process::Command::new(std::env::current_exe()?);
    command.arg("upload").arg(args.gateway.to_string()).arg(&args.token);
    command.arg("--tenants").arg(args.tenants.to_string()).arg("--rate").arg(args.rate.to_string());
    command.arg("--seconds").arg(args.seconds.to_string());
    command.arg("--connections").arg(args.connections.to_string());
    let output = command.kill_on_drop(true).output().await?;
    ensure!(output.status.success(), "uploading failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("what the uploading process said")
}
