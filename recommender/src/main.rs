//! The `recommender` program; everything is in the library.
#![forbid(unsafe_code)]

// Linked for what it replaces.
use recommender_copy as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    recommender::cli::main()
}
