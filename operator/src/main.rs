//! The operator's program: see the crate's documentation.

/// librdkafka and kube's JSON allocate a great deal of small things.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<std::process::ExitCode> {
    // Before any client: kube and reqwest both bring rustls, which refuses to choose a provider by itself.
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a TLS provider was installed before main"))?;
    recommendation_operator::cli::main().await
}
