//! `GET /openapi.json` and `/docs`: the API described for machines and people, from one table of
//! operations.
//!
//! The table lists every path, method and status that the gateway answers with; a test visits
//! each of them and fails on an answer that is not listed.

mod model;
mod operations;
mod schemas;
mod steering;

use std::sync::{Arc, OnceLock};

use actix_web::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Map, Value, json};

use super::error::{self, Code, Problem};
use super::query::Query;
use model::{Body, Method, Operation, Place};
use operations::OPERATIONS;

/// What `/docs` may load: its own files, and the images and styles that Swagger UI writes inline.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
                           img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
                           form-action 'none'; frame-ancestors 'none'";

/// The page of `/docs`, or of `/docs/` if that is what was asked for. Its links are relative, so it
/// works below any scope.
fn docs(path: &str) -> String {
    let files = if path.ends_with('/') { "" } else { "docs/" };
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>Lariat: API</title>\
         <link rel=stylesheet href=\"{files}swagger-ui.css\"><div id=swagger-ui></div>\
         <script src=\"{files}swagger-ui-bundle.js\"></script><script src=\"{files}start.js\"></script>\
         </html>\n"
    )
}

/// What starts Swagger UI; a file of its own because the policy allows no inline scripts.
const START: &str = "const api = new URL('../openapi.json', document.currentScript.src).href;\n\
                     window.ui = SwaggerUIBundle({ url: api, dom_id: '#swagger-ui', \
                     deepLinking: true, validatorUrl: null });\n";

/// Answers `GET /openapi.json`.
pub fn document(request: &HttpRequest) -> Result<HttpResponse, Problem> {
    static TEXT: OnceLock<String> = OnceLock::new();
    Query::none(request.uri().query())?;
    let text = TEXT.get_or_init(|| build().to_string());
    Ok(HttpResponse::Ok().content_type("application/json").body(text.as_str()))
}

/// Answers `GET /docs` and `GET /docs/{file}`.
pub fn page(request: &HttpRequest, file: &str) -> Result<HttpResponse, Problem> {
    Query::none(request.uri().query())?;
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_SECURITY_POLICY, PAGE_POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((CACHE_CONTROL, "no-cache"));
    match file {
        "" => Ok(response.content_type("text/html; charset=utf-8").body(docs(request.path()))),
        "start.js" => Ok(response.content_type("text/javascript").body(START)),
        _ => {
            // The configuration goes into a file that the page does not load.
            let config = Arc::new(utoipa_swagger_ui::Config::from("openapi.json"));
            let asset = utoipa_swagger_ui::serve(file, config).ok().flatten();
            let asset = asset.ok_or_else(|| {
                Problem::new(Code::NotFound, format!("the documentation has no file '{file}'"))
            })?;
            Ok(response.content_type(asset.content_type).body(asset.bytes.into_owned()))
        }
    }
}

/// Answers `GET /docs/errors`.
pub fn errors(request: &HttpRequest) -> Result<HttpResponse, Problem> {
    Query::none(request.uri().query())?;
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_SECURITY_POLICY, PAGE_POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"));
    Ok(response.content_type("text/html; charset=utf-8").body(error::page()))
}

/// The whole document.
fn build() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in OPERATIONS.iter().chain(steering::OPERATIONS) {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        for method in operation.methods {
            path[method.name()] = describe(operation, *method);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Lariat",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "A distributed in-memory LRU cache: any node answers any request. \
                            Errors are `application/problem+json`; their codes are explained at \
                            `/docs/errors`.",
        },
        "servers": [{ "url": "." }],
        "security": [{}, { "token": [] }],
        "tags": operations::TAGS
            .iter()
            .map(|(name, description)| json!({ "name": name, "description": description }))
            .collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn describe(operation: &Operation, method: Method) -> Value {
    let mut described = json!({
        "operationId": if method == Method::Head && operation.methods.len() > 1 {
            format!("{}_head", operation.id)
        } else {
            operation.id.to_string()
        },
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": parameters(operation),
        "responses": responses(operation, method),
    });
    if let Some(body) = operation.body {
        described["requestBody"] = json!({
            "required": matches!(body, Body::Json(_)),
            "content": content(body),
        });
    }
    described
}

fn parameters(operation: &Operation) -> Vec<Value> {
    operation
        .parameters
        .iter()
        .map(|parameter| {
            let place = match parameter.place {
                Place::Path => "path",
                Place::Query => "query",
                Place::Header => "header",
            };
            json!({
                "name": parameter.name,
                "in": place,
                "required": parameter.place == Place::Path,
                "description": parameter.description,
                "schema": schemas::of_text(parameter.schema),
            })
        })
        .collect()
}

fn responses(operation: &Operation, method: Method) -> Map<String, Value> {
    let mut responses = Map::new();
    for reply in operation.replies {
        let mut described = json!({ "description": reply.description });
        if method != Method::Head
            && let Some(body) = reply.body
        {
            described["content"] = content(body);
        }
        let headers: Map<String, Value> = reply
            .headers
            .iter()
            .map(|name| {
                let described = json!({
                    "description": operations::header_help(name),
                    "schema": { "type": "string" },
                });
                (name.to_string(), described)
            })
            .collect();
        if !headers.is_empty() {
            described["headers"] = Value::Object(headers);
        }
        responses.insert(reply.status.to_string(), described);
    }
    for &status in operation.errors {
        let codes: Vec<&str> = Code::ALL
            .iter()
            .filter(|code| code.status().as_u16() == status)
            .map(|code| code.text())
            .collect();
        let mut described = json!({ "description": format!("`{}`", codes.join("`, `")) });
        if method != Method::Head {
            described["content"] = content(Body::Problem);
        }
        // A status can mean success and failure, as of /health; the success is described.
        responses.entry(status.to_string()).or_insert(described);
    }
    responses
}

fn content(body: Body) -> Value {
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    match body {
        Body::Json(name) => json!({ "application/json": { "schema": reference(name) } }),
        Body::Problem => json!({ "application/problem+json": { "schema": reference("Problem") } }),
        Body::Bytes => json!({ "*/*": {} }),
        Body::Text(media) => {
            let mut content = json!({});
            content[media] = json!({ "schema": { "type": "string" } });
            content
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::path::Route;

    /// A path of a route, from its pattern.
    fn example(pattern: &str) -> String {
        pattern.replace(['{', '}'], "")
    }

    #[test]
    fn every_operation_is_routed_and_every_method_of_a_route_is_described() {
        let document = build();
        for (pattern, described) in document["paths"].as_object().unwrap() {
            let path = example(pattern);
            let route = Route::of(&path).unwrap_or_else(|| panic!("{path} is not routed"));
            let mut methods: Vec<String> =
                route.methods().iter().map(|method| method.to_lowercase()).collect();
            let mut listed: Vec<String> = described.as_object().unwrap().keys().cloned().collect();
            methods.sort();
            listed.sort();
            assert_eq!(methods, listed, "{pattern}");
        }
    }

    #[test]
    fn operations_have_ids_of_their_own_and_known_tags() {
        let document = build();
        let mut seen = std::collections::HashSet::new();
        for path in document["paths"].as_object().unwrap().values() {
            for operation in path.as_object().unwrap().values() {
                let id = operation["operationId"].as_str().unwrap();
                assert!(seen.insert(id.to_string()), "{id} is used twice");
                let tag = operation["tags"][0].as_str().unwrap();
                assert!(operations::TAGS.iter().any(|(name, _)| *name == tag), "{tag}");
            }
        }
    }

    #[test]
    fn the_status_of_every_error_is_documented() {
        let operations = || OPERATIONS.iter().chain(steering::OPERATIONS);
        // 405 answers methods that are in no document.
        for code in Code::ALL.iter().filter(|code| **code != Code::MethodNotAllowed) {
            let status = code.status().as_u16();
            let is_there = operations().any(|operation| operation.errors.contains(&status));
            assert!(is_there, "{status} of {}", code.text());
        }
    }

    #[test]
    fn every_reference_leads_to_a_schema() {
        fn visit(value: &Value, schemas: &Value) {
            match value {
                Value::Object(object) => {
                    if let Some(Value::String(reference)) = object.get("$ref") {
                        let name = reference.rsplit('/').next().unwrap();
                        assert!(schemas.get(name).is_some(), "{reference}");
                    }
                    object.values().for_each(|value| visit(value, schemas));
                }
                Value::Array(list) => list.iter().for_each(|value| visit(value, schemas)),
                _ => {}
            }
        }
        let document = build();
        visit(&document, &document["components"]["schemas"]);
    }

    #[test]
    fn the_files_of_the_page_are_there() {
        for file in ["swagger-ui.css", "swagger-ui-bundle.js"] {
            let config = Arc::new(utoipa_swagger_ui::Config::from("openapi.json"));
            assert!(docs("/docs").contains(file));
            assert!(utoipa_swagger_ui::serve(file, config).unwrap().is_some(), "{file}");
        }
    }
}
