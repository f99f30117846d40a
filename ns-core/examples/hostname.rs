//! Runs `hostname` in a UTS namespace of its own, as root: `cargo run -p ns-core --example hostname`.

use std::io::Write;

use ns_core::{Event, Namespaces, Spawn};
use sys::exec::Program;
use sys::{Failure, Step};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let program = Program::new(
        vec![c"/bin/hostname".into(), c"/usr/bin/hostname".into()],
        vec![c"hostname".into()],
        vec![],
    );
    let mut child = Spawn::new().namespaces(Namespaces::UTS).spawn(|_gate| {
        rustix::system::sethostname(b"elsewhere").step("setting the hostname")?;
        Err::<_, Failure>(program.exec())
    })?;
    if let Event::Failed(report) = child.next()? {
        return Err(report.to_string().into());
    }
    writeln!(std::io::stdout(), "the program ended with {}", child.wait()?)?;
    Ok(())
}
