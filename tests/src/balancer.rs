//! A load balancer, as a cluster has one: connections go to replicas that say they are ready.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// How often replicas are asked; shorter than the time that a stopping one goes on.
const ASK: Duration = Duration::from_millis(200);

/// A running balancer. Dropping it closes its connections.
#[derive(Debug)]
pub struct Balancer {
    url: String,
    task: JoinHandle<()>,
}

impl Balancer {
    /// Starts one on a free port over replicas on ports of this machine.
    ///
    /// # Errors
    /// If there is no free port.
    pub async fn start(replicas: &[u16]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let replicas: Arc<[u16]> = replicas.into();
        let task = tokio::spawn(accept(listener, replicas));
        Ok(Self { url, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, replicas: Arc<[u16]>) {
    // Bit by bit who is ready.
    let ready = Arc::new(AtomicUsize::new(0));
    let mut connections = tokio::task::JoinSet::new();
    connections.spawn(watch(Arc::clone(&replicas), Arc::clone(&ready)));
    let mut turn = 0_usize;
    while let Ok((mut client, _)) = listener.accept().await {
        let now = ready.load(Ordering::SeqCst);
        turn += 1;
        let chosen = (0..replicas.len())
            .map(|step| (turn + step) % replicas.len())
            .find(|index| now & (1 << index) != 0)
            .map(|index| replicas[index]);
        // Nobody is ready: the connection is closed, as a cluster's would be.
        let Some(port) = chosen else { continue };
        connections.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await {
                // Either side may go at any time.
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}

async fn watch(replicas: Arc<[u16]>, ready: Arc<AtomicUsize>) {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(2)).pool_max_idle_per_host(0).build();
    let Ok(http) = http else { return };
    loop {
        for (index, port) in replicas.iter().enumerate() {
            let answer = http.get(format!("http://127.0.0.1:{port}/health/ready")).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                ready.fetch_or(1 << index, Ordering::SeqCst);
            } else {
                ready.fetch_and(!(1 << index), Ordering::SeqCst);
            }
        }
        tokio::time::sleep(ASK).await;
    }
}
