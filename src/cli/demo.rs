use anyhow::Result;
use std::process::ExitCode;
pub fn run(_exit: bool, _base_port: u16) -> Result<ExitCode> {
    Ok(ExitCode::SUCCESS)
}
