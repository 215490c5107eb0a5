//! Deletion vectors as Puffin blobs of type `deletion-vector-v1`:
//! length (4 bytes, big endian), magic, 64-bit Roaring bitmap in the portable format, CRC-32 (4 bytes, big endian).

use roaring::RoaringTreemap;

const MAGIC: [u8; 4] = [0xd1, 0xd3, 0x39, 0x64];
/// Bytes of the length, and of the checksum.
const WORD: usize = 4;

/// The positions in a blob, or what is wrong with it.
pub(super) fn decode(blob: &[u8]) -> Result<RoaringTreemap, String> {
    let (length, rest) = blob.split_first_chunk::<WORD>().ok_or("it is empty")?;
    let (content, checksum) = rest.split_last_chunk::<WORD>().ok_or("it is cut off")?;
    if u32::from_be_bytes(*length) as usize != content.len() {
        let said = u32::from_be_bytes(*length);
        return Err(format!("it says that it has {said} bytes, but has {}", content.len()));
    }
    if crc32fast::hash(content) != u32::from_be_bytes(*checksum) {
        return Err("its checksum is wrong".to_owned());
    }
    let bitmap = content.strip_prefix(&MAGIC).ok_or("it doesn't start as a deletion vector does")?;
    let mut reader = bitmap;
    let positions = RoaringTreemap::deserialize_from(&mut reader)
        .map_err(|error| format!("its bitmap is malformed: {error}"))?;
    if reader.is_empty() { Ok(positions) } else { Err("bytes follow its bitmap".to_owned()) }
}

/// A blob with the positions.
pub(crate) fn encode(positions: &RoaringTreemap) -> std::io::Result<Vec<u8>> {
    let mut content = MAGIC.to_vec();
    positions.serialize_into(&mut content)?;
    let length = u32::try_from(content.len()).map_err(std::io::Error::other)?;
    let mut blob = length.to_be_bytes().to_vec();
    let checksum = crc32fast::hash(&content);
    blob.extend(content);
    blob.extend(checksum.to_be_bytes());
    Ok(blob)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn positions_survive_also_beyond_32_bits() {
        let positions =
            [0, 1, 7, 70_000, u64::from(u32::MAX), 1 << 40].into_iter().collect::<RoaringTreemap>();
        assert_eq!(decode(&encode(&positions).unwrap()).unwrap(), positions);
    }

    #[test]
    fn damage_is_noticed_wherever_it_is() {
        let blob = encode(&(0..100).collect()).unwrap();
        for index in 0..blob.len() {
            let mut damaged = blob.clone();
            damaged[index] ^= 0x10;
            assert!(decode(&damaged).is_err(), "byte {index}");
            assert!(decode(&blob[..index]).is_err(), "cut at {index}");
        }
    }
}
