//! JSON in one pass over its text, as strict as RFC 8259. Texts are borrowed unless they have escapes.
//!
//! Any error means that the text is no JSON, or nested too deep; which of them, and why, is for a slower parser to say.

use std::borrow::Cow;

use super::MAX_NESTING;
use crate::{Rejection, RejectionKind};

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    Flag,
    Number,
    Text,
    Array,
    Object,
}

impl Kind {
    /// In words.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Flag => "true or false",
            Self::Number => "a number",
            Self::Text => "text",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

/// Goes through a text from its beginning to its end.
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Objects and arrays around what comes next; bounded, since values inside each other are read by recursion.
    depth: usize,
}

/// How far a reader is in an object or an array.
pub(super) struct Members {
    begun: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// What the next value is, by its first character.
    pub(super) fn kind(&mut self) -> Result<Kind, Rejection> {
        match self.peek() {
            Some(b'"') => Ok(Kind::Text),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Flag),
            Some(b'n') => Ok(Kind::Null),
            Some(b'[') => Ok(Kind::Array),
            Some(b'{') => Ok(Kind::Object),
            _ => Err(self.malformed()),
        }
    }

    /// Goes into the object or array that comes next.
    pub(super) fn enter(&mut self) -> Result<Members, Rejection> {
        if self.depth == MAX_NESTING {
            return Err(self.malformed());
        }
        self.at += 1;
        self.depth += 1;
        Ok(Members { begun: false })
    }

    /// The next key of an object, or its end. The value comes next.
    pub(super) fn key(&mut self, members: &mut Members) -> Result<Option<Cow<'a, str>>, Rejection> {
        if !self.member(members, b'}')? {
            return Ok(None);
        }
        if self.peek() != Some(b'"') {
            return Err(self.malformed());
        }
        let key = self.text()?;
        if self.peek() != Some(b':') {
            return Err(self.malformed());
        }
        self.at += 1;
        key.map_or_else(|| Err(self.malformed()), |key| Ok(Some(key)))
    }

    /// Whether an array goes on: then its element comes next.
    pub(super) fn element(&mut self, members: &mut Members) -> Result<bool, Rejection> {
        self.member(members, b']')
    }

    /// The text that comes next; none if it holds an escape that is no character.
    pub(super) fn text(&mut self) -> Result<Option<Cow<'a, str>>, Rejection> {
        let begin = self.at;
        if self.pass_text()? {
            return Ok(serde_json::from_str(&self.text[begin..self.at]).ok().map(Cow::Owned));
        }
        Ok(Some(Cow::Borrowed(&self.text[begin + 1..self.at - 1])))
    }

    /// Any value, as it stands there.
    pub(super) fn raw(&mut self) -> Result<&'a str, Rejection> {
        let kind = self.kind()?;
        let begin = self.at;
        match kind {
            Kind::Null => self.pass_word("null")?,
            Kind::Flag if self.peek() == Some(b't') => self.pass_word("true")?,
            Kind::Flag => self.pass_word("false")?,
            Kind::Number => self.pass_number()?,
            Kind::Text => {
                self.pass_text()?;
            }
            Kind::Array => {
                let mut members = self.enter()?;
                while self.element(&mut members)? {
                    self.raw()?;
                }
            }
            Kind::Object => {
                let mut members = self.enter()?;
                while self.key(&mut members)?.is_some() {
                    self.raw()?;
                }
            }
        }
        Ok(&self.text[begin..self.at])
    }

    /// That nothing follows.
    pub(super) fn end(&mut self) -> Result<(), Rejection> {
        if self.peek().is_some() { Err(self.malformed()) } else { Ok(()) }
    }

    /// The next character that is no space.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn member(&mut self, members: &mut Members, end: u8) -> Result<bool, Rejection> {
        match self.peek() {
            Some(byte) if byte == end => {
                self.at += 1;
                self.depth -= 1;
                Ok(false)
            }
            Some(b',') if members.begun => {
                self.at += 1;
                Ok(true)
            }
            Some(_) if !members.begun => {
                members.begun = true;
                Ok(true)
            }
            _ => Err(self.malformed()),
        }
    }

    fn pass_word(&mut self, word: &str) -> Result<(), Rejection> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.malformed());
        }
        self.at += word.len();
        Ok(())
    }

    fn pass_number(&mut self) -> Result<(), Rejection> {
        let bytes = self.text.as_bytes();
        if bytes[self.at] == b'-' {
            self.at += 1;
        }
        if bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.pass_digits()?;
        }
        if bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.pass_digits()?;
        }
        if let Some(b'e' | b'E') = bytes.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = bytes.get(self.at) {
                self.at += 1;
            }
            self.pass_digits()?;
        }
        Ok(())
    }

    fn pass_digits(&mut self) -> Result<(), Rejection> {
        let digits = self.text.as_bytes()[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        if digits == 0 { Err(self.malformed()) } else { Ok(()) }
    }

    /// Answers whether the text has escapes.
    fn pass_text(&mut self) -> Result<bool, Rejection> {
        let bytes = self.text.as_bytes();
        let mut escaped = false;
        self.at += 1;
        loop {
            self.at += plain_length(&bytes[self.at..]);
            match bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at += match &bytes[self.at + 1..] {
                        [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
                        [b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|hex| hex.is_ascii_hexdigit()) => 6,
                        _ => return Err(self.malformed()),
                    };
                }
                // A control character, or the end.
                _ => return Err(self.malformed()),
            }
        }
    }

    fn malformed(&self) -> Rejection {
        Rejection::new(RejectionKind::NotJson, format!("not JSON at byte {}", self.at))
    }
}

/// How many bytes come before the first quote, backslash or control character: eight at a time, since most of a record is text.
fn plain_length(bytes: &[u8]) -> usize {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = EACH << 7;
    // Sets the high bit of bytes below `limit`; a byte behind the first such may be set, too.
    let below = |word: u64, limit: u8| word.wrapping_sub(EACH * u64::from(limit)) & !word & HIGH;
    let equal = |word: u64, byte: u8| below(word ^ (EACH * u64::from(byte)), 1);
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let special = equal(word, b'"') | equal(word, b'\\') | below(word, b' ');
        if special != 0 {
            return index * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..b' ');
    bytes.len() - rest.len() + rest.iter().position(special).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    /// Whether the text is one value, and nothing else.
    fn is_json(text: &str) -> bool {
        let mut reader = Reader::new(text);
        reader.raw().and_then(|_| reader.end()).is_ok()
    }

    #[test]
    fn what_is_json_is_what_the_standard_says() {
        for text in [
            "0",
            "-0",
            "-",
            "01",
            "1.",
            "1.5",
            ".5",
            "1e5",
            "1E-05",
            "1e",
            "1e+",
            "+1",
            "0x1",
            "NaN",
            "true",
            "tru",
            "trueish",
            "false",
            "null",
            "nul",
            "[]",
            "[ ]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1,2",
            "]",
            "{}",
            "{,}",
            r#"{"a":1,}"#,
            r#"{"a" : 1 , "b":[{}]}"#,
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{a:1}"#,
            r#"{"a":1 "b":2}"#,
            r#""\u00e9\n\/""#,
            r#""\x""#,
            r#""\u12""#,
            r#""\u12g4""#,
            "\"\u{1}\"",
            "\"\u{7f}\"",
            "\"tab\there\"",
            "\"long enough for two words, and then\u{1f}\"",
            r#""open"#,
            r#""open\"#,
            "\"\\\"\"",
            "1 1",
            " 1\t\r\n ",
            "\u{c}1",
            "\u{a0}1",
            "",
            " ",
        ] {
            assert_eq!(is_json(text), serde_json::from_str::<IgnoredAny>(text).is_ok(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_judged_as_the_other_parser_does(
            text in r#"([\[\]{},:]|"|\\|\\u|12|ab|é|-|\.|e|null|true|false|"[a-z]{0,12}"|"a":|[ \n\x01]){0,24}"#
        ) {
            prop_assert_eq!(is_json(&text), serde_json::from_str::<IgnoredAny>(&text).is_ok());
        }

        #[test]
        fn texts_are_what_was_written(text in ".{0,40}") {
            let json = serde_json::Value::from(text.as_str()).to_string();
            let read = Reader::new(&json).text().ok().flatten();
            prop_assert_eq!(read.as_deref(), Some(text.as_str()));
        }

        #[test]
        fn plain_ends_where_a_loop_says(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let special = |byte: &u8| *byte < b' ' || [b'"', b'\\'].contains(byte);
            let length = bytes.iter().position(special).unwrap_or(bytes.len());
            prop_assert_eq!(plain_length(&bytes), length);
        }
    }
}
