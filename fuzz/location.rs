//! Locations as somebody writes them who wants to get out of a tenant's folder: what is taken for being inside is inside for
//! whoever follows it.

#![no_main]

#[allow(dead_code)]
#[path = "../catalog/src/storage/location.rs"]
mod location;

use libfuzzer_sys::fuzz_target;
use location::Location;
use percent_encoding::percent_decode_str;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    for (root, below) in
        [("s3://b/w/acme", "w/acme/"), ("file:///w/acme", "w/acme/"), ("s3://acme-lake/", "")]
    {
        let root: Location = root.parse().expect("a location");
        for text in [text.to_string(), format!("{root}{text}"), format!("{root}/{text}")] {
            let Ok(location) = text.parse::<Location>() else { continue };
            assert_eq!(location.to_string().parse(), Ok(location.clone()));
            if location.is_within(&root) {
                assert_eq!(location.bucket(), root.bucket());
                for decodings in 0..=2 {
                    let place = followed(location.path(), decodings);
                    // An encoded slash may lead to the root itself, which is the tenant's, too.
                    assert!(format!("{place}/").starts_with(below), "{location} leads to {place}");
                }
            }
        }
    }
});

/// Where a server that decodes a path so many times, and follows its dots, ends up.
fn followed(path: &str, decodings: usize) -> String {
    let decoded = (0..decodings)
        .fold(path.to_owned(), |text, _| percent_decode_str(&text).decode_utf8_lossy().into_owned());
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    segments.join("/")
}
