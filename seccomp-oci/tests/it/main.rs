//! Programs against a plain model of the rules, and against the kernel. As root.

mod cache;
mod defaults;
mod kernel;
mod model;
mod profiles;
mod random;
mod rules;
