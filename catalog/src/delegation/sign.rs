//! Signs requests that were judged.

use std::collections::BTreeMap;

use aws_sigv4::http_request::SignableBody;
use object_store::aws::AwsCredential;
use serde::Serialize;

use super::request::{Judged, SignRequest, header};
use crate::{
    CatalogError,
    aws::{self, Service},
};

const STREAMING: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// A signed request, as the specification writes it.
#[derive(Debug, Serialize)]
pub(crate) struct Signed {
    /// Where to send it; its path may be encoded otherwise than it came.
    pub(crate) uri: String,
    /// All headers: those that came, and those that sign them.
    pub(crate) headers: BTreeMap<String, Vec<String>>,
    /// Whether the client may use the signature again for the same method and URI.
    #[serde(skip)]
    pub(crate) repeatable: bool,
}

/// Signs a request with the catalog's keys.
pub(super) fn sign(
    keys: &AwsCredential,
    region: &str,
    request: &SignRequest,
    judged: Judged,
) -> Result<Signed, CatalogError> {
    // S3 insists on signatures of its own headers. All others may change on their way, or, as Range, from one use of the
    // signature to the next.
    let signed: Vec<(String, String)> = request
        .headers
        .iter()
        .filter(|(name, _)| is_signed(name))
        .map(|(name, values)| (name.to_ascii_lowercase(), values.join(",")))
        .collect();
    let signed: Vec<(&str, &str)> = signed.iter().map(|(name, value)| (&**name, &**value)).collect();
    let body = payload(request, &judged)?;
    let added = aws::sign(keys, Service::S3, region, &request.method, &judged.uri, &signed, body)
        .map_err(|error| CatalogError::Invalid(format!("the request can't be signed: {error}")))?;
    let mut headers = request.headers.clone();
    for (name, value) in added {
        headers.retain(|known, _| !known.eq_ignore_ascii_case(&name));
        headers.insert(name, vec![value]);
    }
    Ok(Signed { uri: judged.uri, headers, repeatable: judged.repeatable })
}

/// Date, digest and token are set anew.
fn is_signed(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let anew = ["x-amz-date", "x-amz-content-sha256"].contains(&name.as_str());
    (name.starts_with("x-amz-") && !anew) || name == "content-md5"
}

/// What the signature says of the body.
fn payload<'a>(request: &'a SignRequest, judged: &Judged) -> Result<SignableBody<'a>, CatalogError> {
    if judged.body_matters {
        return Ok(SignableBody::Bytes(request.body.as_deref().unwrap_or_default().as_bytes()));
    }
    let in_chunks = !header(&request.headers, "x-amz-trailer").is_empty();
    match header(&request.headers, "x-amz-content-sha256").as_slice() {
        [] if in_chunks => Ok(SignableBody::StreamingUnsignedPayloadTrailer),
        [] | [UNSIGNED] => Ok(SignableBody::UnsignedPayload),
        [STREAMING] => Ok(SignableBody::StreamingUnsignedPayloadTrailer),
        [digest] if digest.len() == 64 && digest.bytes().all(|c| c.is_ascii_hexdigit()) => {
            Ok(SignableBody::Precomputed((*digest).to_owned()))
        }
        [other, ..] => Err(CatalogError::Invalid(format!(
            "x-amz-content-sha256 is a SHA-256, {UNSIGNED} or {STREAMING}, not '{other}'"
        ))),
    }
}
