//! Text from outside, made safe to show.

/// Whether a terminal or a log may print `character` as it is: ASCII from space to tilde.
///
/// Control characters can rewrite a terminal's screen or forge a log line, and Unicode's bidirectional marks
/// can reorder what a person reads. What a peer sends needs neither.
pub(crate) fn is_printable(character: char) -> bool {
    matches!(character, ' '..='~')
}

/// The first `limit` characters of `text`, with `?` in place of each that isn't printable.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    text.chars().take(limit).map(|c| if is_printable(c) { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_and_bidirectional_marks_are_not_shown() {
        assert_eq!(printable("a\x1b[2Jb\u{202e}c\n", 64), "a?[2Jb?c?");
        assert_eq!(printable("äöü", 2), "??");
    }
}
