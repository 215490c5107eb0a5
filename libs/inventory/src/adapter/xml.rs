//! XML as a tree of bounded size. Entities other than XML's own five are refused, so nothing expands.

use quick_xml::{
    Reader,
    events::{BytesRef, Event},
};
use serde_json::{Map, Value};

use super::AdaptError;

/// Elements inside each other beyond this are refused.
const MAX_DEPTH: usize = 16;

/// An element: its text if it has no children.
#[derive(Debug, Default)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) children: Vec<Element>,
}

impl Element {
    /// The children of a name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first child of a name.
    pub(super) fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }

    /// Text of the first element at a path that has some.
    pub(super) fn text(&self, path: &[&str]) -> Option<String> {
        let found = path.iter().try_fold(self, |element, name| element.child(name))?;
        let text = found.text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// A whole number that isn't negative; of one with a fraction the whole part.
    pub(super) fn number(&self, path: &[&str]) -> Option<i64> {
        let text = self.text(path)?;
        let whole = text.split_once('.').map_or(text.as_str(), |(whole, _)| whole);
        whole.parse().ok().filter(|number| *number >= 0)
    }

    /// Text, or an object of the children; children of one name become an array.
    pub(super) fn to_json(&self) -> Value {
        if self.children.is_empty() {
            return Value::from(self.text.trim());
        }
        let mut object = Map::new();
        for child in &self.children {
            add(&mut object, &child.name, child.to_json());
        }
        Value::Object(object)
    }
}

/// Adds a value; the second of a key makes an array of both.
pub(super) fn add(object: &mut Map<String, Value>, key: &str, value: Value) {
    match object.get_mut(key) {
        None => {
            object.insert(key.to_owned(), value);
        }
        Some(Value::Array(values)) => values.push(value),
        Some(first) => *first = Value::Array(vec![first.take(), value]),
    }
}

/// The root element of a document.
pub(super) fn parse(text: &str, max_elements: usize) -> Result<Element, AdaptError> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<Element> = Vec::new();
    let mut elements = 0;
    loop {
        let position = reader.buffer_position();
        let broken =
            |error: &dyn std::fmt::Display| AdaptError(format!("not XML at byte {position}: {error}"));
        match reader.read_event().map_err(|error| broken(&error))? {
            Event::Start(start) => {
                elements += 1;
                if elements > max_elements || open.len() >= MAX_DEPTH {
                    return Err(AdaptError(format!(
                        "the document has more than {max_elements} elements, or more than {MAX_DEPTH} inside each other"
                    )));
                }
                open.push(Element { name: name(start.name().as_ref()), ..Element::default() });
            }
            Event::Empty(empty) => {
                elements += 1;
                let element = Element { name: name(empty.name().as_ref()), ..Element::default() };
                match open.last_mut() {
                    Some(parent) => parent.children.push(element),
                    None => return Ok(element),
                }
            }
            Event::End(_) => {
                let Some(element) = open.pop() else { return Err(broken(&"an end without a beginning")) };
                match open.last_mut() {
                    Some(parent) => parent.children.push(element),
                    None => return Ok(element),
                }
            }
            Event::Text(text) => {
                let text = text.decode().map_err(|error| broken(&error))?;
                add_text(&mut open, &text);
            }
            Event::CData(data) => {
                let text = data.decode().map_err(|error| broken(&error))?;
                add_text(&mut open, &text);
            }
            Event::GeneralRef(reference) => {
                add_text(
                    &mut open,
                    &resolve(&reference).ok_or_else(|| broken(&"an entity that isn't known"))?,
                );
            }
            Event::Eof => return Err(broken(&"the document ends too early")),
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn add_text(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

fn resolve(reference: &BytesRef<'_>) -> Option<String> {
    if let Ok(Some(character)) = reference.resolve_char_ref() {
        return Some(character.to_string());
    }
    let known = match reference.decode().ok()?.as_ref() {
        "lt" => "<",
        "gt" => ">",
        "amp" => "&",
        "apos" => "'",
        "quot" => "\"",
        _ => return None,
    };
    Some(known.to_owned())
}
