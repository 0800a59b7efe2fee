//! Words, quoted texts and parentheses.

/// A piece of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A word without quotes.
    Word(String),
    /// A text that was in quotes, which is never a keyword.
    Quoted(String),
    /// `(`
    Open,
    /// `)`
    Close,
}

/// Splits a filter. Quotes are `"` or `'`; a backslash takes the next character as it is inside of them.
///
/// What follows an operator is a value, and values are regular expressions: there a parenthesis belongs to the word
/// (`name eq (^c1$|^c1.*)` is what `incus list c1` sends), while elsewhere it groups.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let in_value = follows_operator(&tokens);
        match character {
            character if character.is_whitespace() => {}
            '(' if !in_value => tokens.push(Token::Open),
            ')' => tokens.push(Token::Close),
            quote @ ('"' | '\'') => {
                let mut quoted = String::new();
                loop {
                    match characters.next() {
                        None => return Err(format!("missing end quote {quote}")),
                        Some(character) if character == quote => break,
                        Some('\\') => quoted.extend(characters.next()),
                        Some(character) => quoted.push(character),
                    }
                }
                tokens.push(Token::Quoted(quoted));
            }
            first => {
                let mut word = String::from(first);
                let mut depth = u32::from(first == '(');
                while let Some(&next) = characters.peek() {
                    match next {
                        next if next.is_whitespace() => break,
                        '(' => depth += 1,
                        ')' if depth == 0 => break,
                        ')' => depth -= 1,
                        _ => {}
                    }
                    word.push(next);
                    characters.next();
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    Ok(tokens)
}

/// Whether the last two tokens are a field and an operator.
fn follows_operator(tokens: &[Token]) -> bool {
    let is_one_of = |word: &str, words: &[&str]| words.iter().any(|known| word.eq_ignore_ascii_case(known));
    match tokens {
        [.., Token::Word(field), Token::Word(operator)] => {
            !is_one_of(field, &["and", "or", "not"])
                && is_one_of(operator, &["eq", "ne", "gt", "ge", "lt", "le"])
        }
        [.., Token::Quoted(_), Token::Word(operator)] => {
            is_one_of(operator, &["eq", "ne", "gt", "ge", "lt", "le"])
        }
        _ => false,
    }
}
