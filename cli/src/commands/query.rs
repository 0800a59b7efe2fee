//! `virga query`: one request to the API, its metadata as it comes.

use http::Method;
use serde_json::Value;

use super::Context;
use crate::args;
use crate::error::{Error, Result};
use crate::output::{self, Format};

/// Sends the request and prints the answer's metadata as JSON (or YAML when asked for).
pub(super) async fn run(context: &Context, args: args::Query) -> Result<()> {
    let method = Method::from_bytes(args.request.to_uppercase().as_bytes())
        .map_err(|_| Error::Usage(format!("'{}' is no HTTP method", args.request)))?;
    if !args.path.starts_with('/') {
        return Err(Error::Usage(format!(
            "'{}' is no path; it begins with /1.0",
            args.path
        )));
    }
    let body: Option<Value> = match &args.data {
        Some(text) => Some(
            serde_json::from_str(text).map_err(|err| Error::Usage(format!("--data is no JSON: {err}")))?,
        ),
        None => None,
    };
    let answer = context.client.call(method, &args.path, body.as_ref()).await?;
    let metadata = if args.wait {
        context.client.finish(answer, "Waiting").await?
    } else {
        answer.metadata
    };
    if metadata.is_null() {
        return Ok(());
    }
    let format = if context.format == Format::Yaml {
        Format::Yaml
    } else {
        Format::Json
    };
    output::document(format, &metadata)
}
