//! What the messages hold.
//!
//! The stock program's buffer is full of 0x7b; with `-c` its client sets the first byte of each page to 0,
//! and its server looks at those bytes of the last message. Here every byte of every message is looked at, at
//! both ends. (A client without `-c` sends no zeros: a server with `-c` then finds fault, the stock one too.)

/// The page size of most machines.
const PAGE: usize = 4096;

/// What a client sends.
pub(crate) fn content(size: usize, checked: bool) -> Vec<u8> {
    let mut content = vec![0x7b; size];
    if checked {
        content.iter_mut().step_by(PAGE).for_each(|byte| *byte = 0);
    }
    content
}

/// The first page of `got` that isn't as it should be.
pub(crate) fn invalid_page(got: &[u8], expected: &[u8]) -> Option<usize> {
    got.chunks(PAGE).zip(expected.chunks(PAGE)).position(|(got, expected)| got != expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_byte_shows_in_its_page() {
        let content = content(3 * PAGE + 1, true);
        assert_eq!(content.iter().filter(|byte| **byte == 0).count(), 4);
        assert_eq!(invalid_page(&content, &content), None);
        for (place, page) in [(0, 0), (PAGE - 1, 0), (PAGE, 1), (3 * PAGE, 3)] {
            let mut got = content.clone();
            got[place] ^= 1;
            assert_eq!(invalid_page(&got, &content), Some(page));
        }
    }
}
