//! A port that speaks TLS alone. Handshakes run beside each other, so that a slow client holds up nobody, and are bounded.

use std::{io, net::SocketAddr, time::Duration};

use axum::serve::Listener;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{Tls, validity};
use crate::http::{ErrorBody, ErrorDetail};

/// Whoever takes longer isn't let in.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections that may be in their handshake; more wait in the system's queue.
const MAX_HANDSHAKES: usize = 512;
/// The first byte of a TLS record that begins a handshake.
const HANDSHAKE_RECORD: u8 = 0x16;
/// Of a request that is refused, what is read so that the refusal arrives.
const MAX_REFUSED_BYTES: u64 = 64 * 1024;

/// Accepts connections whose handshake went well, with the certificate of the moment.
pub struct TlsListener {
    tcp: TcpListener,
    tls: Tls,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
}

/// Why a connection never came to be.
enum Refused {
    Plain,
    TooSlow,
    Failed(io::Error),
}

impl TlsListener {
    /// TLS on a port. Without a certificate every connection is refused.
    #[must_use]
    pub fn new(tcp: TcpListener, tls: Tls) -> Self {
        Self { tcp, tls, handshakes: JoinSet::new() }
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                Some(ended) = self.handshakes.join_next() => if let Ok(Some(connection)) = ended {
                    return connection;
                },
                (stream, peer) = Listener::accept(&mut self.tcp), if self.handshakes.len() < MAX_HANDSHAKES => {
                    self.handshakes.spawn(welcome(self.tls.clone(), stream, peer));
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

async fn welcome(
    tls: Tls,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<(TlsStream<TcpStream>, SocketAddr)> {
    let shaken = timeout(HANDSHAKE, shake(&tls, stream)).await.unwrap_or(Err(Refused::TooSlow));
    let (reason, error) = match shaken {
        Ok(stream) => return Some((stream, peer)),
        Err(Refused::Plain) => ("plain", None),
        Err(Refused::TooSlow) => ("timeout", None),
        Err(Refused::Failed(error)) => ("failed", Some(error)),
    };
    metrics::counter!("firn_tls_refused_total", "reason" => reason).increment(1);
    tracing::debug!(%peer, reason, error = error.map(tracing::field::display), "no TLS handshake");
    None
}

async fn shake(tls: &Tls, mut stream: TcpStream) -> Result<TlsStream<TcpStream>, Refused> {
    let mut first = [0];
    if stream.peek(&mut first).await.map_err(Refused::Failed)? > 0 && first != [HANDSHAKE_RECORD] {
        // Who closes first needs no answer.
        let _ = stream.write_all(plain_refused().as_bytes()).await;
        part(stream).await;
        return Err(Refused::Plain);
    }
    let config = tls.shared.state().server.clone();
    let config = config.ok_or_else(|| Refused::Failed(io::Error::other("no certificate")))?;
    // An answer is several small writes.
    stream.set_nodelay(true).map_err(Refused::Failed)?;
    match TlsAcceptor::from(config).accept(stream).into_fallible().await {
        Ok(stream) => Ok(stream),
        Err((error, stream)) => {
            part(stream).await;
            Err(Refused::Failed(error))
        }
    }
}

/// Closes a connection so that what was said last arrives: with bytes unread, the system would reset it at once. The
/// handshake's deadline is over this, too.
async fn part(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let _ = tokio::io::copy(&mut stream.take(MAX_REFUSED_BYTES), &mut tokio::io::sink()).await;
}

/// What a client reads that speaks plain HTTP.
fn plain_refused() -> String {
    let error = ErrorDetail {
        message: "this port speaks HTTPS alone: use https:// in the URL".to_owned(),
        kind: "BadRequest".to_owned(),
        code: 400,
    };
    let body = serde_json::json!(ErrorBody { error }).to_string();
    format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

impl Tls {
    /// Says when the listener's certificate ends, for whoever watches.
    pub fn report(&self) {
        let state = self.shared.state();
        if state.server.is_some()
            && let Some(end) = state.own.as_ref().and_then(validity::end)
        {
            metrics::gauge!("firn_tls_certificate_end_seconds").set(end.as_secs_f64());
        }
    }
}
