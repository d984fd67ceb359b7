//! Bytes from elsewhere, made safe to show.

/// `bytes` as text where a terminal can show them as they are, else escaped, as `b"…"` like in Rust and Python.
pub(crate) fn shown(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) if is_plain(text) => text.to_owned(),
        _ => format!("b\"{}\"", bytes.escape_ascii()),
    }
}

/// Whether nothing in `text` moves the cursor, reorders what a person reads, or can't be seen.
fn is_plain(text: &str) -> bool {
    // What Rust escapes in a string, except quotes and backslashes.
    text.split(['\'', '"', '\\']).all(|part| part.escape_debug().eq(part.chars()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_as_it_is() {
        for text in ["", "some data", "it's \"quoted\" \\ here", "Grüße, 世界"] {
            assert_eq!(shown(text.as_bytes()), text);
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(shown(b"a\x1b[2J"), r#"b"a\x1b[2J""#);
        assert_eq!(shown(b"\0\xff\n\""), r#"b"\x00\xff\n\"""#);
        assert_eq!(shown("a\u{202e}b".as_bytes()), r#"b"a\xe2\x80\xaeb""#);
    }
}
