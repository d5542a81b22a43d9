//! The word that was probably meant.

/// The one of `words` that `written` is a slip of the pen away from, if there is one.
pub(super) fn nearest<'a>(written: &str, words: &[&'a str]) -> Option<&'a str> {
    let written = plain(written);
    words
        .iter()
        .map(|word| (word_apart(&written, &plain(word)), *word))
        .filter_map(|((distance, length), word)| (distance <= length / 3).then_some((distance, word)))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, word)| word)
}

/// How far a word is from what was written, and how long it is: but for the parts that both end in, for `idle_timeout`
/// is not nearly `stall_timeout`.
fn word_apart(written: &str, word: &str) -> (usize, usize) {
    match (written.rsplit_once('_'), word.rsplit_once('_')) {
        (Some((written, tail)), Some((word, same))) if tail == same => word_apart(written, word),
        _ => (distance(written, word), word.len()),
    }
}

/// Letters alone matter: `Gate-Ports` is `gate_ports`.
fn plain(word: &str) -> String {
    // Nobody's slip is longer than this, and the comparison is quadratic.
    word.chars().take(40).map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// How many letters have to be put in, taken out, changed or swapped with their neighbour to get from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let best = changed.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                if swapped { best.min(rows[i - 2][j - 2] + 1) } else { best }
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key that is there must not hide that another one is missing.
    #[test]
    fn no_two_keys_of_the_format_are_near() {
        let schema: serde_json::Value = serde_json::from_str(&crate::rules::json_schema()).unwrap();
        let maps = schema["$defs"].as_object().unwrap().values().chain([&schema]);
        let maps: Vec<_> = maps.filter_map(|map| map["properties"].as_object()).collect();
        assert_eq!(maps.len(), 17);
        for keys in maps {
            for key in keys.keys() {
                let others: Vec<&str> = keys.keys().map(String::as_str).filter(|other| other != key).collect();
                assert_eq!(nearest(key, &others), None, "{key}");
            }
        }
    }

    #[test]
    fn slips_are_found_and_other_words_are_not() {
        let words = ["name", "bind", "server", "transparent", "gate_ports"];
        for (written, meant) in [
            ("sever", Some("server")),
            ("nmae", Some("name")),
            ("Gate-Ports", Some("gate_ports")),
            ("gateports", Some("gate_ports")),
            ("trasnparent", Some("transparent")),
            ("gaet_ports", Some("gate_ports")),
            ("gaet_prots", Some("gate_ports")),
            ("users", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, &words), meant, "{written}");
        }
    }
}
