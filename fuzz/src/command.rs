//! Lines to commands, and to what a log shows of them.

use ftpgate::ftp::command::{Command, Verb};
use ftpgate::ftp::redact::{escaped, loggable, loggable_reply};

/// Blanks and letter case mean nothing; a verb is letters and digits; a log shows neither a secret nor what would change
/// the log itself.
pub fn command(data: &[u8]) {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let parsed = Command::parse(data);
    if let Ok(Command { verb, written, argument }) = parsed {
        assert!(!written.is_empty() && written.iter().all(u8::is_ascii_alphanumeric));
        assert!(!argument.first().is_some_and(is_blank) && !argument.last().is_some_and(is_blank));
        let word = data.split(is_blank).find(|word| !word.is_empty()).unwrap();
        assert_eq!(written, word);
        let lower = word.to_ascii_lowercase();
        let again = [b"\t ", &lower[..], b" \t", argument, b"  "].concat();
        assert_eq!(Command::parse(&again).unwrap(), Command { verb, written: &lower, argument });
    }
    for shown in [loggable(data), loggable_reply(data), escaped(data)] {
        assert_harmless_and_short(&shown);
    }
    if parsed.is_ok_and(|command| command.verb == Verb::Secret) {
        assert!(matches!(loggable(data).to_ascii_uppercase().as_str(), "PASS ****" | "ACCT ****"));
    }
    // Whatever the secret is, and whatever odd bytes stand around the verb.
    for verb in ["PASS ", " pass\t", "\u{1}PASS ", "\u{ff}aCcT ", "SITE PSWD x", "adat ", "PA\"SS\" "] {
        let shown = loggable(&[verb.as_bytes(), data].concat());
        assert!(shown.ends_with("****") && shown.len() <= 14, "a secret is shown: {shown}");
    }
}

fn assert_harmless_and_short(shown: &str) {
    super::assert_harmless(shown);
    assert!(shown.chars().count() <= 256 * 10 + 3, "{} characters", shown.chars().count());
}
