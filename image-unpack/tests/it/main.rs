//! What the crate promises, proved through its public interface. Needs root: owners and devices are made.

mod broken;
mod forms;
mod gnu_tar;
mod hostile;
mod image;
mod layers;
mod layout;
mod model;
mod settle;
mod spec;
mod spec_random;
mod streams;
mod tar;
