//! Lines to commands, and to what a log shows of them.

use ftpgate::ftp::command::{Command, Verb, escaped, loggable};

/// Blanks and letter case mean nothing; a log shows neither a secret nor what would change the log itself.
pub fn command(data: &[u8]) {
    let parsed = Command::parse(data);
    if let Ok(Command { verb, written, argument }) = parsed {
        assert_eq!(argument, argument.trim_ascii());
        let word = data.trim_ascii().split(u8::is_ascii_whitespace).next().unwrap();
        assert_eq!(written, word);
        let lower = word.to_ascii_lowercase();
        let again = [b"\t ", &lower[..], b" \t", argument, b"  "].concat();
        assert_eq!(Command::parse(&again).unwrap(), Command { verb, written: &lower, argument });
    }
    for shown in [loggable(data), escaped(data)] {
        assert_harmless_and_short(&shown);
    }
    let secret = parsed.is_ok_and(|command| command.verb == Verb::Secret);
    if secret {
        assert!(matches!(loggable(data).to_ascii_uppercase().as_str(), "PASS ****" | "ACCT ****"));
    }
    // Whatever the secret is, and whatever odd byte stands before the verb.
    for verb in ["PASS ", " pass\t", "\u{1}PASS ", "\u{ff}aCcT "] {
        let shown = loggable(&[verb.as_bytes(), data].concat());
        assert!(shown.ends_with("****") && shown.len() <= 9, "a secret is shown: {shown}");
    }
}

fn assert_harmless_and_short(shown: &str) {
    super::assert_harmless(shown);
    assert!(shown.chars().count() <= 256 * 10 + 3, "{} characters", shown.chars().count());
}
