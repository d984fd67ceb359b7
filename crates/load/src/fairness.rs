//! How fairly something is shared.

/// Jain's index of these shares: 1 where all are equal, 1/n where one of n has everything (Jain, Chiu and Hawe, DEC
/// TR-301, 1984). Of nothing it is 1.
#[allow(clippy::cast_precision_loss, reason = "shares are far below 2^52")]
pub(crate) fn jain(shares: &[u64]) -> f64 {
    let (sum, squares) = shares.iter().fold((0.0, 0.0), |(sum, squares), share| {
        let share = *share as f64;
        (sum + share, squares + share * share)
    });
    if squares == 0.0 { 1.0 } else { sum * sum / (shares.len() as f64 * squares) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_shares_are_fair_and_one_that_has_everything_is_not() {
        assert_eq!(jain(&[]), 1.0);
        assert_eq!(jain(&[7; 100]), 1.0);
        assert_eq!(jain(&[0, 0, 0, 5]), 0.25);
        assert_eq!(jain(&[1, 2, 3]), 36.0 / (3.0 * 14.0));
    }
}
