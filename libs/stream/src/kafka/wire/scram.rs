//! SCRAM (RFC 5802, RFC 7677) as a client: the password is proved, not sent, and the broker proves that it knows it, too.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac, digest::KeyInit};
use sha2::{Digest as _, Sha256, Sha512};

use crate::kafka::security::ScramHash;

/// What a broker may ask for: less is no protection, more would be a way to keep us busy.
const ITERATIONS: std::ops::RangeInclusive<u32> = 4_096..=1_000_000;

/// Neither a channel binding nor another identity.
const NO_BINDING: &str = "n,,";

/// Why the exchange ends.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScramError {
    #[error("what it says is no SCRAM")]
    Malformed,
    #[error("it wants {0} iterations; from {low} to {high} are done", low = ITERATIONS.start(), high = ITERATIONS.end())]
    Iterations(u32),
    #[error("it doesn't know the password that it asks for")]
    Impostor,
}

/// An exchange that has begun.
pub(super) struct Exchange {
    hash: ScramHash,
    nonce: String,
    bare: String,
}

/// The proof of the password, and what the broker has to say to it.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) message: String,
    signature: Vec<u8>,
}

impl Exchange {
    pub(super) fn begin(hash: ScramHash, username: &str, nonce: &str) -> Self {
        let username = username.replace('=', "=3D").replace(',', "=2C");
        Self { hash, nonce: nonce.to_owned(), bare: format!("n={username},r={nonce}") }
    }

    /// What is said first.
    pub(super) fn first(&self) -> String {
        format!("{NO_BINDING}{}", self.bare)
    }

    /// What is said to the broker's challenge.
    pub(super) fn prove(&self, password: &str, challenge: &[u8]) -> Result<Proof, ScramError> {
        let challenge = std::str::from_utf8(challenge).map_err(|_| ScramError::Malformed)?;
        let field = |name: &str| challenge.split(',').find_map(|field| field.strip_prefix(name));
        let (Some(nonce), Some(salt), Some(iterations)) = (field("r="), field("s="), field("i=")) else {
            return Err(ScramError::Malformed);
        };
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ScramError::Malformed);
        }
        let salt = STANDARD.decode(salt).map_err(|_| ScramError::Malformed)?;
        let iterations: u32 = iterations.parse().map_err(|_| ScramError::Malformed)?;
        if !ITERATIONS.contains(&iterations) {
            return Err(ScramError::Iterations(iterations));
        }
        let mut message = format!("c={},r={nonce}", STANDARD.encode(NO_BINDING));
        let said = format!("{},{challenge},{message}", self.bare);
        let [client, server] = match self.hash {
            ScramHash::Sha256 => signatures::<Hmac<Sha256>>(
                |bytes| Sha256::digest(bytes).to_vec(),
                password,
                &salt,
                iterations,
                &said,
            ),
            ScramHash::Sha512 => signatures::<Hmac<Sha512>>(
                |bytes| Sha512::digest(bytes).to_vec(),
                password,
                &salt,
                iterations,
                &said,
            ),
        };
        // Writing to a string can't fail.
        let _ = write!(message, ",p={}", STANDARD.encode(client));
        Ok(Proof { message, signature: server })
    }
}

impl Proof {
    /// Whether the broker knows the password as well.
    pub(super) fn check(&self, said: &[u8]) -> Result<(), ScramError> {
        let said = std::str::from_utf8(said).map_err(|_| ScramError::Malformed)?;
        let signature = said.split(',').find_map(|field| field.strip_prefix("v="));
        let signature = signature.and_then(|text| STANDARD.decode(text).ok()).ok_or(ScramError::Malformed)?;
        if signature == self.signature { Ok(()) } else { Err(ScramError::Impostor) }
    }
}

/// The client's proof and the server's signature.
fn signatures<M: Mac + KeyInit + Clone>(
    digest: impl Fn(&[u8]) -> Vec<u8>,
    password: &str,
    salt: &[u8],
    iterations: u32,
    said: &str,
) -> [Vec<u8>; 2] {
    let salted = stretched::<M>(password, salt, iterations);
    let client_key = keyed::<M>(&salted, b"Client Key");
    let signature = keyed::<M>(&digest(&client_key), said.as_bytes());
    let proof = client_key.iter().zip(&signature).map(|(key, signature)| key ^ signature).collect();
    let server_key = keyed::<M>(&salted, b"Server Key");
    [proof, keyed::<M>(&server_key, said.as_bytes())]
}

/// PBKDF2 with one block of output.
fn stretched<M: Mac + KeyInit + Clone>(password: &str, salt: &[u8], iterations: u32) -> Vec<u8> {
    let keyed = new::<M>(password.as_bytes());
    let mut block =
        keyed.clone().chain_update(salt).chain_update(1_u32.to_be_bytes()).finalize().into_bytes();
    let mut output = block.to_vec();
    for _ in 1..iterations {
        block = keyed.clone().chain_update(&block).finalize().into_bytes();
        output.iter_mut().zip(&block).for_each(|(output, byte)| *output ^= byte);
    }
    output
}

fn keyed<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
    new::<M>(key).chain_update(message).finalize().into_bytes().to_vec()
}

fn new<M: Mac + KeyInit>(key: &[u8]) -> M {
    <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_example_of_rfc_7677_comes_out() {
        let exchange = Exchange::begin(ScramHash::Sha256, "user", "rOprNGfwEbeRWgbNEkqO");
        assert_eq!(exchange.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let challenge =
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let proof = exchange.prove("pencil", challenge).unwrap();
        assert_eq!(
            proof.message,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(proof.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
        assert_eq!(proof.check(b"v=AAAA"), Err(ScramError::Impostor));
        assert_eq!(proof.check(b"e=other-error"), Err(ScramError::Malformed));
    }

    #[test]
    fn challenges_that_would_weaken_or_stall_us_are_refused() {
        let exchange = Exchange::begin(ScramHash::Sha512, "a=b,c", "n");
        assert_eq!(exchange.first(), "n,,n=a=3Db=2Cc,r=n");
        let refused = |challenge: &str| exchange.prove("p", challenge.as_bytes()).unwrap_err();
        assert_eq!(refused("r=other,s=AAAA,i=4096"), ScramError::Malformed, "another exchange's");
        assert_eq!(refused("r=n,s=AAAA,i=4096"), ScramError::Malformed, "nothing of the broker's own");
        assert_eq!(refused("r=nx,s=AAAA,i=1"), ScramError::Iterations(1));
        assert_eq!(refused("r=nx,s=AAAA,i=2000000"), ScramError::Iterations(2_000_000));
        assert_eq!(refused("e=unknown-user"), ScramError::Malformed);
    }
}
