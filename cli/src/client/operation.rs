//! Waiting for an operation, with its progress on the terminal.

use std::time::Duration;

use http::Method;
use serde_json::Value;

use super::{Answer, Client};
use crate::error::{Error, Result};
use crate::progress;

/// How often the progress text is refreshed; the end itself is waited for without delay.
const REFRESH: Duration = Duration::from_millis(250);

impl Client {
    /// Sends a request and, when it starts an operation, waits for its end.
    ///
    /// Gives the operation's document, or the answer's metadata when there is no operation.
    /// Interrupting the wait asks the daemon to cancel the operation.
    pub(crate) async fn run(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        what: &str,
    ) -> Result<Value> {
        let answer = self.call(method, path, body).await?;
        self.finish(answer, what).await
    }

    /// Waits for the end of the operation that `answer` started, if any.
    pub(crate) async fn finish(&self, answer: Answer, what: &str) -> Result<Value> {
        match answer.operation {
            Some(path) => self.wait(&path, what).await,
            None => Ok(answer.metadata),
        }
    }

    /// Waits for the operation at `path`.
    pub(crate) async fn wait(&self, path: &str, what: &str) -> Result<Value> {
        let bar = progress::spinner(self.quiet, what);
        let wait_path = format!("{path}/wait");
        let end = self.get_value(&wait_path);
        tokio::pin!(end);
        let mut refresh = tokio::time::interval(REFRESH);
        refresh.tick().await;
        let operation = loop {
            tokio::select! {
                done = &mut end => break done?,
                _ = refresh.tick(), if !bar.is_hidden() => {
                    if let Ok(state) = self.get_value(path).await
                        && let Some(text) = progress_text(&state["metadata"])
                    {
                        bar.set_message(format!("{what}: {text}"));
                    }
                }
                _ = tokio::signal::ctrl_c() => {
                    bar.finish_and_clear();
                    self.call(Method::DELETE, path, None).await?;
                    return Err(Error::Usage("interrupted; the operation was cancelled".into()));
                }
            }
        };
        bar.finish_and_clear();
        check(operation)
    }
}

/// Turns a finished operation that failed into an error.
fn check(operation: Value) -> Result<Value> {
    let status = operation["status_code"].as_u64().unwrap_or(0);
    if status == 200 {
        return Ok(operation);
    }
    let message = match operation["err"].as_str() {
        Some(err) if !err.is_empty() => err.to_owned(),
        _ => format!(
            "the operation ended as {}",
            operation["status"].as_str().unwrap_or("unknown")
        ),
    };
    let status = operation["error_code"]
        .as_u64()
        .filter(|code| *code != 0)
        .unwrap_or(status);
    Err(Error::Api {
        status: u16::try_from(status).unwrap_or(500),
        message,
    })
}

/// The human part of an operation's metadata: any string whose key ends in `_progress`.
fn progress_text(metadata: &Value) -> Option<String> {
    metadata
        .as_object()?
        .iter()
        .find(|(key, value)| key.ends_with("_progress") && value.is_string())
        .and_then(|(_, value)| value.as_str().map(str::to_owned))
}

#[cfg(test)]
#[path = "operation_tests.rs"]
mod tests;
