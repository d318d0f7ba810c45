//! `sealcast-agent`: the program of a device.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "pkcs11")]
    sealcast_token::install();
    sealcast_agent::cli::main()
}
