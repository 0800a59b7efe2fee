//! Which names things may have.

use crate::ApiError;

/// Checks the name of a profile, project, pool or volume: anything that is safe in a path and a URL.
pub fn check_plain_name(what: &str, name: &str) -> Result<(), ApiError> {
    if name.is_empty() {
        return Err(ApiError::bad_request("No name provided"));
    }
    if name.contains('/') {
        return Err(ApiError::bad_request(format!(
            "{} names may not contain slashes",
            capital(what)
        )));
    }
    let safe = name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '+' | '~' | ':'));
    let safe = safe || (what == "volume" && check_volume_characters(name));
    if safe {
        Ok(())
    } else {
        Err(ApiError::bad_request(format!(
            "Invalid {what} name {name:?}: use up to 63 letters, digits, dashes, dots and plus signs, beginning with a letter or digit"
        )))
    }
}

/// Volumes and profiles may have underscores; projects and instances may not, because they tell names on disk apart.
fn check_volume_characters(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '+' | '~' | ':'))
}

/// Checks the name of a project.
pub fn check_project_name(name: &str) -> Result<(), ApiError> {
    if name == "*" {
        return Err(ApiError::bad_request("Reserved project name"));
    }
    if name.contains('_') {
        return Err(ApiError::bad_request("Project names may not contain underscores"));
    }
    check_plain_name("project", name)
}

/// Checks the name of an image alias: anything that can be printed; slashes and colons are usual.
pub fn check_alias_name(name: &str) -> Result<(), ApiError> {
    if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
        return Err(ApiError::bad_request(format!("Invalid alias name {name:?}")));
    }
    Ok(())
}

fn capital(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}
