//! Conversations as text files against the pure session core: adding a dialect is adding a file.
//!
//! Each file in `tests/transcripts` is a conversation. A line says what happened (`client: PASV`), the lines with an
//! arrow that follow it are exactly what the session must do (`-> server: PASV`). See `tests/transcripts/README.md`.

mod transcript;

use std::fs;
use std::path::Path;

#[test]
fn every_transcript_is_followed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    files.sort();
    assert!(files.len() >= 110, "only {} transcripts were found", files.len());
    let failures: Vec<String> = files
        .iter()
        .filter_map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            transcript::play(&fs::read_to_string(path).unwrap()).err().map(|why| format!("{name}: {why}"))
        })
        .collect();
    assert!(failures.is_empty(), "{} of {} failed\n{}", failures.len(), files.len(), failures.join("\n"));
}
