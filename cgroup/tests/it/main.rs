//! What holds on a real kernel, with the hierarchies that the machine has. Needs root; leaves nothing.

mod devices;
mod elsewhere;
mod end;
mod freezer;
mod harness;
mod limits;
mod refused;
mod use_up;
mod ways_in;
