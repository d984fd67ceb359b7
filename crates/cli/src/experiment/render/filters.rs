//! What templates do to values, beside what askama has.

#![expect(unreachable_pub, reason = "the macro of askama makes public items")]

use askama::Values;
use std::fmt::Display;

/// Text in a cell of a Markdown table: one line, and nothing of it is markup.
#[askama::filter_fn]
pub(super) fn cell(text: impl Display, _: &dyn Values) -> askama::Result<String> {
    let mut escaped = String::new();
    for c in text.to_string().chars() {
        match c {
            '\n' | '\r' => escaped.push(' '),
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '&' | '#' => {
                escaped.push('\\');
                escaped.push(c);
            }
            c => escaped.push(c),
        }
    }
    Ok(escaped)
}

/// Text in a fenced block of Markdown: nothing of it ends the block.
#[askama::filter_fn]
pub(super) fn fenced(text: impl Display, _: &dyn Values) -> askama::Result<String> {
    Ok(text.to_string().trim_end().replace("```", "'''"))
}

/// A number of 24 bits, as the original shows PSNs.
#[askama::filter_fn]
pub(super) fn hex(number: &u32, _: &dyn Values) -> askama::Result<String> {
    Ok(format!("{number:#08x}"))
}

/// The same, or a dash.
#[askama::filter_fn]
pub(super) fn hex_or_dash(number: &Option<u32>, _: &dyn Values) -> askama::Result<String> {
    Ok(number.map_or_else(|| "–".to_owned(), |number| format!("{number:#08x}")))
}
