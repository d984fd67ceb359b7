//! Processes that are killed or stand still at every step, and machines that have too little of something: the other
//! side notices, says so, and goes on.

mod proxy;
mod scarce;
mod steps;
