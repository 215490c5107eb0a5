//! What a service says of its endpoints: bodies, queries and answers are described by the types that its handlers read and write.

use utoipa::{
    IntoParams, ToSchema,
    openapi::{
        Components, Content, ContentBuilder, HttpMethod, ObjectBuilder, PathItem, Paths, PathsBuilder, Ref,
        RefOr, Required, ResponseBuilder, ResponsesBuilder, Schema, SecurityRequirement,
        path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
        request_body::RequestBodyBuilder,
        schema::{ArrayBuilder, SchemaType, Type},
    },
};

use crate::http::ErrorBody;

const JSON: &str = "application/json";
const DENIED: [(&str, &str); 2] = [("401", "No valid token"), ("403", "The token doesn't allow it")];

/// One operation.
#[derive(Clone)]
pub struct Endpoint {
    /// Method.
    pub method: HttpMethod,
    /// Path, its parameters in braces.
    pub path: &'static str,
    /// What it belongs to.
    pub tag: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// Query parameters.
    pub query: fn() -> Vec<Parameter>,
    /// What is sent.
    pub body: Body,
    /// Success: status and what it means.
    pub success: (&'static str, &'static str),
    /// What is answered then.
    pub answer: Body,
    /// Other answers that are no errors.
    pub also: &'static [(&'static str, &'static str, Body)],
    /// Failures that a client should expect.
    pub failures: &'static [(&'static str, &'static str)],
    /// Whether a token is needed.
    pub token: bool,
}

/// What is sent or answered.
#[derive(Clone, Copy)]
pub enum Body {
    /// Nothing.
    None,
    /// JSON.
    Json(Shape),
    /// JSON, or nothing at all.
    MaybeJson(Shape),
    /// An object with a list of these under this name.
    List(&'static str, Shape),
    /// Something of another media type, or of a shape that another specification has.
    Other(&'static str),
}

/// The schema of a type; what it refers to goes into the list.
pub type Shape = fn(&mut Vec<(String, RefOr<Schema>)>) -> RefOr<Schema>;

/// The schema of `T` by its name.
pub fn shape<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) -> RefOr<Schema> {
    T::schemas(schemas);
    schemas.push((T::name().into_owned(), T::schema()));
    Ref::from_schema_name(T::name()).into()
}

/// A list of `T`.
pub fn list<T: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) -> RefOr<Schema> {
    Schema::Array(ArrayBuilder::new().items(shape::<T>(schemas)).build()).into()
}

/// The fields of `T` as query parameters.
#[must_use]
pub fn query<T: IntoParams>() -> Vec<Parameter> {
    T::into_params(|| Some(ParameterIn::Query))
}

/// Something that a token lets one read.
#[must_use]
pub const fn get(path: &'static str, tag: &'static str, summary: &'static str, answer: Body) -> Endpoint {
    Endpoint {
        method: HttpMethod::Get,
        path,
        tag,
        summary,
        query: Vec::new,
        body: Body::None,
        success: ("200", "The answer"),
        answer,
        also: &[],
        failures: &DENIED,
        token: true,
    }
}

/// Something that a token lets one do.
#[must_use]
pub const fn post(
    path: &'static str,
    tag: &'static str,
    summary: &'static str,
    body: Body,
    answer: Body,
) -> Endpoint {
    Endpoint { method: HttpMethod::Post, body, ..get(path, tag, summary, answer) }
}

/// The same with `PUT`.
#[must_use]
pub const fn put(
    path: &'static str,
    tag: &'static str,
    summary: &'static str,
    body: Body,
    answer: Body,
) -> Endpoint {
    Endpoint { method: HttpMethod::Put, body, ..get(path, tag, summary, answer) }
}

/// Something that is taken away, and nothing answered but `meaning`.
#[must_use]
pub const fn delete(
    path: &'static str,
    tag: &'static str,
    summary: &'static str,
    meaning: &'static str,
) -> Endpoint {
    Endpoint { method: HttpMethod::Delete, success: ("204", meaning), ..get(path, tag, summary, Body::None) }
}

/// Something that anybody may read.
#[must_use]
pub const fn open(path: &'static str, summary: &'static str, answer: Body) -> Endpoint {
    Endpoint { failures: &[], token: false, ..get(path, "server", summary, answer) }
}

/// Paths and the components that they refer to.
#[must_use]
pub fn describe<'a>(endpoints: impl IntoIterator<Item = &'a Endpoint>) -> (Paths, Components) {
    let (mut paths, mut schemas) = (PathsBuilder::new(), Vec::new());
    let error = shape::<ErrorBody>(&mut schemas);
    for endpoint in endpoints {
        let item = PathItem::new(endpoint.method.clone(), operation(endpoint, &error, &mut schemas));
        paths = paths.path(endpoint.path, item);
    }
    let mut components = Components::new();
    components.schemas.extend(schemas);
    (paths.build(), components)
}

/// The types that an endpoint's bodies are made of.
#[must_use]
pub fn schemas(endpoint: &Endpoint) -> Vec<(String, RefOr<Schema>)> {
    let mut schemas = Vec::new();
    operation(endpoint, &Ref::from_schema_name(ErrorBody::name()).into(), &mut schemas);
    schemas
}

fn operation(
    endpoint: &Endpoint,
    error: &RefOr<Schema>,
    schemas: &mut Vec<(String, RefOr<Schema>)>,
) -> Operation {
    let (status, meaning) = endpoint.success;
    let mut responses = ResponsesBuilder::new();
    for (status, meaning, answer) in endpoint.also.iter().copied().chain([(status, meaning, endpoint.answer)])
    {
        let mut response = ResponseBuilder::new().description(meaning);
        if let Some((media, content, _)) = answer.content(schemas) {
            response = response.content(media, content);
        }
        responses = responses.response(status, response.build());
    }
    for (status, meaning) in endpoint.failures {
        let content = ContentBuilder::new().schema(Some(error.clone())).build();
        let failure = ResponseBuilder::new().description(*meaning).content(JSON, content);
        responses = responses.response(*status, failure.build());
    }
    let mut operation = OperationBuilder::new()
        .summary(Some(endpoint.summary))
        .tag(endpoint.tag)
        .responses(responses.build());
    for name in path_parameters(endpoint.path) {
        let text = ObjectBuilder::new().schema_type(SchemaType::new(Type::String)).build();
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .schema(Some(Schema::Object(text)));
        operation = operation.parameter(parameter);
    }
    for parameter in (endpoint.query)() {
        operation = operation.parameter(parameter);
    }
    if let Some((media, content, required)) = endpoint.body.content(schemas) {
        let body = RequestBodyBuilder::new().content(media, content).required(Some(required));
        operation = operation.request_body(Some(body.build()));
    }
    if endpoint.token {
        operation = operation.security(SecurityRequirement::new("bearer", Vec::<String>::new()));
    }
    operation.build()
}

fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

impl Body {
    /// Media type, content and whether it must be there.
    fn content(
        self,
        schemas: &mut Vec<(String, RefOr<Schema>)>,
    ) -> Option<(&'static str, Content, Required)> {
        let of = |schema: RefOr<Schema>| ContentBuilder::new().schema(Some(schema)).build();
        match self {
            Self::None => None,
            Self::Json(shape) => Some((JSON, of(shape(schemas)), Required::True)),
            Self::MaybeJson(shape) => Some((JSON, of(shape(schemas)), Required::False)),
            Self::List(name, shape) => {
                let items = ArrayBuilder::new().items(shape(schemas)).build();
                let object = ObjectBuilder::new().property(name, Schema::Array(items)).required(name).build();
                Some((JSON, of(Schema::Object(object).into()), Required::True))
            }
            Self::Other(media) => Some((media, ContentBuilder::new().build(), Required::True)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[derive(ToSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    struct Inner {
        /// How many.
        count: u64,
    }

    #[derive(ToSchema)]
    #[allow(dead_code, reason = "only its schema is looked at")]
    struct Outer {
        inner: Option<Inner>,
    }

    #[derive(IntoParams)]
    #[allow(dead_code, reason = "only its parameters are looked at")]
    struct Wanted {
        /// How many at most.
        limit: Option<u32>,
    }

    #[test]
    fn an_endpoint_is_described_by_its_types() {
        let all = [
            Endpoint {
                query: query::<Wanted>,
                ..post(
                    "/v1/{tenant}/things",
                    "things",
                    "Make one",
                    Body::MaybeJson(shape::<Inner>),
                    Body::List("things", shape::<Outer>),
                )
            },
            delete("/v1/{tenant}/things/{id}", "things", "Remove one", "It is gone"),
            open("/metrics", "Metrics", Body::Other("text/plain")),
        ];
        let (paths, components) = describe(&all);
        let (paths, components) =
            (serde_json::to_value(paths).unwrap(), serde_json::to_value(components).unwrap());

        let make = &paths["/v1/{tenant}/things"]["post"];
        let names: Vec<_> = make["parameters"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
        assert_eq!(names, ["tenant", "limit"]);
        assert_eq!(make["parameters"][1]["description"], "How many at most.");
        assert_eq!(make["requestBody"]["required"], false);
        assert_eq!(make["requestBody"]["content"][JSON]["schema"]["$ref"], "#/components/schemas/Inner");
        let listed = &make["responses"]["200"]["content"][JSON]["schema"]["properties"]["things"];
        assert_eq!(listed["items"]["$ref"], "#/components/schemas/Outer");
        assert_eq!(
            make["responses"]["403"]["content"][JSON]["schema"]["$ref"],
            "#/components/schemas/ErrorBody"
        );
        let remove = &paths["/v1/{tenant}/things/{id}"]["delete"];
        assert_eq!(remove["responses"]["204"]["description"], "It is gone");
        assert!(remove["responses"]["204"].get("content").is_none());
        assert!(remove.get("security").is_some());
        assert!(paths["/metrics"]["get"].get("security").is_none());
        for name in ["Inner", "Outer", "ErrorBody", "ErrorDetail"] {
            assert_eq!(components["schemas"][name]["type"], "object", "{name}");
        }
        assert_eq!(components["schemas"]["Inner"]["properties"]["count"]["description"], "How many.");
    }
}
