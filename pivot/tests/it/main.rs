//! What holds in real namespaces. Needs root; leaves nothing on the host.

mod below;
mod child;
mod harness;
mod root;
mod standard;
