//! Where a service can be reached: one URL, or each of the addresses behind its name.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use firn_runtime::tls;
use url::Url;

/// How long another service may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Commits queue behind others of the same table.
const ANSWER: Duration = Duration::from_secs(120);
/// Clients that are kept. Addresses of replicas come and go.
const MOST: usize = 256;

/// One place of a service, and a client that reaches it there.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) http: reqwest::Client,
    pub(super) url: Url,
}

/// Clients of services.
pub(super) struct Places {
    http: reqwest::Client,
    /// Those that reach a name at one address: with TLS the name must stay in the URL.
    pinned: Mutex<HashMap<(String, IpAddr), reqwest::Client>>,
}

impl Places {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { http: client().build()?, pinned: Mutex::default() })
    }

    /// A service as a whole, whoever of it answers.
    pub(super) fn any(&self, service: Option<&Url>) -> Option<Place> {
        service.map(|url| self.whole(url))
    }

    /// The addresses behind a service's name, if there are several; else its URL as it is.
    pub(super) async fn all(&self, service: Option<&Url>) -> Vec<Place> {
        let Some(url) = service else { return Vec::new() };
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return vec![self.whole(url)];
        };
        let Ok(found) = tokio::net::lookup_host((host, port)).await else { return vec![self.whole(url)] };
        // `localhost` is one machine, whether reached by IPv4 or IPv6.
        let mut all: Vec<_> =
            found.map(|address| address.ip()).filter(|ip| host != "localhost" || ip.is_ipv4()).collect();
        all.sort();
        all.dedup();
        let all: Vec<Place> = all.into_iter().filter_map(|ip| self.at(url, host, ip)).collect();
        if all.len() > 1 { all } else { vec![self.whole(url)] }
    }

    fn whole(&self, url: &Url) -> Place {
        Place { http: self.http.clone(), url: url.clone() }
    }

    fn at(&self, url: &Url, host: &str, ip: IpAddr) -> Option<Place> {
        if url.scheme() == "http" {
            let mut url = url.clone();
            return url.set_ip_host(ip).ok().map(|()| Place { http: self.http.clone(), url });
        }
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (host.to_owned(), ip);
        let http = match pinned.get(&key) {
            Some(http) => http.clone(),
            None => {
                // The port is the URL's.
                let http = client().resolve(host, SocketAddr::new(ip, 0)).build().ok()?;
                if pinned.len() >= MOST {
                    pinned.clear();
                }
                pinned.insert(key, http.clone());
                http
            }
        };
        Some(Place { http, url: url.clone() })
    }
}

fn client() -> reqwest::ClientBuilder {
    tls::inside()
        .connect_timeout(CONNECT)
        .timeout(ANSWER)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .no_gzip()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn one_address_keeps_its_name() {
        let places = Places::new().unwrap();
        let url: Url = "http://127.0.0.1:9/".parse().unwrap();
        let all = places.all(Some(&url)).await;
        assert_eq!(all.iter().map(|place| &place.url).collect::<Vec<_>>(), [&url]);
        assert!(places.all(None).await.is_empty() && places.any(None).is_none());
    }

    #[test]
    fn with_tls_the_name_stays_and_the_client_knows_the_address() {
        let places = Places::new().unwrap();
        let ip: IpAddr = "127.0.0.2".parse().unwrap();
        let plain: Url = "http://alerts:8181/".parse().unwrap();
        assert_eq!(places.at(&plain, "alerts", ip).unwrap().url.as_str(), "http://127.0.0.2:8181/");
        let tls: Url = "https://alerts:8181/".parse().unwrap();
        assert_eq!(places.at(&tls, "alerts", ip).unwrap().url, tls);
        assert_eq!(places.pinned.lock().unwrap().len(), 1);
        places.at(&tls, "alerts", ip).unwrap();
        assert_eq!(places.pinned.lock().unwrap().len(), 1, "connections are kept");
    }

    #[tokio::test]
    async fn a_name_is_asked_at_the_address_that_was_chosen() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let answer = || async { "here" };
            axum::serve(listener, axum::Router::new().route("/", axum::routing::get(answer))).await.unwrap();
        });
        let http =
            client().resolve("alerts.invalid", SocketAddr::new([127, 0, 0, 1].into(), 0)).build().unwrap();
        let answer = http.get(format!("http://alerts.invalid:{port}/")).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "here");
    }
}
