//! `filter=` of lists: `name eq c1 and not config.user.tier eq "gold"`.
//!
//! The language is Incus': clauses `FIELD OPERATOR VALUE`, each with an optional `not`, joined by `and` and `or`,
//! which are applied from left to right without precedence. A text is compared as a regular expression that ignores
//! case and covers the whole value, unless it has `^` or `$` itself; one that does not compile is compared as it is.
//! Beyond Incus, parentheses group.
//!
//! Filters come from clients: they are bounded in length and depth, and matching is linear in the text.

mod lexer;
mod parser;
mod value;

use serde_json::Value;

use crate::ApiError;
use parser::{Expression, Logical, Operator, Term};

/// Longest filter. Each clause may compile a regular expression, so this bounds memory as well.
const MAX_LENGTH: usize = 4096;

/// A filter, parsed.
#[derive(Debug)]
pub struct Filter {
    expression: Option<Expression>,
}

impl Filter {
    /// Parses a filter; an empty one lets everything pass.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        if text.len() > MAX_LENGTH {
            return Err(invalid(format!("longer than {MAX_LENGTH} bytes")));
        }
        let tokens = lexer::tokens(text).map_err(invalid)?;
        if tokens.is_empty() {
            return Ok(Self { expression: None });
        }
        Ok(Self {
            expression: Some(parser::parse(&tokens).map_err(invalid)?),
        })
    }

    /// Whether everything passes.
    pub fn is_empty(&self) -> bool {
        self.expression.is_none()
    }

    /// Whether an object passes.
    pub fn matches(&self, object: &Value) -> bool {
        self.expression
            .as_ref()
            .is_none_or(|expression| matches(expression, object))
    }
}

fn invalid(why: impl std::fmt::Display) -> ApiError {
    ApiError::bad_request(format!("Invalid filter: {why}"))
}

fn matches(expression: &Expression, object: &Value) -> bool {
    expression
        .iter()
        .fold(true, |result, (logical, term)| match logical {
            Logical::And => result && matches_term(term, object),
            Logical::Or => result || matches_term(term, object),
        })
}

fn matches_term(term: &Term, object: &Value) -> bool {
    match term {
        Term::Group { not, expression } => *not != matches(expression, object),
        Term::Clause {
            not,
            field,
            operator,
            operand,
        } => {
            let found = value::lookup(object, field);
            let equal = |wanted: bool| operand.equals(found) == wanted;
            let holds = match operator {
                Operator::Equal => equal(true),
                Operator::NotEqual => equal(false),
                Operator::Ordered(order) => {
                    operand.compare(found).is_some_and(|found| order.contains(&found))
                }
            };
            *not != holds
        }
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
