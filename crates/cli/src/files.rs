//! Text files that the command line names.

use std::path::Path;

use crate::exit::Problem;

/// Reads a text file named on the command line.
///
/// # Errors
/// Wrong usage that names flag and file.
pub(crate) fn read_file(file: &Path, flag: &str) -> Result<String, Problem> {
    std::fs::read_to_string(file).map_err(|fault| {
        Problem::usage(format!(
            "{flag}: {} cannot be read: {fault}",
            file.display()
        ))
    })
}
