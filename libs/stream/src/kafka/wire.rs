//! Requests that librdkafka has no safe call for, or that its callers can't authenticate by a token: sent over a connection of
//! our own, in Kafka's protocol.
//!
//! One connection is kept between requests. Bootstrap servers are asked one after another; any of them answers for all, since
//! brokers forward what their controller has to do (KRaft).

mod encoding;
mod sasl;
mod scram;

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{KafkaConfig, security::Security};
use crate::{StreamError, StreamErrorKind};

pub(super) use encoding::{Answer, Body};

/// How long one server may take.
const TIMEOUT: Duration = Duration::from_secs(35);

/// A sane answer about one topic is far smaller.
const MAX_ANSWER_BYTES: usize = 8 << 20;

const API_VERSIONS: Api = Api { key: 18, version: 2, flexible: false };

/// A kind of request, in one version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Api {
    pub(super) key: i16,
    pub(super) version: i16,
    /// Whether the version's headers have tagged fields.
    pub(super) flexible: bool,
}

/// See the module.
pub(super) struct Wire {
    config: KafkaConfig,
    idle: Mutex<Option<Connection>>,
}

/// Why a server gave no answer.
#[derive(Debug)]
enum Failure {
    Io(io::Error),
    /// It doesn't take who we are; or settings can't be used at all.
    Refused(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Wire {
    pub(super) fn new(config: KafkaConfig) -> Self {
        Self { config, idle: Mutex::default() }
    }

    /// Whether there is a broker, and lets us in.
    pub(super) async fn greet(&self) -> Result<(), StreamError> {
        let greeted = self.ask("connecting to Kafka", API_VERSIONS, &Body::default()).await;
        greeted.map(drop).map_err(|error| match error.kind {
            StreamErrorKind::Unavailable => {
                let servers = &self.config.bootstrap_servers;
                let message = format!(
                    "no Kafka broker answers at {servers}: {error}, and stream.bootstrap_servers and stream.tls"
                );
                StreamError::new(error.kind, message)
            }
            _ => error,
        })
    }

    /// The answer's body. `doing` begins the message of errors.
    pub(super) async fn ask(&self, doing: &str, api: Api, body: &Body) -> Result<Vec<u8>, StreamError> {
        let security = self.config.security.get();
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut connection) = kept.filter(|kept| !kept.security.is_stale_beside(&security))
            && let Ok(Ok(answer)) = tokio::time::timeout(TIMEOUT, connection.call(api, body)).await
        {
            self.keep(connection);
            return Ok(answer);
        }
        let mut reason = "no server is configured".to_owned();
        for server in self.config.bootstrap_servers.split(',').map(str::trim) {
            let asked = async {
                let mut connection = Connection::open(server, Arc::clone(&security)).await?;
                let answer = connection.call(api, body).await?;
                Ok::<_, Failure>((connection, answer))
            };
            match tokio::time::timeout(TIMEOUT, asked).await {
                Ok(Ok((connection, answer))) => {
                    self.keep(connection);
                    return Ok(answer);
                }
                Ok(Err(Failure::Refused(why))) => {
                    return Err(StreamError::new(
                        StreamErrorKind::Config,
                        format!("{doing} failed: {server} refuses: {why}; check stream.sasl and stream.tls"),
                    ));
                }
                Ok(Err(Failure::Io(error))) => reason = format!("{server}: {error}"),
                Err(_) => reason = format!("{server}: no answer in {} s", TIMEOUT.as_secs()),
            }
        }
        Err(StreamError::new(
            StreamErrorKind::Unavailable,
            format!("{doing} failed ({reason}): check the brokers"),
        ))
    }

    fn keep(&self, connection: Connection) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
    }
}

/// An answer that can't be what Kafka sends.
pub(super) fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the answer is not Kafka's, or TLS is expected")
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that knows who we are.
struct Connection {
    stream: Box<dyn Stream>,
    security: Arc<Security>,
}

impl Connection {
    async fn open(server: &str, security: Arc<Security>) -> Result<Self, Failure> {
        let tls = security.client_tls().map_err(|error| Failure::Refused(error.message))?;
        let tcp = TcpStream::connect(server).await?;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match tls {
            None => Box::new(tcp),
            Some(config) => {
                let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
                let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
                let name = name.map_err(|error| Failure::Refused(format!("'{host}' is no name: {error}")))?;
                Box::new(TlsConnector::from(Arc::new(config)).connect(name, tcp).await?)
            }
        };
        let mut connection = Self { stream, security: Arc::clone(&security) };
        if let Some(sasl) = &security.sasl {
            sasl::authenticate(&mut connection, sasl).await?;
        }
        Ok(connection)
    }

    async fn call(&mut self, api: Api, body: &Body) -> io::Result<Vec<u8>> {
        self.stream.write_all(&encoding::framed(api, body)).await?;
        self.stream.flush().await?;
        let length = usize::try_from(self.stream.read_i32().await?).unwrap_or(usize::MAX);
        if length > MAX_ANSWER_BYTES {
            return Err(malformed());
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).await?;
        let header = encoding::header_bytes(api, &answer).ok_or_else(malformed)?;
        answer.drain(..header);
        Ok(answer)
    }
}
