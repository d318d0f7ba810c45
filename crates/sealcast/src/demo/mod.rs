mod app;
mod report;
mod wire;
#[derive(clap::Args)]
pub struct Options {}
pub async fn run(_o: Options) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("x")
}
