//! A record's headers as one blob: for each, the lengths of name and value (little-endian u32), then both.

use bytes::Bytes;

use crate::Header;

/// `None` if there are none, which saves the column.
pub(super) fn encode(headers: &[Header]) -> Option<Vec<u8>> {
    if headers.is_empty() {
        return None;
    }
    let mut blob = Vec::new();
    for (name, value) in headers {
        for length in [name.len(), value.len()] {
            blob.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        }
        blob.extend_from_slice(name.as_bytes());
        blob.extend_from_slice(value);
    }
    Some(blob)
}

/// The headers of a blob, whose memory their values share; `None` if it is not one.
pub(super) fn decode(blob: Vec<u8>) -> Option<Vec<Header>> {
    let blob = Bytes::from(blob);
    let mut headers = Vec::new();
    let mut rest = &blob[..];
    while !rest.is_empty() {
        let (name_length, after) = rest.split_first_chunk::<4>()?;
        let (value_length, after) = after.split_first_chunk::<4>()?;
        let (name, after) = after.split_at_checked(u32::from_le_bytes(*name_length) as usize)?;
        let (value, after) = after.split_at_checked(u32::from_le_bytes(*value_length) as usize)?;
        headers.push((std::str::from_utf8(name).ok()?.to_owned(), blob.slice_ref(value)));
        rest = after;
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn headers_survive(headers in vec((".{0,12}", vec(any::<u8>(), 0..20)), 0..5)) {
            let headers: Vec<Header> = headers.into_iter().map(|(name, value)| (name, value.into())).collect();
            let decoded = encode(&headers).map_or(Some(Vec::new()), decode);
            prop_assert_eq!(decoded, Some(headers));
        }

        #[test]
        fn damage_is_seen_not_followed(blob in vec(any::<u8>(), 0..64)) {
            let _ = decode(blob);
        }
    }

    #[test]
    fn a_cut_blob_is_none() {
        let blob = encode(&[("firn-tenant".to_owned(), Bytes::from_static(b"acme"))]);
        assert_eq!(blob.and_then(|blob| decode(blob[..blob.len() - 1].to_vec())), None);
    }
}
