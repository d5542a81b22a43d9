//! As a table for people, with a sentence for each line.

use super::opening::Openings;
use super::opening::{End, Opening};
use super::words;
use crate::addr::Side;

const HEAD: [&str; 8] = ["#", "direction", "proto", "from", "port", "to", "port", "why"];

pub(super) fn text(openings: &Openings) -> String {
    let mut out = String::new();
    for side in [Side::Client, Side::Server] {
        let lines: Vec<&Opening> = openings.lines.iter().filter(|line| line.side == side).collect();
        if !lines.is_empty() {
            out += &format!("The firewall {}:\n\n{}\n", words::between(side), table(&lines));
        }
    }
    if !openings.lines.is_empty() {
        out += "Each line is the first packet of connections; a stateful firewall lets the rest of them through.\n";
    }
    for note in words::remarks(openings) {
        out += &format!("{}\n", words::wrapped(&format!("Note: {note}")).join("\n"));
    }
    out
}

fn table(lines: &[&Opening]) -> String {
    let rows: Vec<[Vec<String>; 8]> = lines.iter().map(|line| cells(line)).collect();
    let mut widths = HEAD.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.iter().map(|text| text.chars().count()).fold(*width, usize::max);
        }
    }
    let mut out = written(&widths, &HEAD);
    for (row, line) in rows.iter().zip(lines) {
        let height = row.iter().map(Vec::len).max().unwrap_or_default();
        for index in 0..height {
            out += &written(&widths, &row.each_ref().map(|cell| cell.get(index).map_or("", String::as_str)));
        }
        out += &format!("{:1$}  {2}\n", "", widths[0], words::sentence(line));
    }
    out
}

/// One line of the table.
fn written(widths: &[usize; 8], cells: &[&str; 8]) -> String {
    let mut line = String::new();
    for (width, cell) in widths.iter().zip(cells) {
        line += &format!("{cell:width$}  ");
    }
    format!("{}\n", line.trim_end())
}

/// The cells of one row, each of one line or more.
fn cells(line: &Opening) -> [Vec<String>; 8] {
    let one = |text: &str| vec![text.to_owned()];
    [
        vec![line.number.to_string()],
        one(words::direction(line.direction)),
        one(words::protocol(line.protocol)),
        addresses(&line.from),
        ports(&line.from),
        addresses(&line.to),
        ports(&line.to),
        vec![words::why(line)],
    ]
}

/// An address or a network in each line, and its exceptions below it.
fn addresses(end: &End) -> Vec<String> {
    let mut cell = Vec::new();
    for text in words::addresses(end) {
        match text.split_once(" except ") {
            None => cell.push(text),
            Some((base, except)) => {
                cell.push(base.to_owned());
                cell.extend(except.split(", ").map(|net| format!("  except {net}")));
            }
        }
    }
    cell
}

fn ports(end: &End) -> Vec<String> {
    words::ports(end.ports.as_ref()).split(", ").map(str::to_owned).collect()
}
