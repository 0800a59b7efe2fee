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
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            character if character.is_whitespace() => {}
            '(' => tokens.push(Token::Open),
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
                // A parenthesis that was opened inside a word belongs to it: values are regular expressions.
                let mut depth = 0_u32;
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
