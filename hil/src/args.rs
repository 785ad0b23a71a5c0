//! Where servers of ours and what they need lie, as every command is told it.

use std::path::PathBuf;

/// What a target's server is made of.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerArgs {
    /// The key that the server wants
    #[arg(long, env = "RKLLAMA_API_KEY", hide_env_values = true)]
    pub key: Option<String>,
    /// The mock's release
    #[arg(long, default_value = "1.3.0")]
    pub release: String,
    /// The server's executable, for the mock (this machine's) and for a board (arm64)
    #[arg(long, env = "RKLLAMA_BIN", default_value = "target/debug/rkllama")]
    pub executable: PathBuf,
    /// The mock's libraries, one folder for each release
    #[arg(long, env = "MOCK_NPU_LIBS", default_value = "target/mock")]
    pub mock: PathBuf,
    /// The mock's demo model, which is also what the played hub has
    #[arg(long, default_value = "mock-npu/demo")]
    pub demo: PathBuf,
    /// The folder of models on the board
    #[arg(long)]
    pub board_models: Option<String>,
    /// The runtime's library on the board
    #[arg(long)]
    pub board_runtime: Option<String>,
}
