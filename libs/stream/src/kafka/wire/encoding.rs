//! Kafka's types on the wire: those of flexible versions (KIP-482), where lengths are varints and one more than they are.

use super::Api;

/// Of each request; answers come in order on a connection, so one number is enough.
const CORRELATION: i32 = 1;
const CLIENT_ID: &str = "firn";

/// The fields of a request, in their order.
#[derive(Debug, Default)]
pub(in crate::kafka) struct Body(Vec<u8>);

impl Body {
    pub(in crate::kafka) fn bytes(mut self, bytes: &[u8]) -> Self {
        self = self.length(bytes.len());
        self.0.extend(bytes);
        self
    }

    pub(in crate::kafka) fn string(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// A string of versions that are not flexible.
    pub(in crate::kafka) fn plain_string(mut self, text: &str) -> Self {
        self = self.short(i16::try_from(text.len()).unwrap_or(i16::MAX));
        self.0.extend(text.as_bytes());
        self
    }

    /// Of an array whose elements follow.
    pub(in crate::kafka) fn length(mut self, length: usize) -> Self {
        let mut rest = length + 1;
        while rest >= 0x80 {
            self.0.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
        self
    }

    /// In the place of an array or of a string.
    pub(in crate::kafka) fn null(mut self) -> Self {
        self.0.push(0);
        self
    }

    pub(in crate::kafka) fn flag(mut self, flag: bool) -> Self {
        self.0.push(u8::from(flag));
        self
    }

    pub(in crate::kafka) fn short(mut self, number: i16) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(in crate::kafka) fn int(mut self, number: i32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub(in crate::kafka) fn uuid(mut self, uuid: [u8; 16]) -> Self {
        self.0.extend(uuid);
        self
    }

    /// The end of a structure: none of its optional fields.
    pub(in crate::kafka) fn no_tags(self) -> Self {
        self.null()
    }
}

/// A request with its length and header.
pub(super) fn framed(api: Api, body: &Body) -> Vec<u8> {
    let header = Body::default().short(api.key).short(api.version).int(CORRELATION).plain_string(CLIENT_ID);
    let header = if api.flexible { header.no_tags() } else { header };
    let length = header.0.len() + body.0.len();
    let mut request = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    request.extend(header.0);
    request.extend(&body.0);
    request
}

/// How many bytes of an answer its header takes; `None` if it is cut.
pub(super) fn header_bytes(api: Api, answer: &[u8]) -> Option<usize> {
    let mut rest = Answer(answer);
    rest.int()?; // correlation id
    if api.flexible {
        rest.tagged_fields()?;
    }
    Some(answer.len() - rest.0.len())
}

/// What is left of an answer. `None` where it is cut or malformed.
pub(in crate::kafka) struct Answer<'a>(pub(in crate::kafka) &'a [u8]);

impl<'a> Answer<'a> {
    pub(in crate::kafka) fn skip(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (skipped, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(skipped)
    }

    pub(in crate::kafka) fn short(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(*self.skip(2)?.first_chunk()?))
    }

    pub(in crate::kafka) fn int(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(*self.skip(4)?.first_chunk()?))
    }

    fn varint(&mut self) -> Option<usize> {
        let mut value = 0_usize;
        for shift in (0..35).step_by(7) {
            let byte = *self.skip(1)?.first()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A length; null counts as empty.
    pub(in crate::kafka) fn length(&mut self) -> Option<usize> {
        Some(self.varint()?.saturating_sub(1))
    }

    /// A string, or bytes.
    pub(in crate::kafka) fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.skip(length)
    }

    pub(in crate::kafka) fn tagged_fields(&mut self) -> Option<()> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let length = self.varint()?;
            self.skip(length)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_strings_have_two_byte_lengths() {
        let Body(bytes) = Body::default().string(&"a".repeat(199));
        assert_eq!(bytes[..2], [0xc8, 0x01]);
        assert_eq!(Answer(&bytes).string().map(<[u8]>::len), Some(199));
    }

    #[test]
    fn headers_have_tags_in_flexible_versions_alone() {
        let api = |flexible| Api { key: 3, version: 10, flexible };
        let body = Body::default().int(7);
        assert_eq!(framed(api(true), &body).len(), framed(api(false), &body).len() + 1);
        assert_eq!(framed(api(false), &body)[..8], [0, 0, 0, 18, 0, 3, 0, 10]);
        let answer = [0, 0, 0, 1, 1, 5, 2, 9, 9, 42];
        assert_eq!((header_bytes(api(true), &answer), header_bytes(api(false), &answer)), (Some(9), Some(4)));
        assert_eq!(header_bytes(api(true), &answer[..6]), None);
    }
}
