//! `cargo xtask`: the tasks of a contributor.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
