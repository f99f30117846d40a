//! The built program, from outside, with real images: `cargo xtask images` makes them. Needs root.
//! Each test has a `--root` of its own and leaves nothing on the machine.
#![forbid(unsafe_code)]

mod clients;
mod harness;
mod host;
mod image;
mod pty;
mod pull;

mod attach;
mod bad_archive;
mod bad_input;
mod clients_containerd;
mod clients_docker;
mod clients_podman;
mod compat;
mod copy_more;
mod day;
mod end;
mod escape;
mod events;
mod exec;
mod explained;
mod files;
mod formats;
mod health;
mod host_options;
mod hotplug;
mod images;
mod indexed;
mod init;
mod isolation;
mod kernel;
mod lifecycle;
mod limits;
mod lists;
mod log_options;
mod namespace;
mod oci;
mod options;
mod own_program;
mod pipes;
mod review;
mod seccomp;
mod shell;
mod sources;
mod store;
mod terminal;
mod verbs;
mod volume_races;
mod volumes;
mod walk;
