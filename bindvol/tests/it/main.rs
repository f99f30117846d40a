//! What holds in real namespaces. Needs root; leaves nothing on the host.

mod apply;
mod attributes;
mod escape;
mod fill;
mod sandbox;
mod volumes;
