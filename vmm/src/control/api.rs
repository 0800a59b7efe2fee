//! How a request is answered: its route is found in the table of [`requests`](super::requests), what it brings is
//! checked, its handler is called.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::files::Files;
use super::http::{Request, Response};
use super::requests::ROUTES;
use crate::exit_signal::ExitSignal;
use crate::machine::Machine;

/// One kind of request.
pub struct Route {
    /// Method.
    pub method: &'static str,
    /// Path; a part in braces stands for any name.
    pub path: &'static str,
    /// What it does, in a few words.
    pub summary: &'static str,
    /// Whether it takes a document and descriptors.
    pub takes_body: bool,
    /// Who answers it.
    pub handler: Handler,
}

/// Answers a request.
pub type Handler = fn(&mut Call<'_>) -> Result<Response, Refusal>;

/// A request on its way through its handler.
pub struct Call<'a> {
    /// The machine.
    pub machine: &'a mut Machine,
    /// How to end it.
    pub exit: &'a ExitSignal,
    /// Descriptors that came with the request.
    pub files: &'a mut Files,
    request: &'a Request,
    name: &'a str,
}

impl<'a> Call<'a> {
    /// What stands in place of the path's part in braces.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The body. Types of requests refuse unknown fields.
    pub fn document<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        parse(&self.request.body)
    }

    /// The same where no body at all means that nothing is asked for.
    pub fn document_or_default<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let body = match self.request.body.trim_ascii() {
            b"" => b"{}",
            body => body,
        };
        parse(body)
    }

    /// Whether the query has `name=true`.
    #[must_use]
    pub fn asks_for(&self, name: &str) -> bool {
        let mut pairs = self
            .request
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        pairs.any(|(key, value)| key == name && value == "true")
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| Refusal::new(400, format!("the request's document is not valid: {error}")))
}

/// Why a request is not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// For the user.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    #[must_use]
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }
}

/// Answers with a document.
pub fn document(value: &impl Serialize) -> Result<Response, Refusal> {
    serde_json::to_value(value)
        .map(Response::ok)
        .map_err(|error| Refusal::new(500, format!("cannot encode the answer: {error}")))
}

/// Answers that it is done.
pub fn done<E: Into<Refusal>>(result: Result<(), E>) -> Result<Response, Refusal> {
    result.map(|()| Response::ok(json!({}))).map_err(Into::into)
}

/// Answers one request.
pub fn handle(machine: &mut Machine, exit: &ExitSignal, request: &Request, files: &mut Files) -> Response {
    let answer = find(&request.method, &request.path).and_then(|(route, name)| {
        check_body(route, request, files)?;
        (route.handler)(&mut Call {
            machine,
            exit,
            files,
            request,
            name,
        })
    });
    answer.unwrap_or_else(|refusal| Response::error(refusal.status, refusal.message))
}

/// The route of a request, and what stands in place of the path's part in braces.
fn find<'a>(method: &str, path: &'a str) -> Result<(&'static Route, &'a str), Refusal> {
    let mut methods = Vec::new();
    for route in ROUTES {
        let Some(name) = matches(route.path, path) else {
            continue;
        };
        if route.method == method {
            return Ok((route, name));
        }
        methods.push(route.method);
    }
    if methods.is_empty() {
        let all: Vec<_> = ROUTES
            .iter()
            .map(|route| format!("{} {}", route.method, route.path))
            .collect();
        return Err(Refusal::new(
            404,
            format!("there is no {path}; there are {}", all.join(", ")),
        ));
    }
    let message = format!("{method} is not possible on {path}; use {}", methods.join(" or "));
    Err(Refusal::new(405, message))
}

/// Compares a path with a route's. Returns what stands in place of the braces, or nothing of it.
fn matches<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let mut name = "";
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return Some(name),
            (Some(pattern), Some(part)) if pattern.starts_with('{') && !part.is_empty() => name = part,
            (Some(pattern), Some(part)) if pattern == part => {}
            _ => return None,
        }
    }
}

fn check_body(route: &Route, request: &Request, files: &Files) -> Result<(), Refusal> {
    // Some clients send `{}` where nothing is asked for.
    let empty = matches!(request.body.trim_ascii(), b"" | b"{}");
    match route.takes_body {
        false if !empty => Err(Refusal::new(
            400,
            format!("{} {} takes no document", route.method, route.path),
        )),
        false if !files.is_empty() => Err(Refusal::new(
            400,
            format!("{} {} takes no descriptors", route.method, route.path),
        )),
        _ => Ok(()),
    }
}

/// `GET /`: what can be asked.
pub(super) fn list() -> Value {
    let line =
        |route: &Route| json!({ "method": route.method, "path": route.path, "summary": route.summary });
    ROUTES.iter().map(line).collect()
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
