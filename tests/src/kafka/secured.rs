//! Listeners for those who prove who they are.

use std::path::Path;

use anyhow::Result;

use crate::{Authority, Certificate, ports::free_ports};

pub(super) const USER: &str = "firn";
pub(super) const PASSWORD: &str = "hunter2";

/// Two listeners and their certificate.
#[derive(Debug)]
pub(super) struct Secured {
    sasl: u16,
    tls: u16,
    certificate: Certificate,
    authority: std::path::PathBuf,
}

impl Secured {
    pub(super) fn new(authority: &Authority) -> Result<Self> {
        let [sasl, tls] = free_ports()?;
        let certificate = authority.issue("kafka", &["IP:127.0.0.1", "DNS:localhost"])?;
        Ok(Self { sasl, tls, certificate, authority: authority.file() })
    }

    pub(super) fn sasl_server(&self) -> String {
        format!("127.0.0.1:{}", self.sasl)
    }

    pub(super) fn tls_server(&self) -> String {
        format!("127.0.0.1:{}", self.tls)
    }

    /// Adds the listeners to a node's properties.
    pub(super) fn extend(&self, properties: &mut String, dir: &Path) -> Result<()> {
        // Kafka wants certificate and key in one file.
        let keystore = dir.join("keystore.pem");
        let pem =
            [std::fs::read(&self.certificate.key)?, std::fs::read(&self.certificate.certificate)?].concat();
        std::fs::write(&keystore, pem)?;
        let (sasl, tls) = (self.sasl_server(), self.tls_server());
        for key in ["listeners=", "advertised.listeners="] {
            let line = format!("\n{key}");
            *properties = properties.replace(&line, &format!("{line}SASL_SSL://{sasl},SSL://{tls},"));
        }
        *properties = properties.replace(
            "listener.security.protocol.map=",
            "listener.security.protocol.map=SASL_SSL:SASL_SSL,SSL:SSL,",
        );
        let (keystore, authority) = (keystore.display(), self.authority.display());
        let module = "org.apache.kafka.common.security";
        properties.push_str(&format!(
            "inter.broker.listener.name=PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
listener.name.ssl.ssl.client.auth=required
listener.name.sasl_ssl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl_ssl.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={module}.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;
listener.name.sasl_ssl.oauthbearer.sasl.jaas.config={module}.oauthbearer.OAuthBearerLoginModule required \
  unsecuredLoginStringClaim_sub=\"broker\";
listener.name.sasl_ssl.oauthbearer.connections.max.reauth.ms=10000
"
        ));
        Ok(())
    }
}

/// Kafka keeps those of SCRAM in its own log.
pub(super) fn scram_credentials() -> [String; 4] {
    let of = |mechanism: &str| format!("{mechanism}=[name={USER},password={PASSWORD}]");
    ["--add-scram".to_owned(), of("SCRAM-SHA-256"), "--add-scram".to_owned(), of("SCRAM-SHA-512")]
}
