//! Finding a field of an object and comparing it.

use std::cmp::Ordering;

use regex::bytes::{Regex, RegexBuilder};
use serde_json::Value;

/// Memory that one compiled expression may take.
const REGEX_SIZE: usize = 64 * 1024;

/// What a field is compared with.
#[derive(Debug)]
pub(super) struct Operand {
    text: String,
    regex: Option<Regex>,
}

impl Operand {
    pub(super) fn new(text: &str) -> Self {
        let whole = if text.contains(['^', '$']) {
            text.to_owned()
        } else {
            format!("^(?:{text})$")
        };
        // A pattern that is too big or not valid is a plain text.
        let regex = RegexBuilder::new(&whole)
            .case_insensitive(true)
            .unicode(false)
            .size_limit(REGEX_SIZE)
            .build();
        Self {
            text: text.to_owned(),
            regex: regex.ok(),
        }
    }

    /// Whether a field's value is this one. A field that is not there is an empty text.
    pub(super) fn equals(&self, found: Option<&Value>) -> bool {
        match found {
            None | Some(Value::Null) => self.equals_text(""),
            Some(Value::String(text)) => self.equals_text(text),
            Some(Value::Bool(value)) => match self.text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => *value,
                "false" | "0" | "no" | "off" => !*value,
                _ => false,
            },
            Some(Value::Number(number)) => self
                .text
                .parse::<f64>()
                .ok()
                .zip(number.as_f64())
                .is_some_and(|(wanted, found)| wanted == found),
            Some(Value::Array(items)) => items.iter().any(|item| self.equals(Some(item))),
            Some(Value::Object(_)) => false,
        }
    }

    fn equals_text(&self, found: &str) -> bool {
        match &self.regex {
            Some(regex) => regex.is_match(found.as_bytes()),
            None => self.text == found,
        }
    }

    /// How a field's value stands to this one: numbers by value, everything else as text (times sort as text).
    pub(super) fn compare(&self, found: Option<&Value>) -> Option<Ordering> {
        match found? {
            Value::Number(number) => number.as_f64()?.partial_cmp(&self.text.parse().ok()?),
            Value::String(text) => match (text.parse::<f64>(), self.text.parse::<f64>()) {
                (Ok(found), Ok(wanted)) => found.partial_cmp(&wanted),
                _ => Some(text.as_str().cmp(&self.text)),
            },
            _ => None,
        }
    }
}

/// The value at a path of names with dots between. Names of configuration keys contain dots themselves, so at each
/// object the longest rest of the path that is a name in it wins.
pub(super) fn lookup<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    let members = object.as_object()?;
    if let Some(value) = members.get(path) {
        return Some(value);
    }
    path.rmatch_indices('.')
        .find_map(|(dot, _)| lookup(members.get(&path[..dot])?, &path[dot + 1..]))
}
