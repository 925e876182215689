//! Reads traces from Jaeger's API.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::clients::http;
use crate::stack::wait::eventually;
use crate::stack::world::World;

/// The longest wait for a trace. Each process exports its spans in batches.
const EXPORTED_WITHIN: Duration = Duration::from_secs(60);

/// The most traces of a search. Tests share Jaeger, and the newest traces are those of others.
const TRACES_MAX: &str = "1000";

/// All spans of one trace.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// The spans, in no order.
    pub spans: Vec<Span>,
}

/// A span.
#[derive(Debug, Clone)]
pub struct Span {
    /// Id of the trace.
    pub trace: String,
    /// Id of the span.
    pub id: String,
    /// Name of the span.
    pub name: String,
    /// The service that recorded the span.
    pub service: String,
    /// Id of the parent span.
    pub parent: Option<String>,
    /// Trace and span of each link.
    pub links: Vec<(String, String)>,
    /// The attributes, as text.
    pub attributes: Vec<(String, String)>,
}

impl Span {
    /// Returns an attribute's text.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Trace {
    /// Returns the spans of this name, of any service.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Span> {
        self.spans.iter().filter(move |span| span.name == name)
    }

    /// Returns the first span of this name.
    pub fn one(&self, name: &str) -> anyhow::Result<&Span> {
        let names: Vec<_> = self.spans.iter().map(|span| span.name.as_str()).collect();
        let found = self.spans.iter().find(|span| span.name == name);
        found.with_context(|| format!("no span `{name}` among {names:?}"))
    }

    /// Returns the spans directly under `parent`.
    pub fn children<'a>(&'a self, parent: &'a Span) -> impl Iterator<Item = &'a Span> {
        self.spans.iter().filter(|span| span.parent.as_ref() == Some(&parent.id))
    }
}

/// Returns Jaeger's address, for a test that needs Jaeger.
pub fn url(world: &World) -> anyhow::Result<&str> {
    world.stack.jaeger_url.as_deref().context("JAEGER_URL is not set: this test needs Jaeger")
}

/// Waits until a trace satisfies `enough`.
pub async fn trace(
    world: &World,
    id: &str,
    enough: impl Fn(&Trace) -> bool,
) -> anyhow::Result<Trace> {
    let trace_url = format!("{}/api/traces/{id}", url(world)?);
    eventually(EXPORTED_WITHIN, &format!("trace {id}"), || async {
        let answer = http::get(&trace_url).await?;
        let found = answer.json["data"].get(0).map(parse).context("Jaeger does not know it")?;
        let names: Vec<_> = found.spans.iter().map(|span| span.name.clone()).collect();
        ensure!(enough(&found), "it has only {names:?}");
        Ok(Some(found))
    })
    .await
}

/// Returns the traces that a search finds, by service, operation, tags (JSON) and the like, since
/// the world was created: an answer with all older traces of other tests takes Jaeger too long.
pub async fn search(world: &World, asked: &[(&str, &str)]) -> anyhow::Result<Vec<Trace>> {
    let since = world.created.duration_since(UNIX_EPOCH)?.as_micros().to_string();
    let bounds = [("start", since.as_str()), ("limit", TRACES_MAX)];
    let asked = asked.iter().chain(&bounds);
    let url = reqwest::Url::parse_with_params(&format!("{}/api/traces", url(world)?), asked)?;
    let answer = http::get(url.as_str()).await?;
    Ok(answer.json["data"].as_array().into_iter().flatten().map(parse).collect())
}

fn parse(trace: &Value) -> Trace {
    let spans = trace["spans"].as_array().into_iter().flatten();
    Trace { spans: spans.map(|span| parse_span(trace, span)).collect() }
}

fn parse_span(trace: &Value, span: &Value) -> Span {
    let own_trace = text(&span["traceID"]);
    let process = text(&span["processID"]);
    let references = span["references"].as_array().map_or(&[][..], Vec::as_slice);
    // Jaeger turns a parent into a CHILD_OF reference and each link into a FOLLOWS_FROM reference.
    let parent = references.iter().find(|reference| reference["refType"] == "CHILD_OF");
    let links = references.iter().filter(|reference| reference["refType"] == "FOLLOWS_FROM");
    let attributes = span["tags"].as_array().into_iter().flatten();
    Span {
        id: text(&span["spanID"]),
        name: text(&span["operationName"]),
        service: text(&trace["processes"][&process]["serviceName"]),
        parent: parent.map(|parent| text(&parent["spanID"])),
        links: links.map(|link| (text(&link["traceID"]), text(&link["spanID"]))).collect(),
        attributes: attributes.map(|tag| (text(&tag["key"]), text(&tag["value"]))).collect(),
        trace: own_trace,
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
