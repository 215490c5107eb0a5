//! A proxy before an HTTP server that lets requests fail as networks and servers let them fail.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, bail};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server answers.
    None,
    /// The proxy answers with this status, and the server hears nothing.
    Refuse(u16),
    /// The connection is reset, and the server hears nothing.
    Reset,
    /// The server acts, and the connection is reset instead of its answer.
    Lose,
    /// The server acts, and nobody hears its answer while the connection lasts.
    Silence,
    /// The server hears of it only after this time.
    Delay(Duration),
}

/// Method and path of a request decide on what becomes of it.
type Decide = Box<dyn FnMut(&Method, &str) -> Fault + Send>;

/// A running proxy. Dropping it closes its connections.
pub struct FaultProxy {
    address: SocketAddr,
    way: Arc<Way>,
    task: JoinHandle<()>,
}

struct Way {
    server: String,
    http: reqwest::Client,
    decide: Mutex<Decide>,
    met: AtomicUsize,
}

impl FaultProxy {
    /// Starts one on a free port before `server` (`http://host:port`), without faults.
    ///
    /// # Errors
    /// If there is no free port.
    pub async fn start(server: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let way = Arc::new(Way {
            server: server.to_owned(),
            // Bodies go through as they are.
            http: reqwest::Client::builder().no_gzip().no_proxy().build()?,
            decide: Mutex::new(Box::new(|_, _| Fault::None)),
            met: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&way)));
        Ok(Self { address, way, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on `decide` is asked what becomes of a request, by its method and path.
    pub fn decide(&self, decide: impl FnMut(&Method, &str) -> Fault + Send + 'static) {
        *self.way.decide.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(decide);
        self.way.met.store(0, Ordering::SeqCst);
    }

    /// From now on the server answers everything.
    pub fn heal(&self) {
        *self.way.decide.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(|_, _| Fault::None);
    }

    /// Requests that a fault befell since `decide`.
    #[must_use]
    pub fn met(&self) -> usize {
        self.way.met.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for FaultProxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FaultProxy").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, way: Arc<Way>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        // What is closed here is reset, not ended in order.
        if client.set_zero_linger().is_err() {
            continue;
        }
        let way = Arc::clone(&way);
        connections.spawn(async move {
            let service = service_fn(move |request| pass(Arc::clone(&way), request));
            // An error is how a connection is closed without an answer.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(client), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(way: Arc<Way>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let fault = {
        let mut decide = way.decide.lock().unwrap_or_else(PoisonError::into_inner);
        decide(request.method(), request.uri().path())
    };
    if fault != Fault::None {
        way.met.fetch_add(1, Ordering::SeqCst);
    }
    match fault {
        Fault::None => forward(&way, request).await,
        Fault::Refuse(status) => refuse(status, request).await,
        Fault::Reset => bail!("reset before the server heard of it"),
        Fault::Lose => {
            forward(&way, request).await?;
            bail!("reset after the server acted")
        }
        Fault::Silence => {
            forward(&way, request).await?;
            std::future::pending().await
        }
        Fault::Delay(time) => {
            tokio::time::sleep(time).await;
            forward(&way, request).await
        }
    }
}

/// As S3 says it.
async fn refuse(status: u16, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    request.into_body().collect().await?;
    let body = "<Error><Code>Fault</Code><Message>refused by the proxy</Message></Error>";
    let mut answer = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *answer.status_mut() = StatusCode::from_u16(status)?;
    Ok(answer)
}

async fn forward(way: &Way, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let is_head = head.method == Method::HEAD;
    let body = body.collect().await?.to_bytes();
    // The host stays the one that the client signed.
    let forwarded = way.http.request(head.method, format!("{}{path}", way.server)).headers(head.headers);
    let answered = forwarded.body(body).send().await?;
    let (status, mut headers) = (answered.status(), answered.headers().clone());
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONNECTION);
    if !is_head {
        headers.remove(header::CONTENT_LENGTH);
    }
    let mut answer = Response::new(Full::new(answered.bytes().await?));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    Ok(answer)
}
