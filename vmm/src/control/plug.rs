//! `POST /devices` and `DELETE /devices/ID`: devices that come and go.
//!
//! A new device is described as in the configuration. What it stands on comes as descriptors with the request: wherever the
//! configuration could name one that was inherited, the document names one of the request's, counted from 0.

use std::os::fd::RawFd;

use serde_json::{Value, json};

use super::api::{Call, Refusal, document};
use super::files::Files;
use super::http::Response;
use crate::config::NewDevice;
use crate::host_file;
use crate::machine::Removal;

/// Descriptors of a request, under the numbers that they have in this process. Those that nobody took are closed.
struct Offered(Vec<RawFd>);

impl Offered {
    fn new(files: &mut Files) -> Self {
        Self(files.take_all().map(host_file::offer).collect())
    }

    fn number(&self, index: Option<usize>, name: &str) -> Result<RawFd, Refusal> {
        let number = index.and_then(|index| self.0.get(index)).copied();
        number.ok_or_else(|| {
            let message = format!(
                "{name} does not name one of the {} descriptors that came with the request; the first is fd:0",
                self.0.len()
            );
            Refusal::new(400, message)
        })
    }

    /// Puts our numbers in place of the request's: in `"fd:0"` wherever it stands, and in the numbers of `fd` and `fds`.
    fn rename(&self, value: &mut Value) -> Result<(), Refusal> {
        match value {
            Value::String(text) => {
                if let Some(index) = text.strip_prefix("fd:") {
                    *text = format!("fd:{}", self.number(index.parse().ok(), text)?);
                }
            }
            Value::Array(values) => values.iter_mut().try_for_each(|value| self.rename(value))?,
            Value::Object(fields) => {
                for (name, value) in fields {
                    match (name.as_str(), value) {
                        ("fd", value) => self.rename_number(value)?,
                        ("fds", Value::Array(values)) => {
                            values
                                .iter_mut()
                                .try_for_each(|value| self.rename_number(value))?;
                        }
                        (_, value) => self.rename(value)?,
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn rename_number(&self, value: &mut Value) -> Result<(), Refusal> {
        let index = value.as_u64().and_then(|index| usize::try_from(index).ok());
        *value = self.number(index, &value.to_string())?.into();
        Ok(())
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        for number in &self.0 {
            drop(host_file::take_number(*number));
        }
    }
}

pub(super) fn add(call: &mut Call<'_>) -> Result<Response, Refusal> {
    let mut value: Value = call.document()?;
    let offered = Offered::new(call.files);
    offered.rename(&mut value)?;
    let new: NewDevice = serde_json::from_value(value)
        .map_err(|error| Refusal::new(400, format!("the request's document is not valid: {error}")))?;
    document(&call.machine.add_device(new)?)
}

pub(super) fn remove(call: &mut Call<'_>) -> Result<Response, Refusal> {
    let how = match call.asks_for("force") {
        true => Removal::Forced,
        false => Removal::Asked,
    };
    let gone = call.machine.remove_device(call.name(), how)?;
    let (status, state) = if gone { (200, "removed") } else { (202, "removing") };
    Ok(Response {
        status,
        body: json!({ "state": state }),
    })
}

#[cfg(test)]
#[path = "plug_tests.rs"]
mod tests;
