//! The program: parses the command line, calls the library, says how it went.

use std::process::ExitCode;

fn main() -> ExitCode {
    ftpgate::cli::main()
}
