//! A table for a document.

use super::fold::TableReport;
use super::notes::{COLUMNS, Notes, header};

pub(super) fn render(report: &TableReport) -> String {
    let notes = Notes::new(report);
    let mut lines = vec![
        format!("### {}", escape(&notes.title())),
        String::new(),
        escape(&notes.scale()),
        String::new(),
        line(header(report.metric).map(str::to_owned)),
        format!("| --- |{}", " ---: |".repeat(COLUMNS - 1)),
    ];
    lines.extend(report.rows.iter().map(|row| line(notes.cells(row))));
    lines.push(String::new());
    lines.extend(
        notes.lines().iter().map(|(mark, note)| format!("- {} {}", escape(mark), escape(note))),
    );
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn line(cells: [String; COLUMNS]) -> String {
    format!("| {} |", cells.map(|cell| escape(&cell)).join(" | "))
}

/// Keep Markdown from reading marks as links, and cells from ending early.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '[' | ']' | '|' | '*' | '_' | '<' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
