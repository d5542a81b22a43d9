//! As CSV (RFC 4180, with plain line ends), for a request form or a spreadsheet.

use super::opening::Openings;
use super::words;

pub(super) fn text(openings: &Openings) -> String {
    let names =
        ["number", "firewall", "direction", "protocol", "from", "from ports", "to", "to ports", "why", "sentence"];
    let mut out = format!("{}\n", names.join(","));
    for line in &openings.lines {
        let fields = [
            line.number.to_string(),
            words::between(line.side).to_owned(),
            words::direction(line.direction).to_owned(),
            words::protocol(line.protocol).to_owned(),
            words::list(words::addresses(&line.from)),
            words::ports(line.from.ports.as_ref()),
            words::list(words::addresses(&line.to)),
            words::ports(line.to.ports.as_ref()),
            words::why(line),
            words::sentence(line),
        ];
        out += &format!("{}\n", fields.map(|field| quoted(&field)).join(","));
    }
    out
}

fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}
