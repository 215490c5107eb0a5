//! The JSON that GLPI's agent sends in its own protocol.
//!
//! It holds the sections of the older XML, under names in lower case.

use serde_json::Value;

use super::{
    AdaptError, AgentRequest,
    computer::{self, MAX_ELEMENTS, Sender},
    document::{flag, text, without},
    ocs,
    xml::Element,
};

/// Not for `extra`: see the older protocol.
const DROPPED: [&str; 3] = ["envs", "processes", "softwares"];

/// What has another name than in the older protocol.
const RENAMED: [(&str, &str); 2] = [("firewalls", "FIREWALL"), ("members", "MEMBER")];

pub(super) fn parse(bytes: &[u8]) -> Result<AgentRequest, AdaptError> {
    if bytes.trim_ascii_start().starts_with(b"<") {
        // Who doesn't know yet that this protocol is spoken here begins with the older one.
        return match ocs::parse(bytes, None)? {
            AgentRequest::Prolog => Ok(AgentRequest::Prolog),
            AgentRequest::Inventory { .. } => Err(AdaptError("the inventory is XML, not JSON".to_owned())),
        };
    }
    // Each value of a document has one of these before it.
    let elements = bytes.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    if elements > MAX_ELEMENTS {
        return Err(AdaptError(format!("the document has {elements} elements, more than {MAX_ELEMENTS}")));
    }
    let message: Value = serde_json::from_str(&String::from_utf8_lossy(bytes))
        .map_err(|error| AdaptError(format!("not JSON: {error}")))?;
    match text(&message, &["action"]).as_deref() {
        Some("contact") => Ok(AgentRequest::Prolog),
        Some("inventory") | None => inventory(message),
        Some(other) => Err(AdaptError(format!("'action' is '{other}'; contact and inventory are taken"))),
    }
}

fn inventory(mut message: Value) -> Result<AgentRequest, AdaptError> {
    if let Some(other) = text(&message, &["itemtype"]).filter(|kind| kind != "Computer") {
        return Err(AdaptError(format!("'itemtype' is '{other}'; only a Computer is taken")));
    }
    // A record says all that is known of a host; what is left out of this one would count as gone.
    if flag(&message, &["partial"]) == Some(true) {
        let remedy = "set full-inventory-postpone = 0 in agent.cfg";
        return Err(AdaptError(format!(
            "the inventory is a partial one, and only whole ones are taken: {remedy}"
        )));
    }
    let device_id =
        text(&message, &["deviceid"]).ok_or_else(|| AdaptError("'deviceid' is missing".to_owned()))?;
    let tag = text(&message, &["tag"]);
    let content = message["content"].take();
    if !content.is_object() {
        return Err(AdaptError("'content' is missing".to_owned()));
    }
    let tree = element("content", &content);
    let agent = tree.text(&["VERSIONCLIENT"]).unwrap_or_default();
    computer::request(&tree, Sender { device_id, tag, agent, source: "glpi" }, without(content, &DROPPED))
}

/// As the older protocol would have written it.
fn element(key: &str, value: &Value) -> Element {
    let renamed = RENAMED.iter().find(|(new, _)| *new == key);
    let name = renamed.map_or_else(|| key.to_uppercase(), |(_, old)| (*old).to_owned());
    let mut element = Element { name, ..Element::default() };
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::Array(items) => {
                        element.children.extend(items.iter().map(|item| self::element(key, item)));
                    }
                    value => element.children.push(self::element(key, value)),
                }
            }
        }
        Value::String(text) => element.text.clone_from(text),
        Value::Number(number) => element.text = number.to_string(),
        Value::Bool(flag) => element.text = u8::from(*flag).to_string(),
        Value::Array(_) | Value::Null => {}
    }
    element
}

#[cfg(test)]
mod tests;
