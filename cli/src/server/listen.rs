//! The port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result};
use tokio::net::{TcpListener, lookup_host};

use crate::{failure::usage, settings::Settings};

/// Takes the port. One that is in use or not allowed is said plainly.
pub(super) async fn bind(listen: &str, tls: bool) -> Result<(TcpListener, SocketAddr)> {
    let address = address_of(listen).await?;
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!(
            "can't listen on {address}: stop what uses the port, or choose another with --listen HOST:PORT"
        )
    })?;
    let address = listener.local_addr()?;
    if !tls && !address.ip().is_loopback() {
        tracing::warn!(
            %address,
            "listening beyond this machine without TLS: set tls.certificate and tls.key, or put a TLS proxy before it"
        );
    }
    Ok((listener, address))
}

async fn address_of(listen: &str) -> Result<SocketAddr> {
    let wrong = |reason: String| usage(format!("server.listen: '{listen}' is no HOST:PORT: {reason}"));
    let mut addresses = lookup_host(listen).await.map_err(|error| wrong(error.to_string()))?;
    addresses.next().ok_or_else(|| wrong("the host has no address".to_owned()))
}

/// Where a process with these settings reaches itself.
pub(crate) async fn own_url(settings: &Settings) -> Result<String> {
    Ok(url_of(address_of(&settings.server.listen).await?, settings.tls.certificate.is_some()))
}

/// A second listener of the same port: a connection goes to whichever accepts.
pub(super) fn share(listener: TcpListener) -> Result<(TcpListener, TcpListener)> {
    let listener = listener.into_std()?;
    let second = listener.try_clone()?;
    Ok((TcpListener::from_std(listener)?, TcpListener::from_std(second)?))
}

/// Where this machine reaches the address.
pub(super) fn url_of(address: SocketAddr, tls: bool) -> String {
    let ip = match address.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{}", SocketAddr::new(ip, address.port()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn port_in_use_names_the_way_out() {
        let (_held, address) = bind("127.0.0.1:0", false).await.unwrap();
        let error = bind(&address.to_string(), false).await.unwrap_err().to_string();
        assert!(error.contains("--listen"), "{error}");
    }

    #[tokio::test]
    async fn text_without_port_is_wrong_usage() {
        assert!(bind("localhost", false).await.unwrap_err().is::<crate::failure::UsageError>());
    }

    #[test]
    fn unspecified_addresses_are_reached_by_loopback() {
        assert_eq!(url_of("0.0.0.0:80".parse().unwrap(), false), "http://127.0.0.1:80");
        assert_eq!(url_of("[::]:80".parse().unwrap(), true), "https://[::1]:80");
        assert_eq!(url_of("10.0.0.1:80".parse().unwrap(), false), "http://10.0.0.1:80");
    }
}
