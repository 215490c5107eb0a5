//! The XML that OCS Inventory's agents and those that speak its protocol (FusionInventory, GLPI in its legacy mode) send.

use serde_json::{Map, Value};

use super::{
    AdaptError, AgentRequest,
    computer::{self, MAX_ELEMENTS, Sender},
    xml::{self, Element, add},
};

/// Sections that don't go into `extra`: environment and command lines may hold secrets, packages have a field of their own.
const DROPPED: [&str; 3] = ["ENVS", "PROCESSES", "SOFTWARES"];

/// A request of an agent. `user_agent` is the HTTP header: OCS's own agent names itself nowhere else.
pub(super) fn parse(bytes: &[u8], user_agent: Option<&str>) -> Result<AgentRequest, AdaptError> {
    // Agents pass names of packages on as they find them, whatever their encoding: that must not cost the inventory.
    let text = String::from_utf8_lossy(bytes);
    let request = xml::parse(&text, MAX_ELEMENTS)?;
    if request.name != "REQUEST" {
        return Err(AdaptError(format!("the document is a <{}>, not a <REQUEST>", request.name)));
    }
    match request.text(&["QUERY"]).as_deref() {
        Some("PROLOG") => Ok(AgentRequest::Prolog),
        Some("INVENTORY") => inventory(&request, user_agent),
        Some(other) => Err(AdaptError(format!("QUERY is '{other}'; PROLOG and INVENTORY are taken"))),
        None => Err(AdaptError("<QUERY> is missing".to_owned())),
    }
}

fn inventory(request: &Element, user_agent: Option<&str>) -> Result<AgentRequest, AdaptError> {
    let device_id =
        request.text(&["DEVICEID"]).ok_or_else(|| AdaptError("<DEVICEID> is missing".to_owned()))?;
    let empty = Element::default();
    let content = request.child("CONTENT").unwrap_or(&empty);
    let agent =
        content.text(&["VERSIONCLIENT"]).or_else(|| user_agent.map(str::to_owned)).unwrap_or_default();
    let source = match agent.to_lowercase() {
        name if name.starts_with("fusioninventory") => "fusioninventory",
        name if name.starts_with("glpi") => "glpi",
        _ => "ocs",
    };
    let mut rest = Map::new();
    for section in content.children.iter().filter(|section| !DROPPED.contains(&section.name.as_str())) {
        add(&mut rest, &section.name, section.to_json());
    }
    computer::request(content, Sender { device_id, tag: tag(content), agent, source }, Value::Object(rest))
}

fn tag(content: &Element) -> Option<String> {
    let mut infos = content.all("ACCOUNTINFO");
    let tag = infos.find(|info| info.text(&["KEYNAME"]).as_deref() == Some("TAG"))?;
    tag.text(&["KEYVALUE"])
}
