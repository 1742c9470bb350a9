//! What commands say: results on stdout, everything else on stderr.

use std::error::Error;
use std::io::{self, ErrorKind, Write};
use std::iter::successors;
use std::ops::Range;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Row, Table};

/// Write to stdout. If it is closed, the reader has read enough, as in `anp report | head`.
pub(super) fn print(text: impl AsRef<[u8]>) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_ref()).and_then(|()| stdout.flush()) {
        Err(err) if err.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// Write a line to stderr. If it is closed, nobody wants to know; a run goes on regardless.
pub(super) fn note(line: String) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// The messages of an error and its causes, the outermost first.
pub(super) fn chain(err: &(dyn Error + 'static)) -> Vec<String> {
    successors(Some(err), |&err| err.source()).map(ToString::to_string).collect()
}

/// Write an error and its causes to stderr, one line each.
pub(super) fn complain(err: &(dyn Error + 'static)) {
    // Some causes quote lines of a file.
    let lines = chain(err).into_iter().map(|text| text.trim_end().replace('\n', "\n    "));
    note(format!("error: {}", lines.collect::<Vec<_>>().join("\n  caused by: ")));
}

/// A table in plain text; the columns `numbers` are aligned to the right.
pub(super) fn table(
    preset: &str,
    header: impl Into<Row>,
    numbers: Range<usize>,
    rows: impl IntoIterator<Item = impl Into<Row>>,
) -> String {
    let mut table = Table::new();
    table.load_preset(preset).force_no_tty().set_header(header).add_rows(rows);
    for column in table.column_iter_mut() {
        if column.index == 0 && preset == NOTHING {
            column.set_padding((0, 1));
        }
        if numbers.contains(&column.index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
