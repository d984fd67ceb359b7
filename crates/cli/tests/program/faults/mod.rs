//! Processes that are killed or stand still at every step, machines that have too little of something, and clocks that
//! are set: the other side notices, says so, and goes on.

mod clock;
mod clocks;
mod proxy;
mod scarce;
mod steps;
