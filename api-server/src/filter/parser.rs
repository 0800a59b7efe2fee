//! Clauses, `and`, `or`, `not` and groups.

use std::cmp::Ordering;

use super::lexer::Token;
use super::value::Operand;

/// Deepest nesting of parentheses.
const MAX_DEPTH: usize = 32;

/// Terms, each with what joins it to what is before it; the first one is joined by `and` to "true".
pub(super) type Expression = Vec<(Logical, Term)>;

/// What joins a term to what is before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logical {
    And,
    Or,
}

/// How a value is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    /// Any of these orders will do.
    Ordered(&'static [Ordering]),
}

/// A comparison or a group.
#[derive(Debug)]
pub(super) enum Term {
    Clause {
        not: bool,
        field: String,
        operator: Operator,
        operand: Operand,
    },
    Group {
        not: bool,
        expression: Expression,
    },
}

/// Parses all tokens.
pub(super) fn parse(tokens: &[Token]) -> Result<Expression, String> {
    let mut parser = Parser { tokens, position: 0 };
    let expression = parser.expression(0)?;
    match parser.next() {
        None => Ok(expression),
        Some(token) => Err(format!("unexpected {}", show(token))),
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    position: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.position)
    }

    fn next(&mut self) -> Option<&'a Token> {
        let token = self.peek()?;
        self.position += 1;
        Some(token)
    }

    fn word(&self) -> Option<&'a str> {
        match self.peek() {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    fn expression(&mut self, depth: usize) -> Result<Expression, String> {
        if depth > MAX_DEPTH {
            return Err(format!("more than {MAX_DEPTH} nested parentheses"));
        }
        let mut terms = vec![(Logical::And, self.term(depth)?)];
        loop {
            let logical = match self.peek() {
                None | Some(Token::Close) => return Ok(terms),
                Some(Token::Word(word)) if word.eq_ignore_ascii_case("and") => Logical::And,
                Some(Token::Word(word)) if word.eq_ignore_ascii_case("or") => Logical::Or,
                Some(token) => {
                    return Err(format!(
                        "invalid clause composition: expected and, or, not {}",
                        show(token)
                    ));
                }
            };
            self.position += 1;
            terms.push((logical, self.term(depth)?));
        }
    }

    fn term(&mut self, depth: usize) -> Result<Term, String> {
        let not = self.word().is_some_and(|word| word.eq_ignore_ascii_case("not"));
        if not {
            self.position += 1;
        }
        match self.next() {
            None => Err("unterminated expression".to_owned()),
            Some(Token::Open) => {
                let expression = self.expression(depth + 1)?;
                match self.next() {
                    Some(Token::Close) => Ok(Term::Group { not, expression }),
                    _ => Err("missing closing parenthesis".to_owned()),
                }
            }
            Some(Token::Close) => Err("unexpected )".to_owned()),
            Some(Token::Word(field) | Token::Quoted(field)) => {
                let operator = match self.next() {
                    Some(Token::Word(word)) => operator(word)?,
                    _ => return Err("clause has no operator".to_owned()),
                };
                match self.next() {
                    Some(Token::Word(text) | Token::Quoted(text)) => Ok(Term::Clause {
                        not,
                        field: field.clone(),
                        operator,
                        operand: Operand::new(text),
                    }),
                    _ => Err("clause has no value".to_owned()),
                }
            }
        }
    }
}

fn operator(word: &str) -> Result<Operator, String> {
    Ok(match word.to_ascii_lowercase().as_str() {
        "eq" => Operator::Equal,
        "ne" => Operator::NotEqual,
        "gt" => Operator::Ordered(&[Ordering::Greater]),
        "ge" => Operator::Ordered(&[Ordering::Greater, Ordering::Equal]),
        "lt" => Operator::Ordered(&[Ordering::Less]),
        "le" => Operator::Ordered(&[Ordering::Less, Ordering::Equal]),
        _ => {
            return Err(format!(
                "unsupported operation {word:?}: use eq, ne, gt, ge, lt or le"
            ));
        }
    })
}

fn show(token: &Token) -> String {
    match token {
        Token::Word(word) => word.clone(),
        Token::Quoted(text) => format!("{text:?}"),
        Token::Open => "(".to_owned(),
        Token::Close => ")".to_owned(),
    }
}
