//! What is carried: the files on both sides before a visit, and what must be there after it.

use std::fs;
use std::path::Path;

use super::Fault;

const BIG: usize = 8 << 20;
const ALREADY_HERE: usize = 3 << 20;
const SMALL_FILES: usize = 50;

/// Only a listing can show this name: no client is told to fetch it.
const LISTED: &str = "hello.txt";

/// What a client can do besides listing, downloading and resuming.
#[derive(Clone, Copy)]
pub struct Abilities {
    pub upload: bool,
    pub delete: bool,
}

/// Lays out a server's home: `shelf` to take from, `inbox` to put into, one file to delete.
pub fn stock_server(home: &Path) -> Result<(), Fault> {
    fs::create_dir_all(home.join("inbox/small"))?;
    stock(&home.join("shelf"), "server")?;
    fs::write(home.join(LISTED), "hello\n")?;
    fs::write(home.join("doomed.txt"), "delete me\n")?;
    Ok(())
}

/// Lays out a client's folder: `out` to send, `in` to receive, `resumed` with a third of a file.
///
/// That third is not the file's own beginning, so a client that starts over is caught.
pub fn stock_client(folder: &Path) -> Result<(), Fault> {
    stock(&folder.join("out"), "client")?;
    for name in ["in/small", "resumed", "home"] {
        fs::create_dir_all(folder.join(name))?;
    }
    fs::write(folder.join("resumed/big.bin"), already_here())?;
    Ok(())
}

/// Compares both sides after a visit; the error names the first thing that is wrong.
pub fn inspect(home: &Path, folder: &Path, listing: &[u8], abilities: Abilities) -> Result<(), Fault> {
    let big = noise("server", BIG);
    if !listing.windows(LISTED.len()).any(|w| w == LISTED.as_bytes()) {
        return Err(format!("the listing does not show {LISTED}").into());
    }
    same(&folder.join("in/big.bin"), &big)?;
    let mut resumed = already_here();
    resumed.extend_from_slice(&big[ALREADY_HERE..]);
    same(&folder.join("resumed/big.bin"), &resumed)?;
    same_small(&folder.join("in/small"), "server")?;
    if abilities.upload {
        same(&home.join("inbox/big.bin"), &noise("client", BIG))?;
        same_small(&home.join("inbox/small"), "client")?;
    }
    if abilities.delete && home.join("doomed.txt").exists() {
        return Err("doomed.txt was not deleted".into());
    }
    Ok(())
}

/// The names of the small files.
pub fn small_names() -> impl Iterator<Item = String> {
    (0..SMALL_FILES).map(|n| format!("{n:02}.txt"))
}

fn stock(folder: &Path, whose: &str) -> Result<(), Fault> {
    fs::create_dir_all(folder.join("small"))?;
    fs::write(folder.join("big.bin"), noise(whose, BIG))?;
    for name in small_names() {
        fs::write(folder.join("small").join(&name), small(whose, &name))?;
    }
    Ok(())
}

fn same(path: &Path, expected: &[u8]) -> Result<(), Fault> {
    let found = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    if found == expected {
        return Ok(());
    }
    let first = found.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let (has, wants) = (found.len(), expected.len());
    Err(format!("{}: {has} bytes, not {wants}; byte {first} differs first", path.display()).into())
}

fn same_small(folder: &Path, whose: &str) -> Result<(), Fault> {
    small_names().try_for_each(|name| same(&folder.join(&name), &small(whose, &name)))
}

fn small(whose: &str, name: &str) -> Vec<u8> {
    noise(&format!("{whose}/{name}"), 600)
}

fn already_here() -> Vec<u8> {
    vec![0xA5; ALREADY_HERE]
}

/// Bytes that look random, line ends and Telnet's 255 among them, the same for the same name.
fn noise(name: &str, length: usize) -> Vec<u8> {
    let mut state =
        name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
