//! Holds `docs/openapi.json` against the routes, and its examples against their schemas.

use serde_json::{Value, json};

use super::*;

fn document() -> Value {
    serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap()
}

/// Returns the reasons why a schema does not accept a value.
fn problems(schema: &Value, value: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(schema).unwrap();
    validator.iter_errors(value).map(|problem| problem.to_string()).collect()
}

fn examples(content: &Value) -> impl Iterator<Item = &Value> {
    content["examples"].as_object().into_iter().flatten().map(|(_, example)| &example["value"])
}

#[test]
fn the_openapi_document_is_one() {
    let schema = include_str!("../../../tests/conformance/openapi-3.1.schema.json");
    let schema = serde_json::from_str(schema).unwrap();
    assert_eq!(problems(&schema, &document()), Vec::<String>::new());
}

#[test]
fn the_openapi_document_has_the_routes_with_their_method_and_no_other() {
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    let mut listed: Vec<_> = paths.keys().map(String::as_str).collect();
    let mut routes = ROUTES.map(|(path, _)| path);
    listed.sort_unstable();
    routes.sort_unstable();
    assert_eq!(listed, routes);
    for (path, methods) in paths {
        let methods: Vec<_> = methods.as_object().unwrap().keys().collect();
        assert_eq!(methods, ["post"], "{path}");
    }
}

#[test]
fn every_example_of_the_openapi_document_is_what_its_schema_says() {
    let document = document();
    let recommended = include_str!("../../../docs/reading-request.v1.json");
    let recommended = serde_json::from_str(recommended).unwrap();
    let mut checked = 0;
    for (path, policy) in ROUTES {
        let operation = &document["paths"][path]["post"];
        let body = &operation["requestBody"]["content"]["application/json"];
        for example in examples(body).filter(|_| policy == RoutePolicy::Api) {
            assert_eq!(problems(&recommended, example), Vec::<String>::new(), "{example}");
            checked += 1;
        }
        let responses = operation["responses"].as_object().unwrap().values();
        // An answer that is not of the route has any form.
        for (_, content) in
            responses.flat_map(|response| response["content"].as_object().into_iter().flatten())
        {
            // References lead to the components.
            let schema = json!({
                "$ref": content["schema"]["$ref"],
                "components": document["components"],
            });
            for example in examples(content) {
                assert_eq!(problems(&schema, example), Vec::<String>::new(), "{example}");
                checked += 1;
            }
        }
    }
    assert!(checked > 10, "{checked} examples");
}
