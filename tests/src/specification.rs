//! Answers beside what is specified of them: the Iceberg API's, and that of Firn's own endpoints.
//!
//! `iceberg-rest.json` is derived from the specification of Apache Iceberg by `scripts/derive-specification`.

mod schema;

use std::{collections::BTreeSet, sync::LazyLock};

use serde_json::{Value, json};

/// Refusals that come before an operation is looked at, or of which HTTP itself speaks.
const OF_ANY_OPERATION: [&str; 5] = ["403", "406", "413", "422", "429"];
/// What Iceberg's specification overlooks: namespaces lie in others, and what is signed for is a table.
const OVERLOOKED: [(&str, &str); 2] = [("createNamespace", "404"), ("signRequest", "404")];

static ICEBERG: LazyLock<Specification> = LazyLock::new(|| {
    Specification::parse(
        "/iceberg/",
        include_str!("specification/iceberg-rest.json"),
        "#/components/schemas/IcebergErrorResponse",
    )
});

static FIRN: LazyLock<Specification> = LazyLock::new(|| {
    Specification::parse("/v1/", include_str!("../../docs/openapi.json"), "#/components/schemas/ErrorBody")
});

/// An OpenAPI document.
#[derive(Debug)]
pub struct Specification {
    /// Of the paths that it speaks of.
    prefix: &'static str,
    document: Value,
    /// The schema of errors.
    envelope: Value,
}

/// An answer to be looked at.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Method of the request, in any case.
    pub method: &'a str,
    /// Path of the request.
    pub path: &'a str,
    /// Status.
    pub status: u16,
    /// Whether it says that it is JSON.
    pub is_json: bool,
    /// Body.
    pub body: &'a [u8],
}

impl Specification {
    /// Of the Iceberg REST catalog.
    #[must_use]
    pub fn iceberg() -> &'static Self {
        &ICEBERG
    }

    /// Of Firn's own endpoints, as `docs/openapi.json` has it.
    #[must_use]
    pub fn firn() -> &'static Self {
        &FIRN
    }

    fn parse(prefix: &'static str, text: &str, envelope: &str) -> Self {
        let document = serde_json::from_str(text).expect("the document is JSON");
        Self { prefix, document, envelope: json!({ "$ref": envelope }) }
    }

    /// Names of all operations: their ids, or method and path.
    #[must_use]
    pub fn operations(&self) -> BTreeSet<String> {
        self.all().map(|(method, path, operation)| name(method, path, operation)).collect()
    }

    /// Methods and paths of all operations.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.all().map(|(method, path, _)| format!("{} {path}", method.to_uppercase())).collect()
    }

    fn all(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        let paths = self.document["paths"].as_object().into_iter().flatten();
        paths.flat_map(|(path, methods)| {
            let methods = methods.as_object().into_iter().flatten();
            methods.map(move |(method, operation)| (method.as_str(), path.as_str(), operation))
        })
    }

    /// The operation that was answered, if it is one of these.
    ///
    /// # Errors
    /// What isn't as specified.
    pub fn check(&self, answer: Answer<'_>) -> Result<Option<String>, String> {
        let Some((path, operation)) = self.operation(&answer.method.to_lowercase(), answer.path) else {
            return Ok(None);
        };
        let name = name(answer.method, path, operation);
        let told = |wrong| {
            let Answer { status, body, .. } = answer;
            let body = String::from_utf8_lossy(body);
            format!("{name} isn't answered as specified, {status}: {wrong}\n{body}")
        };
        self.judge(operation, answer).map_err(told)?;
        Ok(Some(name))
    }

    /// The operation of a request: a path without braces wins.
    fn operation(&self, method: &str, path: &str) -> Option<(&str, &Value)> {
        // The paths of Iceberg's document begin behind the catalog's own.
        let path = match self.prefix {
            "/iceberg/" => path.strip_prefix("/iceberg")?,
            prefix => path.starts_with(prefix).then_some(path)?,
        };
        let path: Vec<&str> = path.split('/').collect();
        let fits = |template: &str| {
            let template: Vec<&str> = template.split('/').collect();
            let same = |(part, found): (&&str, &&str)| part.starts_with('{') || part == found;
            template.len() == path.len() && template.iter().zip(&path).all(same)
        };
        let found = self.all().filter(|(has, template, _)| *has == method && fits(template));
        let best = found.min_by_key(|(_, template, _)| template.matches('{').count())?;
        Some((best.1, best.2))
    }

    /// What is wrong with an answer.
    fn judge(&self, operation: &Value, answer: Answer<'_>) -> Result<(), String> {
        let text = answer.status.to_string();
        let class = format!("{}XX", answer.status / 100);
        let responses = &operation["responses"];
        let mut response = responses.get(&text).or_else(|| responses.get(&class));
        let id = operation["operationId"].as_str().unwrap_or_default();
        // Of Firn's own endpoints only the failures are listed that a client should expect.
        if id.is_empty() && response.is_none() && answer.status >= 400 {
            return self.judge_body(&self.envelope, answer);
        }
        if OF_ANY_OPERATION.contains(&text.as_str()) || OVERLOOKED.contains(&(id, text.as_str())) {
            response = response.or_else(|| responses.get("400"));
        }
        let response = self.resolved(response.ok_or("there is no such status")?)?;
        // What answers HEAD has no body, whatever is specified; and what a handler of it says is not sent.
        let of_head = id.ends_with("Exists");
        match response["content"].as_object() {
            None if of_head => Ok(()),
            Some(_) if of_head && answer.body.is_empty() => Ok(()),
            // Other media types aren't looked into.
            Some(content) if !content.contains_key("application/json") => Ok(()),
            Some(content) => match content["application/json"].get("schema") {
                Some(schema) => self.judge_body(schema, answer),
                None => Ok(()),
            },
            None if answer.body.is_empty() => Ok(()),
            None => Err("there is a body".to_owned()),
        }
    }

    fn judge_body(&self, schema: &Value, answer: Answer<'_>) -> Result<(), String> {
        if !answer.is_json {
            return Err("the content type isn't application/json".to_owned());
        }
        let body: Value = serde_json::from_slice(answer.body).map_err(|error| error.to_string())?;
        schema::check(&self.document, self.as_sent(schema), &body, "$")?;
        match body["error"]["code"].as_u64() {
            Some(code) if answer.status >= 400 && code != u64::from(answer.status) => {
                Err(format!("the error's code is {code}"))
            }
            _ => Ok(()),
        }
    }

    /// Of some errors Iceberg's specification names what is in the envelope; its examples, and all clients, have the envelope.
    fn as_sent<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some("#/components/schemas/ErrorModel") => &self.envelope,
            _ => schema,
        }
    }

    fn resolved<'a>(&'a self, node: &'a Value) -> Result<&'a Value, String> {
        match node["$ref"].as_str() {
            Some(reference) => self
                .document
                .pointer(reference.trim_start_matches('#'))
                .ok_or_else(|| format!("there is no {reference}")),
            None => Ok(node),
        }
    }
}

fn name(method: &str, path: &str, operation: &Value) -> String {
    match operation["operationId"].as_str() {
        Some(id) => id.to_owned(),
        None => format!("{} {path}", method.to_uppercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_not_as_specified_is_told() {
        let check = |path, status, body: &Value| {
            let body = body.to_string();
            let answer = Answer { method: "GET", path, status, is_json: true, body: body.as_bytes() };
            Specification::firn().check(answer)
        };
        let error = json!({"error": {"message": "none", "type": "NotFound", "code": 404}});
        assert_eq!(check("/v1/events", 200, &json!({"tenants": []})), Ok(Some("GET /v1/events".to_owned())));
        assert_eq!(check("/v1/tenants/acme", 404, &error), Ok(Some("GET /v1/tenants/{tenant}".to_owned())));
        assert_eq!(check("/somewhere/else", 200, &json!({})), Ok(None));
        for (path, status, body, wrong) in [
            ("/v1/events", 200, json!({"tenants": [{"tenant": "a", "sequence": "1"}]}), "sequence is \"1\""),
            ("/v1/events", 200, json!({}), "$ has no 'tenants'"),
            ("/v1/events", 201, json!({"tenants": []}), "there is no such status"),
            ("/v1/events", 403, error, "the error's code is 404"),
            ("/v1/events", 500, json!({"message": "none"}), "$ has no 'error'"),
        ] {
            let told = check(path, status, &body).expect_err("it is wrong");
            assert!(told.contains(wrong), "{told}");
        }
    }
}
