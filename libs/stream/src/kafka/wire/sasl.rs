//! Saying who we are, before anything else is said (KIP-152).

use uuid::Uuid;

use super::{
    Answer, Api, Body, Connection, Failure, malformed,
    scram::{Exchange, ScramError},
};
use crate::kafka::security::Sasl;

const HANDSHAKE: Api = Api { key: 17, version: 1, flexible: false };
const AUTHENTICATE: Api = Api { key: 36, version: 2, flexible: true };

/// Until this has gone well, a broker answers nothing else.
pub(super) async fn authenticate(connection: &mut Connection, sasl: &Sasl) -> Result<(), Failure> {
    let mechanism = sasl.mechanism();
    let answer = connection.call(HANDSHAKE, &Body::default().plain_string(mechanism)).await?;
    if Answer(&answer).short().ok_or_else(malformed)? != 0 {
        return Err(Failure::Refused(format!("it doesn't take SASL with {mechanism}")));
    }
    match sasl {
        Sasl::Plain { username, password } => {
            step(connection, format!("\0{username}\0{password}").as_bytes()).await?;
        }
        Sasl::OAuthBearer { token } => {
            let said = step(connection, format!("n,,\u{1}auth=Bearer {token}\u{1}\u{1}").as_bytes()).await?;
            // Only who is refused is answered anything here.
            if !said.is_empty() {
                return Err(Failure::Refused(format!("the token: {}", String::from_utf8_lossy(&said))));
            }
        }
        Sasl::Scram { hash, username, password } => {
            let exchange = Exchange::begin(*hash, username, &Uuid::new_v4().simple().to_string());
            let challenge = step(connection, exchange.first().as_bytes()).await?;
            let refused = |error: ScramError| Failure::Refused(error.to_string());
            let proof = exchange.prove(password, &challenge).map_err(refused)?;
            let said = step(connection, proof.message.as_bytes()).await?;
            proof.check(&said).map_err(refused)?;
        }
    }
    Ok(())
}

/// What the broker says to what we say.
async fn step(connection: &mut Connection, said: &[u8]) -> Result<Vec<u8>, Failure> {
    let answer = connection.call(AUTHENTICATE, &Body::default().bytes(said).no_tags()).await?;
    let mut answer = Answer(&answer);
    let code = answer.short().ok_or_else(malformed)?;
    let reason = answer.string().ok_or_else(malformed)?;
    if code != 0 {
        let reason = String::from_utf8_lossy(reason);
        return Err(Failure::Refused(format!("{reason} (Kafka's error {code})")));
    }
    Ok(answer.string().ok_or_else(malformed)?.to_vec())
}
