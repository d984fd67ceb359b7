//! What takes part.

use crate::clock::Clock;
use crate::ends::Place;
use crate::failure::Failure;
use crate::figure::Figure;
use crate::sample::Sample;

/// Something that moves bytes from one end to the other.
pub(crate) trait Contender {
    /// Its name in all results.
    fn name(&self) -> &str;

    /// What can be measured of it.
    fn figures(&self) -> Vec<Figure>;

    /// Measures one of these once, with new connections and ends, for as long as `clock` says.
    fn run(&self, figure: Figure, clock: &Clock, place: Place<'_>) -> Result<Sample, Failure>;
}
