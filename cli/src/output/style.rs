//! Colours, used only where a person's terminal shows them.

use std::io::IsTerminal;

fn coloured(code: &str, text: &str, terminal: bool) -> String {
    let wanted = terminal
        && std::env::var_os("NO_COLOR").is_none()
        && std::env::var_os("TERM").is_none_or(|t| t != "dumb");
    if wanted {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// The word before an error message.
pub(crate) fn error_label() -> String {
    coloured("1;31", "error:", std::io::stderr().is_terminal())
}

/// Something that is well, on standard output.
pub(crate) fn good(text: &str) -> String {
    coloured("32", text, std::io::stdout().is_terminal())
}

/// Something that is missing but not needed, on standard output.
pub(crate) fn caution(text: &str) -> String {
    coloured("33", text, std::io::stdout().is_terminal())
}

/// Something that is wrong, on standard output.
pub(crate) fn bad(text: &str) -> String {
    coloured("31", text, std::io::stdout().is_terminal())
}
