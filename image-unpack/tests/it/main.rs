//! What the crate promises, proved through its public interface. Needs root: owners and devices are made.

mod image;
mod layers;
mod model;
mod hostile;
mod settle;
mod streams;
mod tar;
