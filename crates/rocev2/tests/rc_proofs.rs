//! The reliable connection, proved in virtual time: no clock, no sleep, no thread; every random decision
//! comes from a seed.
//!
//! `RC_SEEDS` sets how many seeds each randomised proof takes, and `RC_SEED` runs a single one, as a failure names it.

mod rc;
