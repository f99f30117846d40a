//! Images pulled from registries on this machine: Debian's `docker-registry`, and one that cuts, refuses and lies.

mod content;
mod faults;
mod login;
mod names;
mod real;
mod server;
