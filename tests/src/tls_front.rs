//! A front that ends TLS before a server that has none here, as an ingress does.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use crate::Certificate;

/// A running front. Dropping it closes its connections.
#[derive(Debug)]
pub struct TlsFront {
    address: SocketAddr,
    server: u16,
    task: JoinHandle<()>,
}

impl TlsFront {
    /// Starts one on a free port, before a server on a port of this machine.
    ///
    /// # Errors
    /// A certificate that can't be used.
    pub async fn start(server: u16, shown: &Certificate) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(accept(listener, acceptor(shown)?, server));
        Ok(Self { address, server, task })
    }

    /// Closes all connections, and shows another certificate to who comes again.
    ///
    /// # Errors
    /// A certificate that can't be used.
    pub async fn show(&mut self, shown: &Certificate) -> Result<()> {
        let acceptor = acceptor(shown)?;
        self.task.abort();
        // It has ended once its listener is gone.
        let _ = (&mut self.task).await;
        let listener = TcpListener::bind(self.address).await.context("the port was taken meanwhile")?;
        self.task = tokio::spawn(accept(listener, acceptor, self.server));
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn acceptor(shown: &Certificate) -> Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(&shown.certificate)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&shown.key)?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, server: u16) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        connections.spawn(async move {
            // A client that doesn't trust the certificate goes away: that is what it may do.
            let Ok(mut client) = acceptor.accept(client).await else { return };
            if let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await {
                // Either side may go at any time.
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}
