//! A table for people, at most as wide as the terminal.

use comfy_table::{CellAlignment, ContentArrangement, Table};

use super::fold::TableReport;
use super::notes::{Notes, header};

/// Below this width cells break inside words; such a terminal scrolls.
const NARROWEST: u16 = 80;

/// Lines above and below the header and the table, none between rows, in comfy-table's notation.
pub(crate) const LINES: &str = "  ── ══      ──    ";

pub(super) fn render(report: &TableReport, width: u16) -> String {
    let width = width.max(NARROWEST);
    let notes = Notes::new(report);

    let mut table = Table::new();
    table
        .load_preset(LINES)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width)
        .force_no_tty()
        .set_header(header(report.metric).map(|title| title.replacen(' ', "\n", 1)));
    for row in &report.rows {
        table.add_row(notes.cells(row));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 1));
        if column.index > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }

    let mut text = wrap(&notes.title(), 0, width);
    text.push_str(&wrap(&notes.scale(), 0, width));
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    for (mark, note) in notes.lines() {
        text.push_str(&wrap(&format!("{mark} {note}"), 4, width));
    }
    text
}

/// Break `text` at spaces into lines of at most `width` characters, all but the first indented.
fn wrap(text: &str, indent: usize, width: u16) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last().expect("there is always a line");
        let length = line.chars().count() + 1 + word.chars().count();
        if length > usize::from(width) && !line.trim().is_empty() {
            lines.push(" ".repeat(indent));
        }
        let line = lines.last_mut().expect("there is always a line");
        if !line.trim().is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_notes_break_at_spaces() {
        let text = wrap("one two three four", 2, 9);
        assert_eq!(text, "one two\n  three\n  four\n");
        assert_eq!(wrap("indivisible", 2, 5), "indivisible\n");
    }
}
