//! Reads a rules file from disk: a regular file, bounded, and without waiting for a writer.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::trust::{Trusted, Untrusted};
use crate::rules;

/// Why a rules file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// What the kernel says.
    #[error("ftpgate: cannot read {}: {error}{}", path.display(), hint(error))]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// A FIFO, a directory, a device: reading one may wait or grow for ever.
    #[error(
        "ftpgate: cannot read {}: it is {kind}, and a rules file must be a regular file\n  \
         = help: `ftpgate check -` reads standard input",
        path.display()
    )]
    NotRegular {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Larger than any rules file may be.
    #[error("ftpgate: cannot read {}: it is larger than {} MiB", path.display(), rules::MAX_BYTES >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Somebody could change it who has no say in what the gate does.
    #[error("ftpgate: will not use {}: {why}\n  = help: {}", path.display(), why.help())]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// Who.
        why: Untrusted,
    },
}

/// What to do about an error that this module describes itself.
fn hint(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::PermissionDenied {
        "\n  = help: let the user that ftpgate runs as read it; where a running gate is to read rules from another directory \
         than before, restart ftpgate"
    } else {
        ""
    }
}

/// Reads a rules file that nobody but `trusted` can change.
pub(crate) fn read_trusted(path: &Path, trusted: &Trusted) -> Result<Vec<u8>, ReadError> {
    let file = open(path)?;
    trusted.check(path, &file).map_err(|why| ReadError::Untrusted { path: path.to_owned(), why })?;
    contents(path, file)
}

/// Reads a rules file without checking who can change it.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, ReadError> {
    contents(path, open(path)?)
}

/// Whether a rules file can be opened by this process as it is now.
pub(crate) fn try_open(path: &Path) -> Result<(), ReadError> {
    open(path).map(drop)
}

/// Reads standard input, up to one byte more than a rules file may have: enough to see that it is too large.
pub(crate) fn read_stdin() -> io::Result<Vec<u8>> {
    bounded(io::stdin())
}

fn open(path: &Path) -> Result<File, ReadError> {
    let fail = |error| ReadError::Io { path: path.to_owned(), error };
    // Opening alone has effects with some devices. What was opened counts: another file may have its name by then.
    check_kind(path, &path.metadata().map_err(fail)?)?;
    // Without O_NONBLOCK, opening a FIFO waits for its writer.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).expect("flags of open(2) fit an int");
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(fail)?;
    check_kind(path, &file.metadata().map_err(fail)?)?;
    Ok(file)
}

fn check_kind(path: &Path, metadata: &Metadata) -> Result<(), ReadError> {
    let path = || path.to_owned();
    let not_regular = |kind| Err(ReadError::NotRegular { path: path(), kind });
    match metadata.file_type() {
        kind if kind.is_file() && metadata.len() > rules::MAX_BYTES as u64 => Err(ReadError::TooLarge { path: path() }),
        kind if kind.is_file() => Ok(()),
        kind if kind.is_dir() => not_regular("a directory"),
        kind if kind.is_fifo() => not_regular("a FIFO"),
        kind if kind.is_socket() => not_regular("a socket"),
        _ => not_regular("a device"),
    }
}

fn contents(path: &Path, file: File) -> Result<Vec<u8>, ReadError> {
    // The size that a file claims is not what reading it gives: it may grow, and files of /proc claim none.
    let bytes = bounded(file).map_err(|error| ReadError::Io { path: path.to_owned(), error })?;
    if bytes.len() > rules::MAX_BYTES { Err(ReadError::TooLarge { path: path.to_owned() }) } else { Ok(bytes) }
}

fn bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(rules::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(path: &Path) -> String {
        read(path).unwrap_err().to_string()
    }

    #[test]
    fn only_a_regular_file_is_read() {
        assert!(read(Path::new("rules/minimal.yaml")).is_ok());
        assert!(fault(Path::new("rules")).contains("it is a directory"));
        assert!(fault(Path::new("/dev/zero")).contains("it is a device"));
        assert!(fault(Path::new("no/such.yaml")).contains("No such file"));
        let fifo = std::env::temp_dir().join(format!("ftpgate-fifo-{}", std::process::id()));
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
        let said = fault(&fifo);
        std::fs::remove_file(&fifo).unwrap();
        assert!(said.contains("it is a FIFO"), "{said}");
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let path = std::env::temp_dir().join(format!("ftpgate-large-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        file.set_len(rules::MAX_BYTES as u64 + 1).unwrap();
        let said = fault(&path);
        file.set_len(rules::MAX_BYTES as u64).unwrap();
        let read = read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(said.contains("larger than 64 MiB"), "{said}");
        assert_eq!(read.len(), rules::MAX_BYTES);
        assert_eq!(bounded(io::repeat(b'#')).unwrap().len(), rules::MAX_BYTES + 1);
    }
}
