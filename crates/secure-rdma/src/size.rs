//! Sizes in bytes, as people write them.

use std::str::FromStr;

/// A number of bytes, 1 or more: `4096`, `64K`, `1M`, `2G`, with or without `iB`. The units are powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// Text that isn't a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a size is a number of bytes from 1 on, such as 4096, 64K, 1M or 2G")]
pub struct ParseSizeError;

impl FromStr for Size {
    type Err = ParseSizeError;

    fn from_str(text: &str) -> Result<Self, ParseSizeError> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        let shift = match unit.strip_suffix("iB").unwrap_or(unit) {
            "" if unit.is_empty() => 0,
            "K" | "k" => 10,
            "M" => 20,
            "G" => 30,
            _ => return Err(ParseSizeError),
        };
        let number: u64 = digits.parse().map_err(|_| ParseSizeError)?;
        number.checked_mul(1 << shift).filter(|&bytes| bytes > 0).map(Self).ok_or(ParseSizeError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        for (text, bytes) in
            [("1", 1), ("4096", 4096), ("64K", 65536), ("64KiB", 65536), ("1M", 1 << 20), ("2G", 2 << 30)]
        {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "0",
            "K",
            "-1",
            "1.5M",
            "1 M",
            "1T",
            "1B",
            "iB",
            "1iB",
            "99999999999999999999",
            "99999999999G",
        ] {
            assert_eq!(text.parse::<Size>(), Err(ParseSizeError), "{text}");
        }
    }
}
