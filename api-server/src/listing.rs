//! Lists: names or objects, filtered. Every list of the API is answered here.

use axum::response::Response;
use serde::Serialize;
use serde_json::Value;

use crate::ApiError;
use crate::filter::Filter;
use crate::request::Query;
use crate::response::{self, Reply};

/// How a list was asked for.
#[derive(Debug)]
pub struct Listing {
    recursion: u8,
    filter: Filter,
}

impl Listing {
    /// Reads `recursion=` and `filter=`.
    pub fn from_query(query: &Query) -> Result<Self, ApiError> {
        Ok(Self {
            recursion: query.recursion(),
            filter: Filter::parse(query.get("filter").unwrap_or_default())?,
        })
    }

    /// How deep the list goes.
    pub fn recursion(&self) -> u8 {
        self.recursion
    }

    /// Whether only URLs are wanted: then no object has to be made.
    pub fn wants_only_urls(&self) -> bool {
        self.recursion == 0 && self.filter.is_empty()
    }

    /// Whether an object passes the filter.
    pub fn passes<T: Serialize>(&self, object: &T) -> Result<bool, ApiError> {
        Ok(self.filter.is_empty() || self.filter.matches(&serde_json::to_value(object)?))
    }

    /// Answers with what passes: URLs, or objects.
    pub fn reply<T: Serialize>(&self, items: Vec<(String, T)>) -> Reply {
        if self.filter.is_empty() {
            return Ok(if self.recursion == 0 {
                response::sync(items.into_iter().map(|(url, _)| url).collect::<Vec<_>>())
            } else {
                response::sync(items.into_iter().map(|(_, object)| object).collect::<Vec<_>>())
            });
        }
        let mut kept: Vec<Value> = Vec::new();
        for (url, object) in items {
            let object = serde_json::to_value(object)?;
            if self.filter.matches(&object) {
                kept.push(if self.recursion == 0 {
                    Value::String(url)
                } else {
                    object
                });
            }
        }
        Ok(response::sync(kept))
    }

    /// Answers with URLs.
    pub fn reply_urls(urls: Vec<String>) -> Response {
        response::sync(urls)
    }
}
